package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dspex/dspex"
)

// dlq runs `dspex dlq` and returns its output and its exit status.
func dlq(t *testing.T, server string, args ...string) (out, said string, status int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, append([]string{"--server", server, "dlq"}, args...)...)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		status = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	return stdout.String(), stderr.String(), status
}

// deadLetter makes a dead letter.
func deadLetter(ctx context.Context, t *testing.T, c *dspex.Client, session, job string) {
	t.Helper()
	args := dspex.Args{"retryable": true, "category": "connection", "code": "gone"}
	opts := []dspex.SubmitOption{dspex.WithJobID(job), dspex.WithMaxRetries(1), dspex.WithBackoff(dspex.Delays(time.Millisecond))}
	var err error
	if session == "" {
		_, err = c.SubmitAnonymous(ctx, dspex.LaneBatch, "boom", args, opts...)
	} else {
		_, err = c.Submit(ctx, session, "boom", args, opts...)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Wait(ctx, dspex.JobRef{Session: session, ID: job}); !errors.Is(err, dspex.ErrConnection) {
		t.Fatalf("%s: %v", job, err)
	}
}

func TestDeadLettersFromTheCommandLine(t *testing.T) {
	d := startIn(t, "", "--engine", "stub")
	ctx, c := connectTo(t, d.url)
	deadLetter(ctx, t, c, "s", "one")
	deadLetter(ctx, t, c, "", "two")
	out, _, status := dlq(t, d.url, "list")
	switch lines := strings.Split(strings.TrimSpace(out), "\n"); {
	case status != 0:
		t.Errorf("status must be 0, got %v; list: %d\n%s", status, status, out)
	case len(lines) != 3:
		t.Errorf("len(lines) must be 3, got %v; list: %d\n%s", len(lines), status, out)
	case !strings.Contains(lines[1], "one"):
		t.Errorf("must hold: strings.Contains(lines[1], \"one\"); list: %d\n%s", status, out)
	case !strings.Contains(lines[2], "connection gone"):
		t.Errorf("must hold: strings.Contains(lines[2], \"connection gone\"); list: %d\n%s", status, out)
	}
	out, _, _ = dlq(t, d.url, "list", "--anonymous", "-o", "json")
	var list []map[string]any
	switch err := json.Unmarshal([]byte(out), &list); {
	case err != nil:
		t.Errorf("err must be nil, got %v; list: %s", err, out)
	case len(list) != 1:
		t.Errorf("len(list) must be 1, got %v; list: %s", len(list), out)
	case list[0]["job"] != "two":
		t.Errorf(`list[0]["job"] must be "two", got %v; list: %s`, list[0]["job"], out)
	case list[0]["lane"] != "batch":
		t.Errorf(`list[0]["lane"] must be "batch", got %v; list: %s`, list[0]["lane"], out)
	}
	if out, _, status := dlq(t, d.url, "show", "1"); status != 0 || !strings.Contains(out, `"command":"boom"`) || strings.Count(out, "connection gone") != 3 {
		t.Errorf("show: %d\n%s", status, out)
	}
	for _, step := range []struct {
		args   string
		status int
		out    string
		said   string
	}{
		{"show 99", 1, "", "dead_letter_unknown"}, {"show x", 2, "", "must be a number"}, {"replay", 2, "", "name the dead letters"}, {"replay 1 --all", 2, "", "name the dead letters"},
		{"replay --session s", 2, "", "would replay 1 dead letters: rerun with --yes"}, {"purge 1", 2, "", "would remove 1 dead letters: rerun with --yes"},
		{"replay 1", 0, "dead letter 1: replayed as one-r1", ""}, {"replay 1", 0, "dead letter 1: had been replayed as one-r1", ""},
		{"purge --replayed --yes", 0, "1 removed", ""}, {"list --session s --replayed", 0, "", "no dead letters"},
	} {
		out, said, status := dlq(t, d.url, strings.Fields(step.args)...)
		if status != step.status || !strings.Contains(out, step.out) || !strings.Contains(said, step.said) {
			t.Errorf("dlq %s: %d\n%s%s", step.args, status, out, said)
		}
	}
}

func TestDeadLettersFromGo(t *testing.T) {
	ctx, c := connectTo(t, startIn(t, "", "--engine", "stub").url)
	for _, job := range []string{"a", "b", "c"} {
		deadLetter(ctx, t, c, "s", job)
	}
	deadLetter(ctx, t, c, "", "d")
	names := func(f dspex.DeadLetterFilter) (list []string) {
		t.Helper()
		for l, err := range c.Admin().DeadLetters(ctx, f) {
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, l.Job.ID)
		}
		return list
	}
	if got := names(dspex.DeadLetterFilter{}); !slices.Equal(got, []string{"a", "b", "c", "d"}) {
		t.Errorf("all: %v", got)
	}
	if got := names(dspex.DeadLetterFilter{Session: "s", Category: dspex.ErrConnection, Code: "gone", NewerThan: time.Hour, Limit: 2}); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("two of the session: %v", got)
	}
	l, err := c.Admin().GetDeadLetter(ctx, 4)
	if err != nil {
		t.Fatal(err)
	}
	for what, is := range map[string]bool{
		"job":      l.Job == dspex.JobRef{ID: "d"},
		"lane":     l.Lane == dspex.LaneBatch,
		"attempts": l.Attempts == 2,
		"failures": len(l.Failures) == 2 && l.Failures[1].Attempt == 2 && !l.Failures[0].At.IsZero(),
		"error":    l.LastError != nil && l.LastError.Code == "gone" && l.LastError.Attempt == 2,
		"request":  strings.Contains(string(l.Request), `"boom"`),
		"created":  time.Since(l.CreatedAt) < time.Hour,
	} {
		if !is {
			t.Errorf("wrong %s: %+v", what, l)
		}
	}
	if _, err := c.Admin().GetDeadLetter(ctx, 99); !errors.Is(err, dspex.ErrSession) {
		t.Errorf("an unknown one: %v", err)
	}
	for again := range 2 {
		r, err := c.Admin().ReplayDeadLetter(ctx, 4)
		if err != nil || r.Job.ID != "d-r4" || r.Existing != (again == 1) {
			t.Errorf("%+v %v", r, err)
		}
	}
	if _, err := c.Wait(ctx, dspex.JobRef{ID: "d-r4"}); !errors.Is(err, dspex.ErrConnection) {
		t.Errorf("the replay: %v", err)
	}
	var made []string
	for r, err := range c.Admin().ReplayDeadLetters(ctx, dspex.DeadLetterFilter{Session: "s", Replayed: new(bool)}) {
		if err != nil || r.Err != nil {
			t.Fatal(err, r.Err)
		}
		made = append(made, r.Job.ID)
	}
	if !slices.Equal(made, []string{"a-r1", "b-r2", "c-r3"}) {
		t.Errorf("replayed %v", made)
	}
	for _, err := range c.Admin().ReplayDeadLetters(ctx, dspex.DeadLetterFilter{}) {
		if err == nil {
			t.Error("all were replayed though nobody said all")
		}
	}
	if n, err := c.Admin().PurgeDeadLetters(ctx, dspex.DeadLetterFilter{Session: "s", Replayed: new(true)}); err != nil || n != 3 {
		t.Errorf("purged %d, %v", n, err)
	}
	if err := c.Admin().PurgeDeadLetter(ctx, 4); err != nil {
		t.Error(err)
	}
	if err := c.Admin().PurgeDeadLetter(ctx, 4); !errors.Is(err, dspex.ErrSession) {
		t.Errorf("purged twice: %v", err)
	}
}
