package host

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/dspex/dspex/internal/breaker"
	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/fair"
	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/host/workers"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
	"github.com/dspex/dspex/internal/pyproc"
)

// attempt is one attempt of a job, from its wait for a slot to the end of its call.
type attempt struct {
	lifecycle.Task // as it was when the attempt was made

	d    *driver
	op   uint32
	slot workers.Slot // once it is granted
	pass passage

	model     jobs.Model
	noModel   *jobs.Error
	unstarted error // why no worker could be started for it

	over   atomic.Bool   // it has no slot, and gets none
	gaveUp chan struct{} // closes when the wait, or the call, is given up
	why    error         // for the worker
	bad    *jobs.Error   // for the job, nil if that is not the reason

	confirmed clock.Mono // of the lease
	lease     time.Duration
}

var (
	errCancelled = errors.New("cancelled")
	errTimeOver  = errors.New("the time is over")
)

// wait is how an attempt waits for a slot, and for a worker.
func (a *attempt) wait(ready <-chan struct{}) error {
	select {
	case <-a.gaveUp:
		return a.why
	default:
	}
	a.d.life.waits()
	select {
	case <-ready:
		return nil
	case <-a.gaveUp:
		return a.why
	}
}

// giveUp ends the wait or the call, because of e. The first reason counts.
func (a *attempt) giveUp(e *jobs.Error) {
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

// begin makes an attempt that waits for a slot.
func (d *driver) begin(act *lifecycle.Action) {
	a := &attempt{Task: *act.Task, d: d, op: act.Op, gaveUp: make(chan struct{})}
	d.attempts = append(slices.DeleteFunc(d.attempts, func(a *attempt) bool { return a.over.Load() }), a)
	d.life.spawn(func() {
		ev := d.h.checkout(a)
		a.over.Store(a.slot == nil)
		if ev != nil && !d.feedHere(*ev) && a.slot != nil {
			a.pass.leave()
			a.slot.Release()
		}
	})
}

// attempt finds one by its operation.
func (d *driver) attempt(op uint32) *attempt {
	for _, a := range d.attempts {
		if a.op == op {
			return a
		}
	}
	return nil
}

// withdraw ends the wait for a slot. One that is granted all the same is given back (release).
func (d *driver) withdraw(op uint32, e *jobs.Error) {
	if a := d.attempt(op); a != nil {
		a.giveUp(e)
	}
}

// release gives the slot back, after the breakers have learnt how the attempt ended.
func (d *driver) release(act *lifecycle.Action) {
	i := slices.IndexFunc(d.attempts, func(a *attempt) bool { return a.op == act.Op })
	if i < 0 {
		return
	}
	a := d.attempts[i]
	d.attempts = slices.Delete(d.attempts, i, i+1)
	if act.Output != nil {
		d.h.verdict(a, act.Output.Extra.(*output), act.Retries)
	}
	a.pass.leave()
	a.slot.Release()
}

// call runs the attempt in its slot.
func (d *driver) call(act *lifecycle.Action) {
	a := d.attempt(act.Op)
	a.Task, a.confirmed, a.lease = *act.Task, act.Confirmed, act.Lease
	d.life.spawn(func() {
		out := d.life.run(a)
		out.Extra = out
		d.feedHere(lifecycle.Event{Kind: lifecycle.Answered, Op: a.op, Output: &out.Output})
	})
}

// callIfMine calls the worker, unless another host may have the job by now. A host that stood still (SIGSTOP, a paused machine) does
// not notice it: so the last look before a call is at the clock, which goes on while the machine is suspended.
func (a *attempt) callIfMine(call frame.CallBody, out *output) {
	if out.Stale = a.d.h.clock.Mono()-a.confirmed >= a.lease; !out.Stale {
		a.d.h.call(a, call, out)
	}
}

// checkout waits for a slot and a permit of the breakers. It returns the event that tells how it ended, nil if the wait was given up.
// That no worker can be started counts on the breaker of starts.
func (h *Host) checkout(a *attempt) *lifecycle.Event {
	if r, ok := a.d.life.admits(a); !ok {
		return a.refused(lifecycle.Refusal{Reason: r})
	}
	h.resolve(a, a.LM)
	pool, lm := jobs.PoolBreaker(h.cfg.Name), h.lmBreaker(a)
	if refused := h.breakers.Look(pool, lm); refused != nil {
		return h.keptOut(a, refused)
	}
	start, refused := h.breakers.Enter(jobs.StartBreaker(h.cfg.Name))
	if refused != nil {
		if h.cfg.Pool.Workers().Active == 0 { // nobody is kept from the workers that are there
			return h.keptOut(a, refused)
		}
	}
	defer start.End(breaker.Silent, "")
	began := time.Now()
	e, err := h.take(a)
	worker := ""
	if a.slot != nil {
		worker = a.slot.WorkerName()
	}
	h.telemetry.Waited(&a.Task, worker, began, e)
	if e != nil && (e.Signs().Start != jobs.Fails || h.ends.firstStart(a.unstarted)) {
		start.End(result(e.Signs().Start), what(e))
	}
	switch {
	case err != nil: // the host is about to leave; the job is not to blame
		return a.refused(lifecycle.Refusal{Reason: lifecycle.Stopping})
	case a.slot == nil && a.unstarted != nil:
		return a.refused(lifecycle.Refusal{Reason: lifecycle.NoWorker, Err: e})
	case a.slot == nil:
		return nil
	}
	start.End(breaker.Success, "")
	if refused := a.pass.enter(h.breakers, pool, lm); refused != nil { // opened meanwhile
		a.slot.Release()
		a.slot = nil
		return h.keptOut(a, refused)
	}
	a.d.life.seated()
	return &lifecycle.Event{Kind: lifecycle.SlotGranted, Op: a.op, Slot: lifecycle.Slot{WorkerID: a.slot.WorkerID(), Worker: a.slot.WorkerName()}}
}

func (a *attempt) refused(r lifecycle.Refusal) *lifecycle.Event {
	return &lifecycle.Event{Kind: lifecycle.SlotRefused, Op: a.op, Refusal: r}
}

// keptOut is the event of an attempt that a breaker keeps out: a call fails.
func (h *Host) keptOut(a *attempt, by *breaker.Refusal) *lifecycle.Event {
	r := lifecycle.Refusal{Reason: lifecycle.BreakerOpen, Name: by.Name, RetryAfter: by.RetryAfter, Changed: by.Changed}
	if a.Env.Mode == jobs.ModeCall {
		r.Elsewhere = a.d.life.alone() && h.standsAside()
		if !r.Elsewhere {
			r.Err = h.answer(a, by)
		}
	}
	return a.refused(r)
}

// take waits for a slot of the pool, and for a whole worker for a command that must run alone. Only the workers know which commands
// do: the first job that meets one gives its slot back and waits again. The first error is the job's; the second says that the pool
// has no slots any more.
func (h *Host) take(a *attempt) (*jobs.Error, error) {
	want := workers.Want{Prefer: a.Prefer, Avoid: a.Avoid, Turn: a.turn()}
	if !a.d.life.alone() {
		waiting := &h.waiting[turnOf(want.Turn.Class)]
		waiting.Add(1)
		defer waiting.Add(-1)
	}
	_, want.Alone = h.exclusive.Load(a.Req.Command)
	for {
		slot, err := h.cfg.Pool.Checkout(want, a.wait)
		if err != nil {
			return h.untaken(a, err)
		}
		exclusive := slot.Exclusive(a.Req.Command)
		switch {
		case exclusive && !want.Alone:
			slot.Release()
			h.exclusive.Store(a.Req.Command, true)
			want.Alone = true
			continue
		case want.Alone && !exclusive: // this worker has another table
			h.exclusive.Delete(a.Req.Command)
		}
		a.slot = slot
		return nil, nil
	}
}

// untaken says why there is no slot.
func (h *Host) untaken(a *attempt, err error) (*jobs.Error, error) {
	select {
	case <-a.gaveUp:
		return a.bad, nil
	default:
	}
	if errors.Is(err, pyproc.ErrStopped) {
		return nil, fmt.Errorf("checkout: %w", err)
	}
	a.unstarted = err
	if unavailable, ok := errors.AsType[*pyproc.UnavailableError](err); ok {
		a.unstarted = unavailable.Err
	}
	return workers.StartError(err), nil
}

// anonymousTenant is the tenant of anonymous jobs where slots are shared: those of all tenants come through one lane. No tenant
// has such a name.
const anonymousTenant = "(anonymous)"

// turn says whose turn it is when slots are scarce.
func (a *attempt) turn() fair.Key {
	k := fair.Key{Class: classOf(a.Job), Tenant: a.Session.Tenant, Fresh: a.Fresh}
	if a.Session.ID == "" {
		k.Tenant = anonymousTenant
	}
	if a.Lane == jobs.LaneBatch {
		k.Class = fair.Batch
	}
	return k
}

// classOf is the job's share of the slots.
func classOf(j *lifecycle.Job) fair.Class {
	if j.Env.Mode == jobs.ModeCall {
		return fair.Call
	}
	return fair.Queued
}
