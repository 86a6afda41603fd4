package host

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
	"github.com/dspex/dspex/internal/stream"
)

// partition is one slice of the sessions during one epoch. A new epoch starts with an empty memory.
type partition struct {
	*tenure
	epoch uint64
	want  stream.Consumer
	life  int64        // creation time (ns) of the DSPEX_JOBS that its sequences count in
	lost  chan error   // why the epoch ends
	busy  atomic.Int64 // sessions with work

	mu        sync.Mutex
	sessions  map[jobs.SessionRef]*driver
	next      uint64    // consumer sequence expected
	resetting bool      // deliveries count for nothing until the first one after a reset
	asking    bool      // askReset runs
	again     bool      // and has to ask (once more)
	answered  time.Time // local clock: the last reset was
	closing   bool
}

// idleSessions bounds the sessions that a partition remembers without work; a forgotten one is read from its record.
const idleSessions = 256

// hold serves one epoch: until ctx ends, the assignment moves on or the consumer ends. Jobs that run go on.
func (t *tenure) hold(ctx context.Context, epoch uint64, layout string) error {
	n := t.n
	p := &partition{tenure: t, epoch: epoch, sessions: map[jobs.SessionRef]*driver{}, next: 1, lost: make(chan error, 1),
		want: stream.Consumer{
			Key: jobs.AssignmentKey(n), Prefix: jobs.ConsumerPrefix(n), Name: jobs.ConsumerName(n, epoch),
			Filter: jobs.PartitionPrefix(layout, n) + ">", Epoch: epoch,
		}}
	defer context.AfterFunc(t.ctx, p.shut)()
	cons, life, err := t.h.claims.Take(ctx, p.want)
	if err != nil {
		return err
	}
	p.life = life
	consuming, err := cons.Consume(p.deliver, jetstream.PullMaxMessages(256), jetstream.PullExpiry(30*time.Second),
		jetstream.PullHeartbeat(5*time.Second), jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
			if !errors.Is(err, nats.ErrConnectionClosed) && !transient(err) {
				p.end(err)
			}
		}))
	if err != nil {
		return fmt.Errorf("consume %s: %w", p.want.Name, err)
	}
	t.h.log.Debug("partition_taken", "partition", n, "epoch", epoch)
	t.h.parts.Store(n, p)
	err = p.watch(ctx)
	t.h.parts.CompareAndDelete(n, p)
	consuming.Stop()
	<-consuming.Closed()
	p.shut()
	return err
}

// end tells the epoch why it is over; the first reason counts.
func (p *partition) end(err error) {
	select {
	case p.lost <- err:
	default:
	}
}

// shut lets nothing start any more: it forgets what waits, and hands the sessions that still run to the tenure; their jobs
// come again in the next epoch. When the doing has ended, they end too.
func (p *partition) shut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing {
		return
	}
	p.closing = true
	for _, d := range p.sessions {
		d.close(func() { p.earlier.add(d) })
		if p.ctx.Err() != nil {
			d.cut()
		}
	}
	p.h.telemetry.Stats.Sessions.Add(-int64(len(p.sessions)))
}

func transient(err error) bool {
	return errors.Is(err, nats.ErrTimeout) || errors.Is(err, jetstream.ErrMaxBytesExceeded)
}

// watch returns nil when ctx ends, else why the epoch is over.
func (p *partition) watch(ctx context.Context) error {
	connected := p.h.nc.StatusChanged(nats.CONNECTED)
	defer p.h.nc.RemoveStatusListener(connected)
	for {
		a := p.h.assigned.get(p.n)
		if a.epoch > p.epoch {
			return fmt.Errorf("%w: assignment went on to epoch %d", stream.ErrNotMine, a.epoch)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-p.ctx.Done():
			return context.Cause(p.ctx)
		case err := <-p.lost:
			return err
		case <-a.changed:
		case <-connected:
			p.reset()
		}
	}
}

// reset asks for everything un-acked again: a reconnect can strand deliveries until AckWait. It asks anew each time, also
// while nothing has come since the last reset: what came may have been lost with the connection.
func (p *partition) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing {
		return
	}
	p.resetting, p.again = true, true
	if !p.asking {
		p.asking = true
		p.wg.Go(p.askReset)
	}
}

func (p *partition) askReset() {
	for p.wantsReset() {
		ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
		_, err := p.h.js.ResetConsumer(ctx, stream.Jobs, p.want.Name)
		cancel()
		if err != nil {
			p.end(fmt.Errorf("reset consumer: %w", err))
		}
		p.mu.Lock()
		p.answered = time.Now()
		p.mu.Unlock()
	}
}

func (p *partition) wantsReset() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asking = p.again && !p.closing
	p.again = false
	return p.asking
}

// deliver is the consumer's callback: it files a job in its session's queue. A delivery behind a gap is discarded; the reset
// brings it again, in order.
func (p *partition) deliver(m jetstream.Msg) {
	meta, err := m.Metadata()
	if err != nil {
		return
	}
	if !p.inOrder(meta.Sequence.Consumer) {
		return
	}
	j, ref := p.h.newJob(m, meta)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing {
		p.h.release(j)
		return
	}
	d := p.sessions[ref]
	if d == nil {
		p.forgetIdle()
		d = p.earlier.heir(ref, func(waits bool) *driver { return p.newSession(ref, waits) })
		p.sessions[ref] = d
		p.h.telemetry.Stats.Sessions.Add(1)
	}
	if !d.feed(lifecycle.Event{Kind: lifecycle.Delivered, Job: j}) {
		p.h.release(j)
	}
}

// resetPatience is how long after a reset deliveries may come that were under way before; later the first one behind it is lost.
const resetPatience = 5 * time.Second

// inOrder judges a delivery by its consumer sequence: one puller gets all of them, so a gap is a loss.
func (p *partition) inOrder(sequence uint64) bool {
	p.mu.Lock()
	if p.resetting && sequence == 1 {
		p.resetting, p.next = false, 1
	}
	gap := !p.resetting && sequence != p.next
	ok := !p.closing && !p.resetting && !gap
	if ok {
		p.next++
	}
	lost := p.resetting && !p.asking && time.Since(p.answered) > resetPatience
	p.mu.Unlock()
	if gap || lost {
		p.reset()
	}
	return ok
}

// forgetIdle makes room; called with p.mu held.
func (p *partition) forgetIdle() {
	if len(p.sessions) < idleSessions {
		return
	}
	for ref, d := range p.sessions {
		if d.idle() {
			p.forget(ref)
			return
		}
	}
}

// forget drops a session without work from memory; called with p.mu held.
func (p *partition) forget(ref jobs.SessionRef) {
	delete(p.sessions, ref)
	p.h.telemetry.Stats.Sessions.Add(-1)
}
