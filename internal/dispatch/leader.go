package dispatch

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// Lease and liveness, all on monotonic clocks.
const (
	tick       = 200 * time.Millisecond // of the leader's loop
	lease      = 10 * time.Second       // a holder unchanged for so long may be replaced; a host silent for so long is dead
	renew      = 2 * time.Second
	probeAfter = 1050 * time.Millisecond // of silence: a killed process has no responder; as long as a dispatcher listens before it moves anything
	probeGap   = 600 * time.Millisecond  // between two probes: a live host that lost its connection is back by then (stream.ConnectOptions)
	settle     = 2 * time.Second         // after this dispatcher's own reconnect, for the hosts to come back too
	reconcile  = 5 * time.Second         // between looks at all assignments while no host comes or goes
)

// lead holds the lease when it can and assigns partitions while it holds it. It returns when ctx ends.
func (d *Dispatcher) lead(ctx context.Context) {
	var l leadership
	var planned string // the hosts of the last plan
	var plannedAt time.Time
	woken := false
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		d.leads.Store(l.holds)
		d.watchErrors(l.holds)
		if leads, err := l.hold(ctx, d); err != nil {
			d.log.Debug("lease", "error", err)
		} else if leads {
			if now := d.hosts.String(); woken || d.turned(ctx) || now != planned || time.Since(plannedAt) > reconcile {
				if err := d.assignAll(ctx); err == nil {
					planned, plannedAt, woken = now, time.Now(), false
				} else if ctx.Err() == nil && !errors.Is(err, errListening) {
					d.log.Warn("assign", "error", err)
				}
			}
			d.anchor(&l)
		}
		d.checkReady(ctx)
		select {
		case <-ctx.Done():
			l.leave(d)
			return
		case <-t.C:
		case <-d.woken:
			woken = true
		}
	}
}

// leadership is one dispatcher's view of the leader lease.
type leadership struct {
	holds    bool
	rev      uint64
	seen     uint64 // last revision seen of another holder
	since    time.Time
	renewed  time.Time
	anchored time.Time
	anchor   uint64
}

// hold renews the lease, or takes it when its holder has not moved for a whole lease.
func (l *leadership) hold(ctx context.Context, d *Dispatcher) (bool, error) {
	now := time.Now()
	if l.holds && now.Sub(l.renewed) < renew {
		return true, nil
	}
	if !l.holds {
		e, err := d.control.Get(ctx, jobs.LeaderKey)
		if err != nil {
			return false, err
		}
		if e.Exists && len(e.Value) > 0 {
			if e.Revision != l.seen {
				l.seen, l.since = e.Revision, now
				return false, nil
			}
			if now.Sub(l.since) < lease {
				return false, nil
			}
		}
		l.rev = e.Revision
	}
	rev, err := d.control.PutSync(jobs.LeaderKey, []byte(d.cfg.Name), l.rev, 0)
	if err != nil {
		l.holds, l.seen, l.since = false, 0, now
		return false, err
	}
	if !l.holds {
		d.leads.Store(true)
		d.log.Info("leads", "dispatcher", d.cfg.Name)
	}
	l.holds, l.rev, l.renewed = true, rev, now
	return true, nil
}

// leave frees the lease for the next dispatcher.
func (l *leadership) leave(d *Dispatcher) {
	if l.holds {
		_, _ = d.control.PutSync(jobs.LeaderKey, nil, l.rev, 0)
	}
}

// anchor keeps one unconsumed message in the newest block of the jobs stream.
func (d *Dispatcher) anchor(l *leadership) {
	if time.Since(l.anchored) < time.Second {
		return
	}
	l.anchored = time.Now()
	ack, err := d.writer.PublishSync(&nats.Msg{Subject: stream.AnchorSubject})
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), stream.AckTimeout)
	defer cancel()
	if s, err := d.js.Stream(ctx, stream.Jobs); err == nil {
		if l.anchor > 0 {
			_ = s.DeleteMsg(ctx, l.anchor)
		} else { // those of leaders that were killed
			_ = s.Purge(ctx, jetstream.WithPurgeSubject(stream.AnchorSubject), jetstream.WithPurgeKeep(1))
		}
	}
	l.anchor = ack.Sequence
}

// checkReady calls OnReady once every partition's consumer exists.
func (d *Dispatcher) checkReady(ctx context.Context) {
	if d.cfg.OnReady == nil || d.isReady {
		return
	}
	s, err := d.js.Stream(ctx, stream.Jobs)
	if err != nil || s.CachedInfo().State.Consumers < d.layouts().Serving.Partitions || len(d.hosts.live()) == 0 {
		return
	}
	d.isReady = true
	d.cfg.OnReady()
}
