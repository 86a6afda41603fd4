package host

import (
	"context"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
)

// driver runs one core: a session's during one epoch of its partition, or an anonymous job's. It feeds the core events and carries
// out what that decides (execute.go). One goroutine at a time does so; a driver that waits has none.
type driver struct {
	h    *Host
	ref  jobs.SessionRef
	core *lifecycle.Core // only who drains the inbox uses it
	life life

	attempts []*attempt // with a slot, or waiting for one: one, and those that are being given up; only who drains the inbox

	mu       sync.Mutex
	inbox    []lifecycle.Event
	spare    []lifecycle.Event
	draining bool
	active   bool       // there is work, or it is being looked for
	closing  bool       // no event begins anything
	ended    bool       // closing, and at rest
	until    clock.Mono // the running attempt may last so long
	jobs     int        // that wait and run
	depth    int        // jobs that wait, a call among them
	asks     map[uint32]chan<- jobs.CancelVerdict
	lastAsk  uint32
	timer    *time.Timer
	armed    clock.Mono // when the timer is due, 0: it does not run

	place place // in turns
}

// life is what a driver belongs to, and what tells it whose the work is.
type life interface {
	began(d *driver)   // it has work; called with its lock held
	rested(d *driver)  // it has none; likewise
	resting(d *driver) // likewise, without the lock
	spawn(f func())    // runs f; whoever waits for the driver's end waits for it
	context() context.Context
	look(ctx context.Context, d *driver, a *lifecycle.Action, ev *lifecycle.Event) error
	owner(ctx context.Context) (lifecycle.Owner, error)
	giveUp(o lifecycle.Owner)
	run(a *attempt) *output
	admits(a *attempt) (why lifecycle.Reason, ok bool) // the attempt may wait for a slot
	waits()                                            // an attempt waits in the pool's queue
	seated()                                           // an attempt has a slot
	alone() bool                                       // an anonymous job
}

// feed hands the core an event. It reports false if nothing is the core's business any more.
func (d *driver) feed(ev lifecycle.Event) bool {
	start, taken := d.put(ev)
	if start {
		d.life.spawn(d.drain)
	}
	return taken
}

// feedHere is feed for a goroutine that has nothing else to do.
func (d *driver) feedHere(ev lifecycle.Event) bool {
	start, taken := d.put(ev)
	if start {
		d.drain()
	}
	return taken
}

func (d *driver) put(ev lifecycle.Event) (start, taken bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return false, false
	}
	if ev.Kind == lifecycle.Ticked {
		if d.armed = 0; !d.active {
			return false, true
		}
	}
	d.inbox = append(d.inbox, ev)
	if d.draining {
		return false, true
	}
	d.draining = true
	if !d.active {
		d.active = true
		d.life.began(d)
	}
	return true, true
}

// drain feeds the core all that has come.
func (d *driver) drain() {
	var events []lifecycle.Event
	for {
		d.mu.Lock()
		if len(d.inbox) == 0 {
			break
		}
		events, d.inbox, d.spare = d.inbox, d.spare[:0], nil
		d.mu.Unlock()
		for i := range events {
			actions := d.core.Step(&events[i])
			for n := range actions {
				d.carryOut(&actions[n])
			}
		}
		clear(events)
		d.spare = events[:0]
	}
	d.draining = false
	d.until, d.jobs = d.core.RunsUntil(), d.core.Jobs()
	if n := d.core.CallsDepth(); n != d.depth && !d.life.alone() {
		d.depth = n
		d.h.telemetry.Queues.Set(d.ref, n)
	}
	rests := d.core.Quiet()
	if rests {
		d.rest()
	} else {
		d.arm()
	}
	d.mu.Unlock()
	if rests {
		d.life.resting(d)
	}
}

// rest is the end of the work, with the lock held.
func (d *driver) rest() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer, d.armed = nil, 0
	}
	d.inbox, d.spare, d.active = nil, nil, false
	d.ended = d.closing
	d.life.rested(d)
}

// soonest is the shortest time for which a timer is set.
const soonest = time.Millisecond

// arm sets the timer, with the lock held. One that is due earlier is left as it is: the core looks again then.
func (d *driver) arm() {
	at := d.core.Wake()
	now := d.h.clock.Mono()
	if at == 0 || d.armed > now && d.armed <= at {
		return
	}
	d.armed = max(at, now+soonest)
	if d.timer == nil {
		d.timer = time.AfterFunc(d.armed-now, func() { d.feedHere(lifecycle.Event{Kind: lifecycle.Ticked}) })
	} else {
		d.timer.Reset(d.armed - now)
	}
}

// close ends the epoch: what has not started does not start. It reports whether something goes on.
func (d *driver) close(gone func()) {
	d.mu.Lock()
	d.closing = true
	if !d.active {
		d.ended = true
		d.mu.Unlock()
		return
	}
	if gone != nil {
		gone()
	}
	d.mu.Unlock()
	d.feed(lifecycle.Event{Kind: lifecycle.EpochOver})
}

// cut ends the work: nothing is the core's business any more.
func (d *driver) cut() {
	d.mu.Lock()
	d.closing = true
	d.ended = !d.active
	d.mu.Unlock()
	d.feed(lifecycle.Event{Kind: lifecycle.Cut})
}

// outstanding is how many jobs wait and run here.
func (d *driver) outstanding() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return int64(d.jobs)
}

func (d *driver) idle() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.active
}

// runsBeyond reports whether the running attempt may last longer than until then.
func (d *driver) runsBeyond(then clock.Mono) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.until > then
}
