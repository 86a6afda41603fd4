package local

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/dspex/dspex/cmd/dspex/internal/cli"
	"github.com/dspex/dspex/internal/devserver"
	"github.com/dspex/dspex/internal/jobs"
)

func TestDevShowsWhatUserCodeRaises(t *testing.T) {
	got := raised(devserver.Ended{Session: "bob", Job: "q5", Command: "execute_program", Program: "qa\x1b[2J", Attempt: 2,
		Error: &jobs.Error{Message: "RuntimeError: kaput\nagain", PythonType: "RuntimeError", Traceback: "RuntimeError\n  qa.py:3 in forward"}})
	want := "execute_program qa[2J raised (session bob, job q5, attempt 2)\n  RuntimeError: kaput\n  again\n  RuntimeError\n    qa.py:3 in forward\n"
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func logOf(out *bytes.Buffer, quiet bool, now *time.Time) *attemptLog {
	return newAttemptLog(&cli.App{Err: out, Env: func(string) string { return "" }}, quiet, func() time.Time { return *now })
}

func TestDevShowsEachAttemptOnALine(t *testing.T) {
	var out bytes.Buffer
	now := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	l := logOf(&out, false, &now)
	l.ended(devserver.Ended{Session: "bob", Job: "q5", Command: "predict", Attempt: 1, Worker: "dev/1", Ran: 12 * time.Millisecond})
	l.ended(devserver.Ended{Job: "q6", Command: "echo", Attempt: 2, Worker: "dev/2", Ran: time.Second, Error: &jobs.Error{Category: jobs.Timeout, Code: jobs.CodeOperationTimeout}})
	l.close()
	want := "15:04:05 ok     predict          session bob, job q5, attempt 1, dev/1, 12ms\n" +
		"15:04:05 failed echo             anonymous, job q6, attempt 2, dev/2, 1s  timeout operation_timeout\n"
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestDevCountsAttemptsOfWhichThereAreTooManyToRead(t *testing.T) {
	var out bytes.Buffer
	now := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	l := logOf(&out, false, &now)
	for range attemptsASecond + 7 {
		l.ended(devserver.Ended{Command: "echo"})
	}
	now = now.Add(time.Second)
	l.ended(devserver.Ended{Command: "echo"})
	l.close()
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != attemptsASecond+2 {
		t.Fatalf("%d lines: %q", len(lines), lines)
	}
	if lines[attemptsASecond] != "7 more attempts" || !strings.HasPrefix(lines[attemptsASecond+1], "15:04:06 ok") {
		t.Errorf("got %q", lines[attemptsASecond:])
	}
}

func TestQuietDevShowsOnlyWhatUserCodeRaises(t *testing.T) {
	var out bytes.Buffer
	now := time.Now()
	l := logOf(&out, true, &now)
	l.ended(devserver.Ended{Command: "echo"})
	l.ended(devserver.Ended{Command: "boom", Job: "q1", Attempt: 1, Error: &jobs.Error{Message: "no", PythonType: "ValueError"}})
	l.close()
	if got, want := out.String(), "boom raised (job q1, attempt 1)\n  no\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// stuck is a terminal that somebody has stopped.
type stuck struct{ free chan struct{} }

func (s stuck) Write(b []byte) (int, error) {
	<-s.free
	return len(b), nil
}

func TestATerminalThatStandsStillHoldsUpNoAttempt(t *testing.T) {
	terminal := stuck{make(chan struct{})}
	l := newAttemptLog(&cli.App{Err: terminal, Env: func(string) string { return "" }}, false, time.Now)
	for range 10 * mostLines { // each call of ended returns, or the test does not
		l.ended(devserver.Ended{Command: "boom", Error: &jobs.Error{Message: "no", PythonType: "ValueError"}})
	}
	close(terminal.free)
	l.close()
}
