// Package driver runs the cores that decide about jobs (package lifecycle): it feeds them events and carries out what they decide.
package driver

import (
	"context"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/host/attempt"
	"github.com/dspex/dspex/internal/host/tokens"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
)

// Driver runs one core: a session's during one epoch of its partition, or an anonymous job's. One goroutine at a time does so; a
// driver that waits has none.
type Driver struct {
	Ref jobs.SessionRef

	all   *Drivers
	core  *lifecycle.Core // only who drains the inbox uses it
	scope Scope
	exec  executor

	mu       sync.Mutex
	inbox    []lifecycle.Event
	draining bool
	active   bool       // there is work, or it is being looked for
	closing  bool       // no event begins anything
	ended    bool       // closing, and at rest
	until    clock.Mono // the running attempt may last so long
	jobs     int        // that wait and run
	depth    int        // jobs that wait, a call among them
	timer    *time.Timer
	armed    clock.Mono // when the timer is due, 0: it does not run
	later    clock.Mono // a timer for then is set when it is near, 0: there is none to set

	token  *tokens.Waiter
	cancel cancellations
}

// Scope is what a driver belongs to, and what reports to it whose the work is.
type Scope interface {
	attempt.Origin
	Began(d *Driver)             // it has work; called with its lock held
	Rested(d *Driver) (end bool) // it has none, and shall get none; likewise
	Resting(d *Driver)           // it has come to rest; without the lock
	Spawn(f func())              // runs f; whoever waits for the driver's end waits for it
	Context() context.Context
	Look(ctx context.Context, d *Driver, a *lifecycle.Action, ev *lifecycle.Event) error
	Owner(ctx context.Context) (lifecycle.Owner, error)
	GiveUp(o lifecycle.Owner)
	Run(a *attempt.Attempt) *attempt.Output
}

// Feed hands the core an event. It reports false if nothing is the core's business any more.
func (d *Driver) Feed(ev lifecycle.Event) bool {
	start, taken := d.Put(ev)
	if start {
		d.scope.Spawn(d.Drain)
	}
	return taken
}

// FeedHere is Feed for a goroutine that has nothing else to do.
func (d *Driver) FeedHere(ev lifecycle.Event) bool {
	start, taken := d.Put(ev)
	if start {
		d.Drain()
	}
	return taken
}

// Put is Feed for a caller that holds locks: with start it calls Drain when it has released them.
func (d *Driver) Put(ev lifecycle.Event) (start, taken bool) {
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
		d.scope.Began(d)
	}
	return true, true
}

// buffer is what a turn at the core needs. Drivers share them: there is one for each session that was used in the last hour.
type buffer struct {
	events  []lifecycle.Event
	actions []lifecycle.Action
}

var buffers = sync.Pool{New: func() any { return new(buffer) }}

// Drain feeds the core all that has come.
func (d *Driver) Drain() {
	s := buffers.Get().(*buffer)
	defer buffers.Put(s)
	for {
		d.mu.Lock()
		if len(d.inbox) == 0 {
			break
		}
		s.events, d.inbox = d.inbox, s.events[:0]
		d.mu.Unlock()
		d.core.Follow(d.all.Rules.Now())
		for i := range s.events {
			s.actions = d.core.Step(&s.events[i], s.actions[:0])
			for n := range s.actions {
				d.exec.carryOut(&s.actions[n])
			}
			clear(s.actions)
		}
		clear(s.events)
	}
	d.draining = false
	d.until, d.jobs = d.core.RunsUntil(), d.core.Jobs()
	if n := d.core.CallsDepth(); n != d.depth && !d.scope.Anonymous() {
		d.depth = n
		d.all.Telemetry.Queues.Set(d.Ref, n)
	}
	rests := d.core.Quiet()
	switch {
	case rests:
		d.rest()
	case d.core.State() == lifecycle.AwaitToken: // perhaps for long, with 100,000 others
		d.inbox = nil
		if d.later = d.core.Wake(); d.later-d.all.On.Clock.Mono() > Near {
			d.stopTimer()
			break
		}
		fallthrough
	default:
		d.later = 0
		d.arm(d.core.Wake())
	}
	d.mu.Unlock()
	if rests {
		d.scope.Resting(d)
	}
}

// rest is the end of the work, with the lock held.
func (d *Driver) rest() {
	d.stopTimer()
	d.later = 0
	d.inbox, d.active = nil, false
	d.ended = d.scope.Rested(d) || d.closing
}

func (d *Driver) stopTimer() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer, d.armed = nil, 0
	}
}

const (
	// soonest is the shortest time for which a timer is set.
	soonest = time.Millisecond
	// Near is from when on a session that waits for its run token has a timer. Before that its partition calls Approach now and then.
	Near = time.Minute
)

// Approach sets the timer if what it is for is near by now.
func (d *Driver) Approach() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.later != 0 && d.later-d.all.On.Clock.Mono() <= Near {
		d.arm(d.later)
		d.later = 0
	}
}

// arm sets the timer, with the lock held; 0 is never. One that is due earlier is left as it is: the core looks again then.
func (d *Driver) arm(at clock.Mono) {
	if at == 0 {
		return
	}
	now := d.all.On.Clock.Mono()
	if d.armed > now && d.armed <= at {
		return
	}
	d.armed = max(at, now+soonest)
	if d.timer == nil {
		d.timer = time.AfterFunc(d.armed-now, func() { d.FeedHere(lifecycle.Event{Kind: lifecycle.Ticked}) })
	} else {
		d.timer.Reset(d.armed - now)
	}
}

// Close ends the epoch: what has not started does not start. gone is called if something goes on.
func (d *Driver) Close(gone func()) {
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
	d.Feed(lifecycle.Event{Kind: lifecycle.EpochOver})
}

// Cut ends the work: nothing is the core's business any more.
func (d *Driver) Cut() {
	d.mu.Lock()
	d.closing = true
	d.ended = !d.active
	d.mu.Unlock()
	d.Feed(lifecycle.Event{Kind: lifecycle.Cut})
}

// Outstanding is how many jobs wait and run here.
func (d *Driver) Outstanding() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return int64(d.jobs)
}

// Idle reports that it has no work.
func (d *Driver) Idle() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.active
}

// RunsBeyond reports whether the running attempt may last longer than until then.
func (d *Driver) RunsBeyond(then clock.Mono) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.until > then
}

// Forgettable reports that it has no work, and that nothing of the session is known.
func (d *Driver) Forgettable() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.active && !d.core.Known()
}

// executor carries out what a core has decided. Only who drains the driver's inbox uses it.
type executor struct {
	d        *Driver
	attempts attempts
}

// attempts are those with a slot, or waiting for one: one, and those that are being given up.
type attempts []*attempt.Attempt

// Cancel ends the earliest outstanding job of an id.
func (d *Driver) Cancel(ctx context.Context, id string) jobs.CancelVerdict {
	answer := make(chan jobs.CancelVerdict, 1)
	op := d.cancel.enter(answer)
	defer d.cancel.leave(op)
	if !d.Feed(lifecycle.Event{Kind: lifecycle.CancelRequested, Op: op, ID: id}) {
		return jobs.CancelUnknown
	}
	ctx, cancel := context.WithTimeout(ctx, cancelTimeout)
	defer cancel()
	select {
	case v := <-answer:
		return v
	case <-ctx.Done():
		return jobs.CancelBusy
	}
}

// Session makes the driver of a session in one epoch. waits reports that an earlier epoch's driver still works on it.
func (all *Drivers) Session(ref jobs.SessionRef, scope Scope, epoch uint64, jobsIdentity int64, waits bool) *Driver {
	return all.driver(ref, scope, lifecycle.NewSession(all.Rules.Now(), ref, epoch, jobsIdentity, waits))
}

// Anonymous makes the driver of a job without session. since reports which jobs can have no earlier attempts if they come for the first
// time, began when the delivery was requested.
func (all *Drivers) Anonymous(ref jobs.SessionRef, scope Scope, since lifecycle.Moment, began clock.Mono) *Driver {
	return all.driver(ref, scope, lifecycle.NewAnonymous(all.Rules.Now(), ref, since, began))
}

func (all *Drivers) driver(ref jobs.SessionRef, scope Scope, core *lifecycle.Core) *Driver {
	d := &Driver{Ref: ref, all: all, scope: scope, core: core}
	d.exec.d = d
	d.token = tokens.NewWaiter(ref.Tenant, func(k tokens.Kind) bool {
		return d.Feed(lifecycle.Event{Kind: lifecycle.TokenGranted, Token: uint8(k)})
	})
	return d
}
