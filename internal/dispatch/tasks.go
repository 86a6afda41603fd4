package dispatch

import (
	"context"
	"log/slog"
	"time"

	"github.com/dspex/dspex/internal/dispatch/stores"

	"github.com/dspex/dspex/internal/dispatch/fleet"

	"github.com/dspex/dspex/internal/dispatch/leader"
	"github.com/dspex/dspex/internal/stream"
)

// tasks are what this dispatcher does while it leads. A new one is a line here (docs/architecture.md, "The leader's tasks").
func (d *Dispatcher) tasks() []leader.Task {
	return []leader.Task{
		{Name: "assignments", Run: d.planner.Keep},
		keepAnchored(d.broker, d.log),
		tellSteps(d.broker, d.log),
		leader.Every(totalsEach, d.log, "totals", func(ctx context.Context) error { return d.hosts.Totals.Keep(ctx, d.broker.Control, d.hosts.Live()) }),
		{Name: "deadlines", Run: d.timeouts.FollowDeadlines},
		leader.Every(stores.Pause, d.log, "results", d.probes.ShortenResults),
		{Name: "batches", Run: d.batches.Lead},
	}
}

// totalsEach is the time between two looks at what hosts have counted: so much is lost if all dispatchers end together.
const totalsEach = 5 * time.Second

// keepAnchored keeps one unconsumed message in the newest block of the jobs stream.
func keepAnchored(broker *stream.Access, log *slog.Logger) leader.Task {
	last := uint64(0) // also of an earlier time of leading
	return leader.Every(time.Second, log, "anchor", func(ctx context.Context) error {
		sequence, err := broker.StoreSequence(stream.AnchorSubject)
		if err != nil {
			return nil // the probes tell of it
		}
		ctx, cancel := context.WithTimeout(ctx, stream.AckTimeout)
		defer cancel()
		if last > 0 {
			_ = broker.DeleteMessage(ctx, stream.Jobs, last)
		} else { // those of leaders that were killed
			_ = broker.PurgeSubject(ctx, stream.Jobs, stream.AnchorSubject, 1)
		}
		last = sequence
		return nil
	})
}

// tellSteps writes down each step of the broker's clock, for processes that start later.
func tellSteps(broker *stream.Access, log *slog.Logger) leader.Task {
	told := -1 // also what was noticed before this time of leading
	return leader.Every(fleet.Tick, log, "clock", func(ctx context.Context) error {
		now := broker.Clock.Era()
		if now == told {
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, stream.AckTimeout)
		defer cancel()
		err := broker.TellSteps(ctx)
		if err == nil {
			told = now
		}
		return err
	})
}

// awaitReady calls OnReady once every partition's consumer exists, unless ctx ends before.
func (d *Dispatcher) awaitReady(ctx context.Context) {
	if d.cfg.OnReady == nil {
		return
	}
	t := time.NewTicker(fleet.Tick)
	defer t.Stop()
	for !d.cfg.PoolingOff {
		_, consumers, err := d.broker.Count(ctx, stream.Jobs)
		if err == nil && consumers >= d.view.Serving() && len(d.hosts.Live()) > 0 {
			break
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
	d.cfg.OnReady()
}
