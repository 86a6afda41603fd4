package attempt

import (
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
)

// Output is what one attempt brought.
type Output struct {
	lifecycle.Output

	answered bool   // the worker did, whatever it said
	called   use    // whether the language model of the task was called
	Program  []byte // what push_program or withdraw_program has checked
}

// NewOutput is that of an attempt that has its slot.
func NewOutput(a *Attempt) *Output {
	out := &Output{Output: lifecycle.Output{Label: a.Label}}
	out.Slot = lifecycle.Slot{WorkerID: a.slot.WorkerID(), Worker: a.slot.WorkerName(), Engine: a.slot.Engine()}
	return out
}

// Failed reports whether the attempt failed with code.
func (o *Output) Failed(code string) bool { return o.Err != nil && o.Err.Code == code }

// use is what a worker says of the use that a call made of its language model.
type use int

const (
	notSaid use = iota
	unused
	used
)

func useOf(called bool) use {
	if called {
		return used
	}
	return unused
}

// NeedsState refuses a job that requests state where there is none; an anonymous job has version 0.
func NeedsState(a *Attempt, version uint64) *jobs.Error {
	if !a.Req.RequireState || version > 0 {
		return nil
	}
	return jobs.Errorf(jobs.Session, jobs.CodeStateRequired, "the job needs a session that has state").
		WithHint("options.require_state refuses to run on an empty session, and without one")
}
