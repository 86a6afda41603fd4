// Package attempt makes one attempt of a job: it waits for a slot of the pool and for the circuit breakers, gives the worker
// what the call needs, calls it and reads what comes back. What becomes of the job it does not decide (package lifecycle does).
package attempt

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/host/workers"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
)

// Origin is where a job comes from: a session's queue, or a lane.
type Origin interface {
	Anonymous() bool
	// Admits reports whether the attempt may wait for a slot, or why not.
	Admits(a *Attempt) (why lifecycle.Reason, ok bool)
	Waits()   // the attempt waits in the pool's queue
	GotSlot() // it has a slot
}

// Attempt is one attempt of a job, from its wait for a slot to the end of its call.
type Attempt struct {
	lifecycle.Task // as it was when the attempt was made

	r    *Runner
	op   uint32
	from Origin
	slot workers.Slot // once it is granted
	pass permits

	model     jobs.Model
	noModel   *jobs.Error
	unstarted error // why no worker could be started for it

	over   atomic.Bool   // it has no slot, and gets none
	gaveUp chan struct{} // closes when the wait, or the call, is given up
	why    error         // for the worker
	bad    *jobs.Error   // for the job, nil if that is not the reason

	loaded []byte // arguments, those by reference among them; nil: none were read

	confirmed clock.Mono // of the lease
	lease     time.Duration
}

var (
	errCancelled = errors.New("cancelled")
	errTimeOver  = errors.New("the time is over")
)

// wait is how an attempt waits for a slot, and for a worker.
func (a *Attempt) wait(ready <-chan struct{}) error {
	select {
	case <-a.gaveUp:
		return a.why
	default:
	}
	a.from.Waits()
	select {
	case <-ready:
		return nil
	case <-a.gaveUp:
		return a.why
	}
}

// GiveUp ends the wait or the call, because of e. The first reason counts.
func (a *Attempt) GiveUp(e *jobs.Error) {
	select {
	case <-a.gaveUp:
		return
	default:
	}
	a.bad, a.why = e, errCancelled
	if e != nil && e.Code != jobs.CodeCancelled {
		a.why = errTimeOver
	}
	close(a.gaveUp)
}

// Op is the core's number of the attempt.
func (a *Attempt) Op() uint32 { return a.op }

// Over reports whether the attempt has no slot, and gets none.
func (a *Attempt) Over() bool { return a.over.Load() }

// Granted is what was taken, with the task as the core has it now, and for how long the host may rely on what the broker confirmed.
func (a *Attempt) Granted(t *lifecycle.Task, confirmed clock.Mono, lease time.Duration) {
	a.Task, a.confirmed, a.lease = *t, confirmed, lease
}

// Release gives the slot back, if there is one.
func (a *Attempt) Release() {
	if a.slot == nil {
		return
	}
	a.pass.leave()
	a.slot.Release()
}

// CallIfMine calls the worker, unless another host may have the job by now. A host that stood still (SIGSTOP, a paused machine) does
// not detect it: so the last look before a call is at the clock, which goes on while the machine is suspended.
func (a *Attempt) CallIfMine(call frame.CallBody, out *Output) {
	if out.Stale = a.r.On.Clock.Mono()-a.confirmed >= a.lease; !out.Stale {
		a.r.call(a, call, out)
	}
}

// NewOutput is that of an attempt that has its slot.
func NewOutput(a *Attempt) *Output {
	out := &Output{Output: lifecycle.Output{Label: a.Label}}
	out.Slot = lifecycle.Slot{WorkerID: a.slot.WorkerID(), Worker: a.slot.WorkerName(), Engine: a.slot.Engine()}
	return out
}

// NeedsState refuses a job that requests state where there is none; an anonymous job has version 0.
func NeedsState(a *Attempt, version uint64) *jobs.Error {
	if !a.Req.RequireState || version > 0 {
		return nil
	}
	return jobs.Errorf(jobs.Session, jobs.CodeStateRequired, "the job needs a session that has state").
		WithHint("options.require_state refuses to run on an empty session, and without one")
}
