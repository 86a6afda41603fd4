package cli

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/programtest"
)

func TestErrorsNameTheFlagsOfTheCommandLine(t *testing.T) {
	for _, c := range []struct {
		name                string
		e                   dspex.Error
		message, path, hint string
	}{
		{"an option", dspex.Error{Message: "max_retries must be 0 to 20, got 25", Path: "options.max_retries"}, "--max-retries must be 0 to 20, got 25", "--max-retries", ""},
		{"an option that is no flag", dspex.Error{Message: "depth is unknown", Path: "options.depth"}, "depth is unknown", "options.depth", ""},
		{"an argument", dspex.Error{Message: "timeout must be a number", Path: "args.timeout"}, "timeout must be a number", "args.timeout", ""},
		{"a time to wait", dspex.Error{Hint: "retry after retry_after_ms, with the same Dspex-Job if you chose one", RetryAfter: 250 * time.Millisecond}, "", "",
			"try again in 250ms, with the same --job if you chose one"},
		{"no time to wait", dspex.Error{Hint: "retry after retry_after_ms"}, "", "", "try again in a moment"},
		{"a deadline", dspex.Error{Hint: "give it more time (options.deadline, Dspex-Deadline) or more workers"}, "", "", "give it more time (--deadline) or more workers"},
		{"an option in a hint", dspex.Error{Hint: "options.require_state refuses to run"}, "", "", "--require-state refuses to run"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := inFlags(&c.e)
			if got.Message != c.message {
				t.Errorf("message: got %q, want %q", got.Message, c.message)
			}
			if got.Path != c.path {
				t.Errorf("path: got %q, want %q", got.Path, c.path)
			}
			if got.Hint != c.hint {
				t.Errorf("hint: got %q, want %q", got.Hint, c.hint)
			}
		})
	}
}

// TestEveryOptionIsAFlagOfCall: an error never names a flag that is not there.
func TestEveryOptionIsAFlagOfCall(t *testing.T) {
	text := programtest.Sources(t, "../calls", "call.go")["call.go"]
	for _, name := range options {
		if !strings.Contains(text, `"`+strings.TrimPrefix(flag(name), "--")+`", `) {
			t.Errorf("`dspex call` has no flag %s", flag(name))
		}
	}
}

// TestHintsHaveNoWordOfTheWireLeft reads the hints of the service. A wire word that a hint has must be in the table.
func TestALostReplyHasTheCommandThatWaitsForItsJob(t *testing.T) {
	lost := &dspex.Error{Hint: "the job may still run; with a job id of your own (WithJobID) its outcome can be fetched, and a repeat is safe", Job: dspex.JobRef{Session: "s", ID: "j"}}
	if got := inFlags(lost).Hint; got != "the job may still run: `dspex jobs wait j --session s` waits for its outcome" {
		t.Error(got)
	}
	lost.Job = dspex.JobRef{}
	if got := inFlags(lost).Hint; !strings.Contains(got, "with --job ID") {
		t.Error(got)
	}
}

func TestHintsHaveNoWordOfTheWireLeft(t *testing.T) {
	hint, wire := regexp.MustCompile(`WithHint\("((?:[^"\\]|\\.)*)"`), regexp.MustCompile(`\b(?:options\.[a-z_]+|retry_after_ms|wait_ms|timeout_ms)\b`)
	found := 0
	for path, text := range programtest.Sources(t, "../../../../internal", ".go") {
		for _, m := range hint.FindAllStringSubmatch(text, -1) {
			found++
			if left := wire.FindString(inFlags(&dspex.Error{Hint: strings.ReplaceAll(m[1], "%s", "Dspex-Deadline")}).Hint); left != "" {
				t.Errorf("%s: %s is left of the hint %q", path, left, m[1])
			}
		}
	}
	goHint, goWord := regexp.MustCompile(`Hint(?: =|:) "((?:[^"\\]|\\.)*)"`), regexp.MustCompile(`\bWith[A-Z]`)
	for path, text := range programtest.Sources(t, "../../../..", ".go") {
		for _, m := range goHint.FindAllStringSubmatch(text, -1) {
			found++
			for _, job := range []dspex.JobRef{{}, {Session: "s", ID: "j"}} {
				if left := goWord.FindString(inFlags(&dspex.Error{Hint: m[1], Job: job}).Hint); left != "" && !strings.HasPrefix(path, "cmd/") {
					t.Errorf("%s: a Go function is left of the hint %q", path, m[1])
				}
			}
		}
	}
	if found < 30 {
		t.Errorf("found %d hints, want at least 30: does the pattern still fit?", found)
	}
}
