package host

import (
	"context"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
	"github.com/dspex/dspex/internal/stream"
)

// retake is the pause before a partition is taken again after a failure.
const retake = 500 * time.Millisecond

// tendAll looks after every partition, from when it is first heard of.
func (h *Host) tendAll(ctx context.Context, wg *sync.WaitGroup) {
	for {
		select {
		case <-ctx.Done():
			return
		case n := <-h.assigned.found:
			wg.Go(func() { h.tend(ctx, n) })
		}
	}
}

// tend owns partition n whenever the assignment names this host.
func (h *Host) tend(ctx context.Context, n int) {
	var used uint64
	for ctx.Err() == nil {
		a := h.assigned.get(n)
		if a.owner.Host != h.cfg.Name {
			wait(ctx, a.changed, 0)
			continue
		}
		used = h.own(ctx, n, used)
		if h.giveBack(ctx, n, used) {
			wait(ctx, a.changed, retake)
		}
	}
}

// tenure is the time in which a partition is assigned to this host without a break. It may last for several epochs: each
// loss of the consumer begins a new one. Running jobs outlive an epoch, since the record decides about their outcome; they
// end with the tenure.
type tenure struct {
	h       *Host
	n       int
	ctx     context.Context // the doing
	fence   context.CancelCauseFunc
	leave   context.CancelFunc // ends the taking: the partition is released when its running jobs have ended
	wg      sync.WaitGroup
	earlier earlier
}

// earlier are the sessions of earlier epochs that still work.
type earlier struct {
	mu    sync.Mutex
	of    map[jobs.SessionRef]map[*driver]bool
	heirs map[jobs.SessionRef]*driver // of the present epoch, which wait for them
}

func (e *earlier) add(d *driver) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.of[d.ref] == nil {
		e.of[d.ref] = map[*driver]bool{}
	}
	e.of[d.ref][d] = true
}

// heir makes the session's driver of a new epoch, which waits for those of earlier ones.
func (e *earlier) heir(ref jobs.SessionRef, made func(waits bool) *driver) *driver {
	e.mu.Lock()
	defer e.mu.Unlock()
	waits := len(e.of[ref]) > 0
	d := made(waits)
	if waits {
		e.heirs[ref] = d
	}
	return d
}

// rested notes that a driver has come to rest. If it was the last that somebody waits for, that one may begin.
func (e *earlier) rested(d *driver) {
	e.mu.Lock()
	var heir *driver
	if all := e.of[d.ref]; all[d] {
		if delete(all, d); len(all) == 0 {
			heir = e.heirs[d.ref]
			delete(e.of, d.ref)
			delete(e.heirs, d.ref)
		}
	}
	e.mu.Unlock()
	if heir != nil {
		heir.feed(lifecycle.Event{Kind: lifecycle.PredecessorGone})
	}
}

// cut ends their work.
func (e *earlier) cut() {
	var left []*driver
	e.mu.Lock()
	for _, all := range e.of {
		for d := range all {
			left = append(left, d)
		}
	}
	e.mu.Unlock()
	for _, d := range left {
		d.cut()
	}
}

// own serves partition n, epoch after epoch, until it is assigned to another host, it is to be released or ctx ends. used is
// the last epoch that this host has used; own returns the new one. It returns when everything that it started has ended.
func (h *Host) own(ctx context.Context, n int, used uint64) uint64 {
	t := &tenure{h: h, n: n, earlier: earlier{of: map[jobs.SessionRef]map[*driver]bool{}, heirs: map[jobs.SessionRef]*driver{}}}
	t.ctx, t.fence = context.WithCancelCause(h.work)
	ctx, t.leave = context.WithCancel(ctx)
	defer t.leave()
	defer context.AfterFunc(t.ctx, t.earlier.cut)()
	h.tenures.Store(n, t)
	defer h.tenures.Delete(n)
	ended := make(chan struct{})
	var guard sync.WaitGroup
	guard.Go(func() { t.guard(ended) })
	for ctx.Err() == nil && t.ctx.Err() == nil {
		a := h.assigned.get(n)
		if a.owner.Host != h.cfg.Name {
			break
		}
		epoch := a.epoch
		if a.owner.Incarnation != h.incarnation || epoch <= used {
			// Whatever ended the consumer, and at every start: taking again is a new epoch.
			e, err := h.claims.Write(jobs.AssignmentKey(n), stream.Owner{Host: h.cfg.Name, Incarnation: h.incarnation, Layout: a.owner.Layout}, max(epoch, used))
			if err != nil {
				wait(t.ctx, a.changed, retake)
				continue
			}
			epoch = e
		}
		used = epoch
		if err := t.hold(ctx, epoch, a.owner.Layout); err != nil && ctx.Err() == nil {
			h.log.Warn("partition_epoch_ends", "partition", n, "epoch", epoch, "error", err)
			wait(t.ctx, nil, retake)
		}
	}
	t.wg.Wait()
	t.fence(nil)
	close(ended)
	guard.Wait()
	return used
}

// guard ends the doing as soon as the partition is assigned to another host, also while a leaving host finishes its jobs.
func (t *tenure) guard(ended <-chan struct{}) {
	for {
		a := t.h.assigned.get(t.n)
		if a.owner.Host != t.h.cfg.Name && a.epoch > 0 {
			t.fence(stream.ErrNotMine)
			return
		}
		select {
		case <-ended:
			return
		case <-t.ctx.Done():
			return
		case <-a.changed:
		}
	}
}

// wait returns when ctx ends, c is ready or d is over; a d of 0 has no end.
func wait(ctx context.Context, c <-chan struct{}, d time.Duration) {
	var due <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
	case <-c:
	case <-due:
	}
}
