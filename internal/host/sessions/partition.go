package sessions

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dspex/dspex/internal/host/driver"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
	"github.com/dspex/dspex/internal/stream"
)

// partition is one slice of the sessions during one epoch. A new epoch starts with an empty memory.
type partition struct {
	*service
	epoch uint64
	want  stream.Consumer
	life  int64        // identity of the DSPEX_JOBS that its sequences count in
	lost  chan error   // why the epoch ends
	busy  atomic.Int64 // sessions with work

	mu        sync.Mutex
	sessions  map[jobs.SessionRef]*driver.Driver
	next      uint64    // consumer sequence expected
	resetting bool      // deliveries count for nothing until the first one after a reset
	asking    bool      // askReset runs
	again     bool      // and has to ask (once more)
	answered  time.Time // local clock: the last reset was
	closing   bool
}

// idleSessions bounds the sessions that a partition keeps without work; a dropped one is read from its record.
const idleSessions = 256

// Epoch implements ownership.Service.
func (s *service) Epoch(ctx context.Context, epoch uint64, subjects []string) error {
	n := s.owned.N
	p := newPartition(s, epoch)
	p.want = stream.Consumer{
		Key: jobs.AssignmentKey(n), Prefix: jobs.ConsumerPrefix(n), Name: jobs.ConsumerName(n, epoch),
		Filters: subjects, Epoch: epoch,
	}
	defer context.AfterFunc(s.owned.Work, p.shut)()
	taken, err := s.on.Claims.Take(ctx, p.want)
	if err != nil {
		return err
	}
	p.life = taken.Life
	stop, err := taken.Consume(p.deliver, p.end)
	if err != nil {
		return err
	}
	s.on.Log.Debug("partition_taken", "partition", n, "epoch", epoch)
	s.all.parts.Store(n, p)
	err = p.watch(ctx)
	s.all.parts.CompareAndDelete(n, p)
	stop()
	p.shut()
	return err
}

func newPartition(s *service, epoch uint64) *partition {
	return &partition{service: s, epoch: epoch, sessions: map[jobs.SessionRef]*driver.Driver{}, next: 1, lost: make(chan error, 1)}
}

// end reports why the epoch is over; the first reason counts.
func (p *partition) end(err error) {
	select {
	case p.lost <- err:
	default:
	}
}

// shut lets nothing start any more: it drops what waits, and hands the sessions that still run to the ownership; their jobs
// come again in the next epoch. When the work has ended, they end too.
func (p *partition) shut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing {
		return
	}
	p.closing = true
	for _, d := range p.sessions {
		d.Close(func() { p.earlier.add(d) })
		if p.owned.Work.Err() != nil {
			d.Cut()
		}
	}
	p.all.Telemetry.Stats.Sessions.Add(-int64(len(p.sessions)))
}

// watch returns nil when ctx ends, else why the epoch is over.
func (p *partition) watch(ctx context.Context) error {
	connected, stop := p.on.Reconnects()
	defer stop()
	for {
		newest, changed := p.owned.Moved()
		if newest > p.epoch {
			return fmt.Errorf("%w: assignment went on to epoch %d", stream.ErrNotMine, newest)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-p.owned.Work.Done():
			return context.Cause(p.owned.Work)
		case err := <-p.lost:
			return err
		case <-changed:
		case <-connected:
			p.reset()
		}
	}
}

// deliver is the consumer's callback: it files a job in its session's queue. A delivery behind a gap is discarded; the reset
// brings it again, in order.
func (p *partition) deliver(m stream.Delivery) {
	if !p.inOrder(m.Order) {
		return
	}
	j, ref := p.all.Drivers.Payloads.Waiting(&m)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing {
		p.all.Drivers.Payloads.Release(j)
		return
	}
	d := p.sessions[ref]
	if d == nil {
		p.forgetIdle()
		d = p.earlier.heir(ref, func(waits bool) *driver.Driver { return p.newSession(ref, waits) })
		p.sessions[ref] = d
		p.all.Telemetry.Stats.Sessions.Add(1)
	}
	if !d.Feed(lifecycle.Event{Kind: lifecycle.Delivered, Job: j}) {
		p.all.Drivers.Payloads.Release(j)
	}
}

// holders are the drivers of a session that this host has in memory, those of earlier epochs first.
func (p *partition) holders(ref jobs.SessionRef) []*driver.Driver {
	all := p.earlier.working(ref)
	p.mu.Lock()
	defer p.mu.Unlock()
	if d := p.sessions[ref]; d != nil {
		all = append(all, d)
	}
	return all
}

// forgetIdle makes room; called with p.mu held.
func (p *partition) forgetIdle() {
	if len(p.sessions) < idleSessions {
		return
	}
	for ref, d := range p.sessions {
		if d.Idle() {
			p.forget(ref)
			return
		}
	}
}

// drop removes a session without work from memory; called with p.mu held.
func (p *partition) forget(ref jobs.SessionRef) {
	delete(p.sessions, ref)
	p.all.Telemetry.Stats.Sessions.Add(-1)
}
