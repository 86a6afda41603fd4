package sessions

import (
	"context"
	"fmt"
	"time"

	"github.com/dspex/dspex/internal/host/driver"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
	"github.com/dspex/dspex/internal/stream"
)

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
	p.jobsIdentity = taken.Identity
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

// watch returns nil when ctx ends, else why the epoch is over.
func (p *partition) watch(ctx context.Context) error {
	connected, stop := p.on.Reconnects()
	defer stop()
	comparing := time.NewTicker(compareEvery)
	defer comparing.Stop()
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
		case <-comparing.C:
			p.owned.Running.Go(func() { p.compare(ctx) })
			p.approach()
		}
	}
}

// deliver is the consumer's callback: it files a job in its session's queue. A delivery behind a gap is discarded; the reset
// brings it again, in order. The core has its turn here, not on a goroutine of its own: no more payloads come than it has taken.
func (p *partition) deliver(m stream.Delivery) {
	if !p.inOrder(m.Order) {
		return
	}
	j, ref := p.all.Drivers.Payloads.Waiting(&m)
	d, start := p.file(j, ref)
	if d == nil {
		p.all.Drivers.Payloads.Release(j)
	}
	if start {
		d.Drain()
	}
}

// file puts a job into the inbox of its session's driver: nil if the epoch is over. With start the caller drains it.
func (p *partition) file(j *lifecycle.Job, ref jobs.SessionRef) (d *driver.Driver, start bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing {
		return nil, false
	}
	d = p.sessions[ref]
	if d == nil {
		p.forgetIdle()
		d = p.earlier.heir(ref, func(waits bool) *driver.Driver { return p.newSession(ref, waits) })
		p.sessions[ref] = d
		p.all.Telemetry.Stats.Sessions.Add(1)
	}
	start, taken := d.Put(lifecycle.Event{Kind: lifecycle.Delivered, Job: j})
	if !taken {
		return nil, false
	}
	return d, start
}

// newSession makes the driver of a session. waits reports that an earlier epoch's driver still works on it.
func (p *partition) newSession(ref jobs.SessionRef, waits bool) *driver.Driver {
	return p.all.Drivers.Session(ref, scope{p}, p.epoch, p.jobsIdentity, waits)
}
