package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dspex/dspex/internal/fair"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/pyproc"
)

// checkout waits for a slot: a call for the checkout timeout, a queued job until its deadline. The first error is the job's,
// the second ends the processing.
func (s *session) checkout(ctx context.Context, t *task) (slot Slot, bad *jobs.Error, err error) {
	s.mu.Lock()
	t.fresh = s.fresh
	waited := time.Duration(0)
	if t.attempt == 0 {
		waited = time.Since(s.wants)
	}
	s.mu.Unlock()
	slot, bad, err = s.p.h.checkout(t, s.prefers(), waited, func(ready <-chan struct{}, until time.Time) error {
		waiting, stop := s.startable(t)
		defer stop()
		return s.serve(waiting, ready, until)
	})
	if ctx.Err() != nil || s.p.over() || t.isCancelled() {
		if slot != nil {
			slot.Release()
		}
		switch {
		case ctx.Err() != nil:
			return nil, nil, context.Cause(ctx)
		case s.p.over():
			return nil, nil, errLeaving
		}
		return nil, cancelled(), nil
	}
	return slot, bad, err
}

// checkoutSlot waits for a slot of the pool. waited is the time that the job was at the head of its queue before.
func (h *Host) checkoutSlot(t *task, prefer uint64, waited time.Duration, wait waitUntil) (Slot, *jobs.Error, error) {
	bound, impatient := time.Duration(0), false
	if left, has := t.left(h); has {
		bound = max(left, 1)
	}
	if patience := max(h.cfg.CheckoutTimeout-waited, 1); t.env.Mode == jobs.ModeCall && (bound == 0 || patience < bound) {
		bound, impatient = patience, true
	}
	var until time.Time
	if bound > 0 {
		until = time.Now().Add(bound)
	}
	var gaveUp error
	if t.session.ID != "" {
		waiting := &h.waiting[turnOf(t.class())]
		waiting.Add(1)
		defer waiting.Add(-1)
	}
	slot, err := h.take(t.req.Command, Want{Prefer: prefer, Avoid: t.avoids(), Turn: t.turn()}, func(ready <-chan struct{}) error {
		gaveUp = wait(ready, until)
		return gaveUp
	})
	switch {
	case err == nil:
		return slot, nil, nil
	case errors.Is(gaveUp, errTimeOver) && impatient:
		return nil, jobs.NoWorkerFree(h.cfg.CheckoutTimeout), nil
	case errors.Is(gaveUp, errTimeOver):
		return nil, jobs.DeadlinePassed("a worker"), nil
	case gaveUp != nil:
		return nil, nil, gaveUp
	case errors.Is(err, pyproc.ErrStopped):
		return nil, nil, fmt.Errorf("checkout: %w", err) // the host is about to leave; the job is not to blame
	}
	t.unstarted = err
	if unavailable, ok := errors.AsType[*pyproc.UnavailableError](err); ok {
		t.unstarted = unavailable.Err
	}
	return nil, startError(err), nil
}

// take takes a slot, and a whole worker for a command that must run alone. Only the workers know which commands do: the first
// job that meets one gives its slot back and waits again.
func (h *Host) take(command string, want Want, wait Wait) (Slot, error) {
	_, want.Alone = h.exclusive.Load(command)
	for {
		slot, err := h.cfg.Pool.Checkout(want, wait)
		if err != nil {
			return nil, err
		}
		exclusive := slot.Exclusive(command)
		switch {
		case exclusive && !want.Alone:
			slot.Release()
			h.exclusive.Store(command, true)
			want.Alone = true
			continue
		case want.Alone && !exclusive: // this worker has another table
			h.exclusive.Delete(command)
		}
		return slot, nil
	}
}

// anonymousTenant is the tenant of anonymous jobs where slots are shared: those of all tenants come through one lane. No tenant
// has such a name.
const anonymousTenant = "(anonymous)"

// turn says whose turn it is when slots are scarce.
func (t *task) turn() fair.Key {
	k := fair.Key{Class: t.class(), Tenant: t.session.Tenant, Fresh: t.fresh}
	if t.session.ID == "" {
		k.Tenant = anonymousTenant
	}
	if t.lane == jobs.LaneBatch {
		k.Class = fair.Batch
	}
	return k
}
