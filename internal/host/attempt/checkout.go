package attempt

import (
	"errors"
	"fmt"
	"time"

	"github.com/dspex/dspex/internal/breaker"
	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/fair"
	"github.com/dspex/dspex/internal/host/tokens"
	"github.com/dspex/dspex/internal/host/workers"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
	"github.com/dspex/dspex/internal/pyproc"
)

// New makes an attempt of a job. Checkout finds it a slot.
func (r *Runner) New(t *lifecycle.Task, op uint32, from Origin) *Attempt {
	return &Attempt{Task: *t, r: r, op: op, from: from, gaveUp: make(chan struct{})}
}

// WaitsFor is how many sessions have a token of the kind, and a job that waits for a slot.
func (r *Runner) WaitsFor(kind tokens.Kind) int64 { return r.waiting[kind].Load() }

// Checkout waits for a slot and a permit of the breakers. It returns the event that reports how it ended, nil if the wait was given up.
// That no worker can be started counts on the breaker of starts.
func (r *Runner) Checkout(a *Attempt) *lifecycle.Event {
	ev := r.checkout(a)
	a.over.Store(a.slot == nil)
	return ev
}

func (r *Runner) checkout(a *Attempt) *lifecycle.Event {
	if why, ok := a.from.Admits(a); !ok {
		return a.refused(lifecycle.Refusal{Reason: why})
	}
	r.resolve(a, a.LM)
	pool, lm := control.PoolBreaker(r.Host), r.lmBreaker(a)
	if refused := r.Breakers.Look(pool, lm); refused != nil {
		return r.keptOut(a, refused)
	}
	start, refused := r.Breakers.Enter(control.StartBreaker(r.Host))
	if refused != nil {
		if r.Pool.Workers().Active == 0 { // nobody is kept from the workers that are there
			return r.keptOut(a, refused)
		}
	}
	defer start.End(breaker.Silent, "")
	began := time.Now()
	e, err := r.take(a)
	worker := ""
	if a.slot != nil {
		worker = a.slot.WorkerName()
	}
	r.Telemetry.Waited(&a.Task, worker, began, e)
	if e != nil && (e.Signs().Start != jobs.Fails || r.ends.firstStart(a.unstarted)) {
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
	if refused := a.pass.enter(r.Breakers.Set, pool, lm); refused != nil { // opened meanwhile
		a.slot.Release()
		a.slot = nil
		return r.keptOut(a, refused)
	}
	a.from.GotSlot()
	return &lifecycle.Event{Kind: lifecycle.SlotGranted, Op: a.op, Slot: lifecycle.Slot{WorkerID: a.slot.WorkerID(), Worker: a.slot.WorkerName()}}
}

func (a *Attempt) refused(r lifecycle.Refusal) *lifecycle.Event {
	return &lifecycle.Event{Kind: lifecycle.SlotRefused, Op: a.op, Refusal: r}
}

// keptOut is the event of an attempt that a breaker keeps out: a call fails.
func (r *Runner) keptOut(a *Attempt, by *breaker.Refusal) *lifecycle.Event {
	refusal := lifecycle.Refusal{Reason: lifecycle.BreakerOpen, Name: by.Name, RetryAfter: by.RetryAfter, Changed: by.Changed}
	if a.Env.Mode == jobs.ModeCall {
		refusal.Elsewhere = a.from.Anonymous() && r.StandsAside()
		if !refusal.Elsewhere {
			refusal.Err = r.answer(a, by)
		}
	}
	return a.refused(refusal)
}

// take waits for a slot of the pool, and for a whole worker for a command that must run alone. Only the workers report which commands
// do: the first job that meets one gives its slot back and waits again. The first error is the job's; the second reports that the pool
// has no slots any more.
func (r *Runner) take(a *Attempt) (*jobs.Error, error) {
	want := workers.Want{Prefer: a.Prefer, Avoid: a.Avoid, Turn: a.share()}
	if !a.from.Anonymous() {
		waiting := &r.waiting[tokens.KindOf(want.Turn.Class)]
		waiting.Add(1)
		defer waiting.Add(-1)
	}
	_, want.Alone = r.exclusive.Load(a.Req.Command)
	for {
		slot, err := r.Pool.Checkout(want, a.wait)
		if err != nil {
			return r.untaken(a, err)
		}
		exclusive := slot.Exclusive(a.Req.Command)
		switch {
		case exclusive && !want.Alone:
			slot.Release()
			r.exclusive.Store(a.Req.Command, true)
			want.Alone = true
			continue
		case want.Alone && !exclusive: // this worker has another table
			r.exclusive.Delete(a.Req.Command)
		}
		a.slot = slot
		return nil, nil
	}
}

// untaken reports why there is no slot.
func (r *Runner) untaken(a *Attempt, err error) (*jobs.Error, error) {
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

// share reports whose turn it is when slots are scarce.
func (a *Attempt) share() fair.Key {
	k := fair.Key{Class: ClassOf(a.Job), Tenant: a.Session.Tenant, Fresh: a.Fresh}
	if a.Session.ID != "" {
		return k
	}
	k.Class, k.Tenant = fair.Call, anonymousTenant // the lane of calls
	if a.Lane == jobs.LaneBatch {
		k.Class = fair.Batch
	}
	return k
}

// ClassOf is the job's share of the slots.
func ClassOf(j *lifecycle.Job) fair.Class {
	if j.Env.Mode == jobs.ModeCall {
		return fair.Call
	}
	return fair.Queued
}
