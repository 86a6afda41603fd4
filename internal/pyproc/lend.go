package pyproc

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/dspex/dspex/internal/fair"
	"github.com/dspex/dspex/internal/pyproc/proc"
)

// Option changes what Checkout requests.
type Option struct {
	alone bool
	avoid string
	turn  *fair.Key
}

// Alone requests a whole worker: all its slots, once nothing else runs in it.
var Alone = Option{alone: true}

// Avoid takes the worker of that name only if no other has a free slot, also if it is the preferred one. A whole worker
// (Alone) is whichever is free first.
func Avoid(worker string) Option { return Option{avoid: worker} }

// Turn reports whose turn it is when slots are scarce. Without it a Checkout waits as the call of a tenant without a name.
func Turn(key fair.Key) Option { return Option{turn: &key} }

// Checkout takes a slot: of the worker with the id prefer if it lives and has one free, else of the least loaded worker.
// It waits for its turn, by Turn and then by arrival, and fails with ctx's error, with ErrStopped, or with *UnavailableError when no worker
// can be started. prefer 0 prefers none. The caller must Release the slot.
func (p *Pool) Checkout(ctx context.Context, prefer uint64, opts ...Option) (*Slot, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return p.CheckoutFunc(prefer, waitFor(ctx), opts...)
}

// Wait is a caller's own way to wait: it returns nil once ready is, or an error to give up with. Where it is called with a
// channel that is ready already it only reports whether to give up.
type Wait func(ready <-chan struct{}) error

func waitFor(ctx context.Context) Wait {
	return func(ready <-chan struct{}) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		select {
		case <-ready:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// CheckoutFunc is Checkout for a caller who has other things to do while it waits: wait is called on the caller's goroutine,
// and only if no slot is free.
func (p *Pool) CheckoutFunc(prefer uint64, wait Wait, opts ...Option) (*Slot, error) {
	var all Option
	for _, o := range opts {
		all = Option{alone: all.alone || o.alone, avoid: cmp.Or(o.avoid, all.avoid), turn: cmp.Or(o.turn, all.turn)}
	}
	turn := fair.Key{}
	if all.turn != nil {
		turn = *all.turn
	}
	if p.cfg.Basic {
		prefer = 0
	}
	p.mu.Lock()
	if err := p.refusalLocked(); err != nil {
		p.mu.Unlock()
		return nil, err
	}
	if !all.alone && p.waitingLocked() == 0 && turn.Class <= p.servedLocked() {
		if w := p.pickLocked(prefer, all.avoid); w != nil {
			slot := p.takeLocked(w, 1, turn.Class)
			p.mu.Unlock()
			return slot, nil
		}
	}
	q := &waiter{prefer: prefer, avoid: all.avoid, alone: all.alone, class: turn.Class, ready: make(chan struct{})}
	q.at = p.waiters.Push(turn, q)
	p.grantLocked()
	if q.slot == nil {
		p.replanLocked() // it may be time for a worker more
	}
	p.mu.Unlock()
	return p.wait(wait, q)
}

func (p *Pool) wait(wait Wait, q *waiter) (*Slot, error) {
	err := wait(q.ready)
	if err == nil {
		return q.slot, q.err
	}
	p.mu.Lock()
	granted := q.slot
	if granted == nil && q.err == nil {
		p.unqueueLocked(q)
		p.grantLocked() // the worker that was kept for q may serve others
		p.moreRoomLocked()
	}
	waiting, size := p.waitingLocked(), p.targetLocked()
	p.mu.Unlock()
	if granted != nil {
		granted.Release()
	}
	return nil, fmt.Errorf("pyproc: no free slot in %d workers (%d others wait): %w", size, waiting, err)
}

func (p *Pool) waitingLocked() int { return p.waiters.Len() + len(p.turned) }

// unqueueLocked lets a waiter wait no longer.
func (p *Pool) unqueueLocked(q *waiter) {
	p.waiters.Remove(q.at)
	if q.turned {
		p.turned = slices.DeleteFunc(p.turned, func(o *waiter) bool { return o == q })
	}
	q.unreserveLocked()
}

func (q *waiter) unreserveLocked() {
	if q.reserved != nil {
		q.reserved.reserved = nil
		q.reserved = nil
	}
}

// refusalLocked reports why waiting would be in vain.
func (p *Pool) refusalLocked() error {
	if p.stopping {
		return ErrStopped
	}
	var next time.Time
	var last error
	for _, s := range p.supervisors {
		if !s.wanted {
			continue
		}
		if !s.quarantined {
			return nil
		}
		if next.IsZero() || s.until.Before(next) {
			next, last = s.until, s.startErr
		}
	}
	if last == nil {
		return nil // no supervisors: Run reports that the Config is wrong
	}
	return &UnavailableError{RetryAfter: max(0, time.Until(next)), Err: last}
}

func (p *Pool) refuseWaitersLocked(err error) {
	for len(p.turned) > 0 {
		p.answerLocked(p.turned[0], nil, err)
	}
	for e := p.waiters.Next(); e != nil; e = p.waiters.Next() {
		p.answerLocked(e.Value, nil, err)
	}
}

func (p *Pool) answerLocked(q *waiter, slot *Slot, err error) {
	p.unqueueLocked(q)
	q.slot, q.err = slot, err
	close(q.ready)
}

// grantLocked serves waiters by turn. A waiter that needs a worker alone has one reserved when its turn comes, and lets others
// pass to the rest. The first that cannot be served at all ends the round.
func (p *Pool) grantLocked() {
	for _, q := range slices.Clone(p.turned) {
		p.aloneLocked(q)
	}
	for e := p.waiters.NextUpTo(p.servedLocked()); e != nil; e = p.waiters.NextUpTo(p.servedLocked()) {
		q := e.Value
		if q.alone {
			if !p.reserveLocked(q) {
				return
			}
			p.waiters.Serve(e)
			q.turned = true
			p.turned = append(p.turned, q)
			p.aloneLocked(q)
			continue
		}
		w := p.pickLocked(q.prefer, q.avoid)
		if w == nil {
			return
		}
		p.waiters.Serve(e)
		p.answerLocked(q, p.takeLocked(w, 1, q.class), nil)
	}
}

// aloneLocked gives a waiter its whole worker once nothing else runs there. Until then it moves to another that is less loaded,
// unless it prefers the one it has.
func (p *Pool) aloneLocked(q *waiter) {
	if q.reserved == nil || q.reserved.used > 0 { // another may be free, or nearly so, by now
		q.unreserveLocked()
		if !p.reserveLocked(q) {
			return
		}
	}
	if w := q.reserved; w.used == 0 {
		p.answerLocked(q, p.takeLocked(w, w.slots, q.class), nil)
	}
}

// pickLocked returns the worker that a single slot should come from, nil if none has one.
func (p *Pool) pickLocked(prefer uint64, avoid string) *worker {
	var best, last *worker
	for _, s := range p.supervisors {
		switch {
		case s.freeLocked() <= 0:
		case s.name == avoid:
			last = s.w
		case s.w.id == prefer:
			return s.w
		case best == nil || s.w.used < best.used:
			best = s.w
		}
	}
	return cmp.Or(best, last)
}

// reserveLocked keeps the preferred or least loaded worker for q.
func (p *Pool) reserveLocked(q *waiter) bool {
	var best *worker
	for _, s := range p.supervisors {
		if s.w == nil || !s.w.open || s.w.reserved != nil {
			continue
		}
		if best == nil || s.w.id == q.prefer || best.id != q.prefer && s.w.used < best.used {
			best = s.w
		}
	}
	if best == nil {
		return false
	}
	q.reserved, best.reserved = best, q
	return true
}

// servedLocked is the last class that may take a slot: published jobs leave some to calls, though never all.
func (p *Pool) servedLocked() fair.Class {
	open, published := 0, 0
	for _, s := range p.supervisors {
		if s.w != nil && s.w.open {
			open += s.w.slots
			published += s.w.published
		}
	}
	if published > 0 && published >= open-fair.Reserve(p.limits.Size*p.slotsLocked()) {
		return fair.Call
	}
	return fair.Batch
}

func (p *Pool) takeLocked(w *worker, n int, class fair.Class) *Slot {
	w.used += n
	if class != fair.Call {
		w.published += n
	}
	p.liveLocked(w)
	p.pressedLocked()
	return &Slot{w: w, n: n, class: class}
}

// giveBack returns a slot's share to its worker.
func (p *Pool) giveBack(s *Slot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.w.used -= s.n
	if s.class != fair.Call {
		s.w.published -= s.n
	}
	p.liveLocked(s.w)
	if s.w.used == 0 && s.w.supervisor.state == Draining {
		proc.Poke(s.w.look) // it was its last
	}
	p.grantLocked()
	p.moreRoomLocked()
}

// countCancelling notes calls that were given up (+1) and have come to their end (-1).
func (p *Pool) countCancelling(w *worker, by int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w.cancelling += by
	p.liveLocked(w)
}

// liveLocked moves a worker that takes calls between Idle, Busy and Cancelling.
func (p *Pool) liveLocked(w *worker) {
	switch {
	case !w.open:
	case w.cancelling > 0:
		p.moveLocked(w.supervisor, Cancelling, nil)
	case w.used > 0:
		p.moveLocked(w.supervisor, Busy, nil)
	default:
		p.moveLocked(w.supervisor, Idle, nil)
	}
}

// shut lets a worker take no more calls. Slots that are out stay out.
func (p *Pool) shut(w *worker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shutLocked(w)
	p.replanLocked()
}

func (p *Pool) shutLocked(w *worker) {
	w.open = false
	if w.reserved != nil {
		w.reserved.unreserveLocked()
	}
}

// retire lets a worker take no more calls and reports why: Draining or Stopping. Its supervisor may start another one.
func (p *Pool) retire(w *worker, to State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retireLocked(w, to)
	p.replanLocked()
}

func (p *Pool) retireLocked(w *worker, to State) {
	p.shutLocked(w)
	w.supervisor.wanted = false
	p.moveLocked(w.supervisor, to, nil)
	proc.Poke(w.look)
}

// drainedOut reports whether a worker that drains has nothing left to do.
func (p *Pool) drainedOut(w *worker) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return w.supervisor.state == Draining && w.used == 0
}
