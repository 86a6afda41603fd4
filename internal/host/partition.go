package host

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// partition is one slice of the sessions during one epoch. A new epoch starts with an empty memory.
type partition struct {
	h     *Host
	n     int
	epoch uint64
	want  stream.Consumer
	ctx   context.Context // the doing of this epoch's work
	fence context.CancelCauseFunc

	mu        sync.Mutex
	sessions  map[string]*session
	next      uint64 // consumer sequence expected
	resetting bool
	closing   bool
	wg        sync.WaitGroup
}

// idleSessions bounds the sessions that a partition remembers without work; a forgotten one is read from its record.
const idleSessions = 512

// retake is the pause before a partition is taken again after a failure.
const retake = 500 * time.Millisecond

// tend owns partition n whenever the assignment names this host.
func (h *Host) tend(ctx context.Context, n int) {
	var used uint64
	for ctx.Err() == nil {
		a := h.assigned.get(n)
		if a.owner.Host != h.cfg.Name {
			wait(ctx, a.changed, 0)
			continue
		}
		epoch := a.epoch
		if a.owner.Incarnation != h.incarnation || epoch <= used {
			// Whatever ended the consumer, and at every start: taking again is a new epoch.
			e, err := h.claims.Write(jobs.AssignmentKey(n), stream.Owner{Host: h.cfg.Name, Incarnation: h.incarnation}, max(epoch, used))
			if err != nil {
				wait(ctx, a.changed, retake)
				continue
			}
			epoch = e
		}
		used = epoch
		if err := h.hold(ctx, n, epoch); err != nil && ctx.Err() == nil {
			h.log.Warn("partition_lost", "partition", n, "epoch", epoch, "error", err)
			wait(ctx, nil, retake)
		}
	}
}

func wait(ctx context.Context, c <-chan struct{}, d time.Duration) {
	var timer <-chan time.Time
	if d > 0 {
		timer = time.After(d)
	}
	select {
	case <-ctx.Done():
	case <-c:
	case <-timer:
	}
}

// hold serves one epoch of a partition: until ctx ends (running jobs finish), the assignment moves on or the consumer ends.
func (h *Host) hold(ctx context.Context, n int, epoch uint64) error {
	p := &partition{h: h, n: n, epoch: epoch, sessions: map[string]*session{}, next: 1, want: stream.Consumer{
		Key: jobs.AssignmentKey(n), Prefix: jobs.ConsumerPrefix(n), Name: jobs.ConsumerName(n, epoch),
		Filter: jobs.PartitionSubject(n, "*"), Epoch: epoch,
	}}
	p.ctx, p.fence = context.WithCancelCause(h.work)
	defer p.fence(nil)
	cons, err := h.claims.Take(ctx, p.want)
	if err != nil {
		return err
	}
	lost := make(chan error, 1)
	consuming, err := cons.Consume(p.deliver, jetstream.PullMaxMessages(256), jetstream.PullExpiry(30*time.Second),
		jetstream.PullHeartbeat(5*time.Second), jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
			if !errors.Is(err, nats.ErrConnectionClosed) && !transient(err) {
				select {
				case lost <- err:
				default:
				}
			}
		}))
	if err != nil {
		return fmt.Errorf("consume %s: %w", p.want.Name, err)
	}
	h.log.Debug("partition_taken", "partition", n, "epoch", epoch)
	err = p.watch(ctx, lost)
	if err != nil {
		p.fence(err)
	}
	consuming.Stop()
	<-consuming.Closed()
	p.mu.Lock()
	p.closing = true
	for _, s := range p.sessions {
		s.drop()
	}
	p.mu.Unlock()
	p.wg.Wait()
	return err
}

func transient(err error) bool {
	return errors.Is(err, nats.ErrTimeout) || errors.Is(err, jetstream.ErrMaxBytesExceeded)
}

// watch returns nil when ctx ends, else why the epoch is over.
func (p *partition) watch(ctx context.Context, lost <-chan error) error {
	connected := p.h.nc.StatusChanged(nats.CONNECTED)
	defer p.h.nc.RemoveStatusListener(connected)
	alive := time.NewTicker(200 * time.Second) // a third of AckWait
	defer alive.Stop()
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
		case err := <-lost:
			return err
		case <-a.changed:
		case <-connected:
			p.reset()
		case <-alive.C:
			p.keepAlive()
		}
	}
}

// reset asks for everything un-acked again: a reconnect can strand deliveries until AckWait.
func (p *partition) reset() {
	p.mu.Lock()
	if p.resetting {
		p.mu.Unlock()
		return
	}
	p.resetting = true
	p.mu.Unlock()
	p.wg.Go(func() {
		ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
		defer cancel()
		if _, err := p.h.js.ResetConsumer(ctx, stream.Jobs, p.want.Name); err != nil {
			p.fence(fmt.Errorf("reset consumer: %w", err))
		}
	})
}

// deliver is the consumer's callback: it files a job in its session's queue. A delivery behind a gap is discarded; the reset
// brings it again, in order.
func (p *partition) deliver(m jetstream.Msg) {
	meta, err := m.Metadata()
	if err != nil {
		return
	}
	p.mu.Lock()
	if p.resetting && meta.Sequence.Consumer == 1 {
		p.resetting, p.next = false, 1
	}
	if p.closing || p.resetting {
		p.mu.Unlock()
		return
	}
	if meta.Sequence.Consumer != p.next {
		p.mu.Unlock()
		p.reset()
		return
	}
	p.next++
	token, _ := jobs.SessionOfSubject(m.Subject())
	s := p.sessions[token]
	if s == nil {
		p.forgetIdle()
		s = &session{p: p, id: token}
		p.sessions[token] = s
		p.h.stats.Sessions.Add(1)
	}
	if s.add(p.h.newJob(m, meta)) {
		p.wg.Go(s.loop)
	}
	p.mu.Unlock()
}

// forgetIdle makes room; called with p.mu held.
func (p *partition) forgetIdle() {
	if len(p.sessions) < idleSessions {
		return
	}
	for id, s := range p.sessions {
		if s.idle() {
			delete(p.sessions, id)
			p.h.stats.Sessions.Add(-1)
			return
		}
	}
}

// keepAlive holds off the redelivery of running jobs.
func (p *partition) keepAlive() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sessions {
		s.inProgress()
	}
}

// mine reads the assignment again: errFenced if it moved on.
func (p *partition) mine(ctx context.Context) error {
	_, epoch, err := p.h.claims.Read(ctx, p.want.Key)
	if err != nil {
		return err
	}
	if epoch != p.epoch {
		p.fence(stream.ErrNotMine)
		return errFenced
	}
	return nil
}
