package dispatch

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/dspex/dspex/internal/dispatch/stores"

	"github.com/dspex/dspex/internal/dispatch/fleet"

	"github.com/dspex/dspex/internal/dispatch/leader"
	"github.com/dspex/dspex/internal/stream"
)

// reconcile is the time between looks at all assignments while no host comes or goes.
const reconcile = 5 * time.Second

// tasks are what this dispatcher does while it leads. A new one is a line here (docs/architecture.md, "The leader's tasks").
func (d *Dispatcher) tasks() []leader.Task {
	return []leader.Task{
		{Name: "assignments", Run: d.keepAssigned},
		keepAnchored(d.broker, d.log),
		tellSteps(d.broker, d.log),
		{Name: "deadlines", Run: d.timeouts.FollowDeadlines},
		leader.Every(stores.Pause, d.log, "results", d.probes.ShortenResults),
		{Name: "batches", Run: d.batches.Lead},
	}
}

// keepAssigned plans when a host comes, goes or changes, when a partition is released, and now and then.
func (d *Dispatcher) keepAssigned(ctx context.Context) {
	var planned string // the hosts of the last plan
	var plannedAt time.Time
	woken := false
	t := time.NewTicker(fleet.Tick)
	defer t.Stop()
	for {
		if now := d.hosts.String(); woken || d.turned(ctx) || now != planned || time.Since(plannedAt) > reconcile {
			if err := d.assignAll(ctx); err == nil {
				planned, plannedAt, woken = now, time.Now(), false
			} else if ctx.Err() == nil && !errors.Is(err, errListening) {
				d.log.Warn("assign", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-d.woken:
			woken = true
		}
	}
}

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
	for {
		_, consumers, err := d.broker.Count(ctx, stream.Jobs)
		if err == nil && consumers >= d.layouts().Serving.Partitions && len(d.hosts.Live()) > 0 {
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
