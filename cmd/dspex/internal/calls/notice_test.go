package calls

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

func TestWhatAJobWaitsForIsSaid(t *testing.T) {
	for name, of := range map[string]struct {
		job  dspex.Job
		err  error
		want string
	}{
		"queued":        {dspex.Job{Status: dspex.JobQueued, JobRef: dspex.JobRef{Session: "s"}}, nil, "its turn"},
		"running":       {dspex.Job{Status: dspex.JobRunning, Attempts: 2}, nil, "attempt 2 runs"},
		"retrying":      {dspex.Job{Status: dspex.JobRetrying, Attempts: 1, RetryIn: 12 * time.Second}, nil, "attempt 1 failed, retry in 12s"},
		"not stored":    {dspex.Job{}, &dspex.Error{Code: dspex.CodeJobUnknown}, "not stored"},
		"no broker":     {dspex.Job{}, &dspex.Error{Code: dspex.CodeBroker}, "the broker is away"},
		"no service":    {dspex.Job{}, errors.New("no responders"), "no answer yet"},
		"has an answer": {dspex.Job{Status: dspex.JobSucceeded}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := waitsFor(of.job, of.err); !strings.Contains(got, of.want) || (of.want == "") != (got == "") {
				t.Errorf("got %q, want %q", got, of.want)
			}
		})
	}
}

func TestWhoInterruptsACallLearnsHowToGoOn(t *testing.T) {
	f, ok := errors.AsType[*cli.Failure](goesOn(dspex.JobRef{Session: "s", ID: "j"}))
	if !ok || f.Status != cli.ExitInterrupted || !strings.Contains(f.Hint, "dspex jobs wait j --session s") {
		t.Errorf("%+v", f)
	}
}
