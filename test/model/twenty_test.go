//go:build model

package model

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/dspex/dspex"
)

// outcome is what came of a program: its result or the class of its failure.
type outcome struct {
	Program string         `json:"program"`
	Inputs  map[string]any `json:"inputs"`
	Result  any            `json:"result"`
	Failure string         `json:"failure"`
}

// Both sides have a server of their own, with one slot and one thread each, and run at the same time.
func TestTwentyProgramsDoTheSameInPlainDSPyAndHere(t *testing.T) {
	plainly, here := newServer(t, 1), newServer(t, 1)
	here.start(t)
	plainly.start(t)
	ctx, c := dev(t, here, "twenty")
	type side struct {
		found []outcome
		err   error
	}
	plain := make(chan side)
	go func() {
		found, err := inPlainDSPy(ctx, python(t, "DSPEX_TEST_PYTHON"), plainly.url+"/v1")
		plain <- side{found, err}
	}()
	want := twenty(t)
	got := map[string]outcome{}
	for _, one := range want {
		got[one.Program] = inAWorker(ctx, t, c, one)
	}
	from := <-plain
	if from.err != nil {
		t.Fatal(from.err)
	}
	if len(from.found) < 20 {
		t.Errorf("%d programs, want 20", len(from.found))
	}
	for _, one := range from.found {
		if g := got[one.Program]; one.Failure != g.Failure || !reflect.DeepEqual(one.Result, g.Result) {
			t.Errorf("%s: %v %s, in a worker %v %s", one.Program, one.Result, one.Failure, g.Result, g.Failure)
		}
	}
}

// script runs plain.py.
func script(ctx context.Context, python string, args ...string) ([]outcome, error) {
	root, err := filepath.Abs("../../python")
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, python, append([]string{"plain.py"}, args...)...)
	cmd.Env = append(os.Environ(), "PYTHONPATH="+root)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	var found []outcome
	for line := range strings.Lines(string(out)) {
		var one outcome
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			return nil, err
		}
		found = append(found, one)
	}
	return found, nil
}

func inPlainDSPy(ctx context.Context, python, address string) ([]outcome, error) {
	return script(ctx, python, address)
}

// twenty are the programs and their inputs.
func twenty(t *testing.T) []outcome {
	t.Helper()
	found, err := script(t.Context(), python(t, "DSPEX_TEST_PYTHON"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func inAWorker(ctx context.Context, t *testing.T, c *dspex.Client, one outcome) outcome {
	t.Helper()
	r, err := c.ExecuteAnonymous(ctx, "execute_program", program(one.Program, one.Inputs), dspex.WithMaxRetries(0))
	if e, ok := errors.AsType[*dspex.Error](err); ok && e.PythonType != "" {
		return outcome{Program: one.Program, Failure: e.PythonType}
	}
	if err != nil {
		t.Errorf("%s: %v", one.Program, err)
	}
	return outcome{Program: one.Program, Result: r.Outputs()["outputs"]}
}
