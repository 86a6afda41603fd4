package dspextest_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/dspextest"
)

func TestAFakeAnswersWhatTheTestSays(t *testing.T) {
	fake := dspextest.NewFake(t)
	fake.Handle("classify", func(j dspextest.Job) (any, error) {
		if j.Args["text"] == "" {
			return nil, errors.New("nothing to classify")
		}
		return map[string]any{"label": "good"}, nil
	})
	fake.Handle("busy", func(dspextest.Job) (any, error) {
		return nil, &dspex.Error{Category: dspex.ErrResource, Code: "checkout_timeout", Message: "no slot", Retryable: true}
	})
	c := fake.Client()
	reply, err := c.Execute(t.Context(), "s", "classify", dspex.Args{"text": "fine"}, dspex.WithLM("fast"))
	if err != nil || reply.Outputs()["label"] != "good" {
		t.Errorf("got %s, %v", reply.Result, err)
	}
	if _, err := c.Execute(t.Context(), "s", "classify", dspex.Args{"text": ""}); !errors.Is(err, dspex.ErrPython) {
		t.Errorf("an error of the handler: %v", err)
	}
	if _, err := c.Execute(t.Context(), "s", "busy", nil); !errors.Is(err, dspex.ErrResource) {
		t.Errorf("an error of the client's type: %v", err)
	}
	receipt, err := c.SubmitAnonymous(t.Context(), dspex.LaneBatch, "classify", dspex.Args{"text": "later"}, dspex.WithJobID("l1"))
	if err != nil {
		t.Fatal(err)
	}
	if reply, err = c.Wait(t.Context(), receipt.Job); err != nil || reply.Outputs()["label"] != "good" {
		t.Errorf("the submitted job: %s, %v", reply.Result, err)
	}
	jobs := fake.Jobs()
	if len(jobs) != 4 {
		t.Fatalf("the fake got %d jobs, want 4", len(jobs))
	}
	if first := jobs[0]; first.Session != "s" || first.Command != "classify" || first.Options["lm"] != "fast" {
		t.Errorf("the first job is %+v", first)
	}
	if last := jobs[3]; last.JobRef != (dspex.JobRef{ID: "l1"}) {
		t.Errorf("the last job is %v", last.JobRef)
	}
}

func python(t *testing.T) dspextest.Option {
	t.Helper()
	path := os.Getenv("DSPEX_TEST_PYTHON")
	if path == "" {
		t.Fatal("DSPEX_TEST_PYTHON names the interpreter of the development environment: run `make test`")
	}
	return dspextest.WithPython(path)
}

func TestADeploymentKeepsSessionsAndRunsModulesOfItsUser(t *testing.T) {
	dir := t.TempDir()
	module := "from dspex_worker import command\n\n\n@command\ndef shout(text: str) -> str:\n    return text.upper()\n"
	if err := os.WriteFile(filepath.Join(dir, "mine.py"), []byte(module), 0o600); err != nil {
		t.Fatal(err)
	}
	c := dspextest.Start(t, python(t), dspextest.WithWorkers(1), dspextest.WithModules(dir, "mine")).Client()
	if reply, err := c.Execute(t.Context(), "s", "shout", dspex.Args{"text": "hi"}); err != nil || string(reply.Result) != `"HI"` {
		t.Errorf("got %s, %v", reply.Result, err)
	}
	if _, err := c.Execute(t.Context(), "s", "create_program", dspex.Args{"id": "qa", "signature": "question -> answer"}); err != nil {
		t.Fatal(err)
	}
	reply, err := c.Execute(t.Context(), "s", "execute_program", dspex.Args{"program_id": "qa", "inputs": map[string]any{"question": "Why?"}})
	if err != nil {
		t.Fatal(err)
	}
	if reply.SessionState != dspex.SessionWarm {
		t.Errorf("the session is %s, want warm", reply.SessionState)
	}
}

func TestTheFakeRunsBatches(t *testing.T) {
	fake := dspextest.NewFake(t)
	fake.Handle("grade", func(j dspextest.Job) (any, error) {
		if j.Args["n"] == 7.0 {
			return nil, errors.New("seven")
		}
		return j.Args["n"], nil
	})
	c := fake.Client()
	jobs := func(yield func(dspex.BatchJob, error) bool) {
		for n := range 250 {
			if !yield(dspex.BatchJob{ID: strconv.Itoa(n), Session: "s", Command: "grade", Args: dspex.Args{"n": n}}, nil) {
				return
			}
		}
	}
	if _, err := c.SubmitBatch(t.Context(), "b", jobs); err != nil {
		t.Fatal(err)
	}
	b, err := c.WaitBatch(t.Context(), "b")
	if err != nil || b.Outcomes.Succeeded != 249 || b.Outcomes.Failed != 1 {
		t.Fatalf("the batch is %s, %v", b.Raw, err)
	}
	n := 0
	for r, err := range c.BatchResults(t.Context(), "b", dspex.BatchQuery{}) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Index != n || r.ID != strconv.Itoa(n) || (r.Err != nil) != (n == 7) {
			t.Fatalf("result %d is %s", n, r.Raw)
		}
		n++
	}
	if n != 250 || len(fake.Jobs()) != 250 {
		t.Errorf("%d results of %d jobs", n, len(fake.Jobs()))
	}
	if again, err := c.SubmitBatch(t.Context(), "b", jobs); err != nil || !again.Again {
		t.Errorf("submitted twice it is %s, %v", again.Raw, err)
	}
}

func TestADeploymentIsInTheModeThatTheEnvironmentNames(t *testing.T) {
	for text, want := range map[string]dspextest.Mode{"": dspextest.MockAdapter, "mock_adapter": dspextest.MockAdapter, "bridge_mock": dspextest.BridgeMock} {
		t.Run(string(want)+" by "+strconv.Quote(text), func(t *testing.T) {
			t.Setenv("TEST_MODE", text)
			d := dspextest.Open(t, python(t), dspextest.WithWorkers(1))
			reply, err := d.Client().Execute(t.Context(), "s", "predict", dspex.Args{"question": "What is the capital of France?"})
			switch {
			case err != nil:
				t.Errorf("err must be nil, got %v; %s, mode %s, engine %s, %v", err, reply.Result, d.Mode(), reply.Engine, err)
			case reply.Outputs()["answer"] != "Paris":
				t.Errorf(`reply.Outputs()["answer"] must be "Paris", got %v; %s, mode %s, engine %s, %v`, reply.Outputs()["answer"], reply.Result, d.Mode(), reply.Engine, err)
			case d.Mode() != want:
				t.Errorf("d.Mode(): got %v, want %v; %s, mode %s, engine %s, %v", d.Mode(), want, reply.Result, d.Mode(), reply.Engine, err)
			case reply.Engine != map[dspextest.Mode]string{"mock_adapter": "mock", "bridge_mock": "stub"}[want]:
				t.Errorf(`reply.Engine: got %v, want %v; %s, mode %s, engine %s, %v`, reply.Engine, map[dspextest.Mode]string{"mock_adapter": "mock", "bridge_mock": "stub"}[want], reply.Result, d.Mode(), reply.Engine, err)
			}
		})
	}
}

func TestAnUnknownModeFailsTheTest(t *testing.T) {
	t.Setenv("TEST_MODE", "mock")
	failed := &failing{TB: t}
	func() {
		defer func() { _ = recover() }()
		dspextest.Open(failed)
	}()
	if want := `must be mock_adapter, bridge_mock or full_integration, got "mock"`; !strings.Contains(failed.said, want) {
		t.Errorf("it says %q, want %q", failed.said, want)
	}
}

// failing keeps what Fatalf is called with.
type failing struct {
	testing.TB
	said string
}

func (f *failing) Fatalf(format string, args ...any) {
	f.said = fmt.Sprintf(format, args...)
	panic(f.said)
}
