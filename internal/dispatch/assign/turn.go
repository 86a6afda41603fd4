package assign

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dspex/dspex/internal/dispatch/fleet"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// Keep plans when a host comes, goes or changes, when a partition is released, and now and then.
func (p *Planner) Keep(ctx context.Context) {
	var planned string // the hosts of the last plan
	var plannedAt time.Time
	p.swept = stream.Layout{} // others may have led meanwhile
	p.progress.begin()
	defer p.progress.end()
	if stop, err := p.answer(); err == nil {
		defer stop()
	} else {
		p.log.Warn("leader_not_served", "error", err)
	}
	woken := false
	t := time.NewTicker(fleet.Tick)
	defer t.Stop()
	for {
		if now := p.hosts.String(); woken || p.view.turned(ctx) || now != planned || time.Since(plannedAt) > reconcile {
			err := p.plan(ctx)
			p.progress.planned(err)
			if err == nil {
				planned, plannedAt, woken = now, time.Now(), false
			} else if errors.Is(err, errOvertaken) {
				woken = true
			} else if ctx.Err() == nil && !errors.Is(err, errListening) {
				p.log.Warn("assign", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-p.view.woken:
			woken = true
		}
	}
}

// plan brings every partition to the host that should have it. What no live host holds is written by compare-and-set.
// A live host is requested to release first what it holds; the release wakes the leader, who then assigns it. What a host holds that
// has not been judged stays there: it may run jobs.
func (p *Planner) plan(ctx context.Context) error {
	if len(p.hosts.Live()) == 0 {
		return nil
	}
	b, err := p.look(ctx)
	if err != nil {
		return err
	}
	if len(b.unjudged) > 0 && !p.hosts.Listened() {
		return errListening
	}
	if ready, err := p.turn(ctx, b); !ready {
		return err
	}
	return p.bring(b)
}

// The number of partitions is changed under load (docs/adr/0051-fixed-shards.md). Partitions of two layouts have sessions in common,
// so nothing of one is assigned before all of the other is given back. What has to be known is in the stream and in the
// assignments: any leader goes on with a change.

// turn makes room for the layout that is to be served. It reports whether its partitions may be assigned.
func (p *Planner) turn(ctx context.Context, b *board) (bool, error) {
	if p.swept == b.of && held(b.entries, b.of) == 0 {
		return true, nil
	}
	if rest, err := p.takeBack(b); rest || err != nil {
		return false, err
	}
	anyOf := func(e entry) bool { return e.Host != "" && e.In(b.of) }
	if b.layouts.Before > 0 && !slices.ContainsFunc(b.entries, anyOf) {
		if err := p.shut(b); err != nil {
			return false, err
		}
	}
	if err := stream.DropLayouts(ctx, p.broker.JS, b.of); err != nil {
		return false, err
	}
	p.swept = b.of
	return true, nil
}

// takeBack requests from live hosts what they hold of other layouts, and takes it from the dead. It reports whether something is left.
func (p *Planner) takeBack(b *board) (rest bool, err error) {
	requests := map[string]map[int]uint64{}
	for n := range b.entries {
		e := &b.entries[n]
		from, alive := b.known[e.Host]
		switch {
		case e.Host != "" && e.In(b.of), e.Host == "" && !e.foreign, e.foreign && n < b.of.Partitions:
			continue
		case alive && from.Releases:
			addRequest(requests, e.Host, n, e.epoch)
		case !slices.Contains(b.unjudged, e.Host):
			marker, err := p.broker.Assign.Delete(jobs.AssignmentKey(n), e.epoch)
			if err != nil {
				return true, overtaken(n, err)
			}
			p.log.Info("unassigned", "partition", n, "from", e.Host)
			*e = entry{epoch: marker}
			continue
		}
		rest = true
	}
	return rest, p.sendRequests(b, requests, false) // all others wait for it
}

// shut writes every key once more before the first partition of a layout is assigned. A leader of before that still works on its last
// plan, and saw the same entries gone, can no longer write one of its own layout then.
func (p *Planner) shut(b *board) error {
	for n := range b.entries {
		e := &b.entries[n]
		if e.epoch == 0 && n >= b.of.Partitions || e.foreign {
			continue // never used
		}
		marker, err := p.broker.Assign.Delete(jobs.AssignmentKey(n), e.epoch)
		if err != nil {
			return overtaken(n, err)
		}
		e.epoch = marker
	}
	return nil
}

func overtaken(n int, err error) error {
	if errors.Is(err, stream.ErrWrongRevision) {
		return errOvertaken
	}
	return fmt.Errorf("partition %d: %w", n, err)
}
