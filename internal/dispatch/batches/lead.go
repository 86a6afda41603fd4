package batches

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/batch"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// Times and bounds of the leader's part.
const (
	leadPause    = 200 * time.Millisecond // between two looks at what is to be done
	housePause   = 2 * time.Second        // between two looks at what is to be removed
	runsOfTenant = 4                      // batches of a tenant that run at a time; the others wait for their turn, the first submitted first
	runs         = 64                     // of all tenants
	furtherRuns  = 32                     // of all tenants, beside which another one of a tenant begins that has some
	clearTimeout = 30 * time.Second
	goneLifetime = time.Hour // of the note that a batch was removed
)

// Follow keeps up with all batches until ctx ends. Every dispatcher does.
func (s *Service) Follow(ctx context.Context) {
	s.Access.Follow(ctx, stream.Batches, batch.RecordKeys, s.see)
}

// Lead runs batches until ctx ends: while this dispatcher leads.
func (s *Service) Lead(ctx context.Context) { leader{s.store}.run(ctx) }

// leader is what the leading dispatcher alone does.
type leader struct{ *store }

func (s leader) run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	var mu sync.Mutex
	active := map[string]*use{} // by record key
	housed := time.Time{}
	t := time.NewTicker(leadPause)
	defer t.Stop()
	for {
		mu.Lock()
		due := s.due(active)
		for _, h := range due {
			lane := &use{tenant: h.rec.Tenant}
			lane.wants.Store(int64(h.rec.Concurrency))
			active[batch.RecordKey(h.rec.Tenant, h.rec.Batch)] = lane
		}
		s.divide(active)
		for _, h := range due {
			key := batch.RecordKey(h.rec.Tenant, h.rec.Batch)
			lane := active[key]
			running.Go(func() {
				s.serve(ctx, h, lane)
				mu.Lock()
				delete(active, key)
				mu.Unlock()
			})
		}
		mu.Unlock()
		if time.Since(housed) >= housePause {
			s.keepHouse(ctx)
			housed = time.Now()
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// due are the batches to begin with: those submitted first, a tenant's share each.
func (s leader) due(active map[string]*use) (due []*held) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*held
	for key, h := range s.known {
		if _, runs := active[key]; h.rec.Waits() && !runs {
			all = append(all, h)
		}
	}
	slices.SortFunc(all, func(a, b *held) int { return a.rec.Submitted.Compare(b.rec.Submitted) })
	of := map[string]int{}
	for _, a := range active {
		of[a.tenant]++
	}
	for _, h := range all {
		// What is cancelled or has ended takes little, and waits for nobody.
		if n := len(active) + len(due); h.rec.Phase == batch.Running && !mayRun(of[h.rec.Tenant], n) {
			continue
		}
		of[h.rec.Tenant]++
		due = append(due, h)
	}
	return due
}

// mayRun reports whether a batch may begin: its tenant has some that run, and all tenants together have.
func mayRun(ofTenant, ofAll int) bool {
	if ofTenant == 0 {
		return ofAll < runs
	}
	return ofTenant < runsOfTenant && ofAll < furtherRuns
}

// keepHouse cancels what runs for too long, and removes what has had its time.
func (s leader) keepHouse(ctx context.Context) {
	s.mu.Lock()
	all := make([]*held, 0, len(s.known))
	for _, h := range s.known {
		all = append(all, h)
	}
	s.mu.Unlock()
	for _, h := range all {
		if ctx.Err() != nil {
			return
		}
		rec := *h.rec
		switch rec.Phase {
		case batch.Running:
			if s.Clock.Age(rec.Submitted) < longestRun {
				continue
			}
			rec.Phase = batch.Cancelling
		case batch.Uploading:
			if s.Clock.Age(rec.Created) < uploadLifetime {
				continue
			}
			rec.Phase = batch.Removing
		case batch.Ended:
			if !rec.Announced || s.Clock.Age(rec.Finished) < rec.Keep {
				continue
			}
			rec.Phase = batch.Removing
		case batch.Removing:
			s.clear(ctx, h)
			continue
		default:
			continue
		}
		if _, err := s.write(&rec, h.rev); err != nil && !errors.Is(err, stream.ErrWrongRevision) {
			s.Log.Debug("batch_not_changed", "batch", rec.Batch, "error", err)
		}
	}
}

// clear removes all that belongs to a batch, its record last: an empty one stays for a while, which notifies all followers.
func (s leader) clear(ctx context.Context, h *held) {
	ctx, cancel := context.WithTimeout(ctx, clearTimeout)
	defer cancel()
	for _, keys := range batch.OwnKeys(h.rec.Tenant, h.rec.Key) {
		if err := s.Batches.Remove(ctx, keys); err != nil {
			s.Log.Warn("batch_not_removed", "batch", h.rec.Batch, "error", err)
			return
		}
	}
	if err := s.Vault.Erase(ctx, jobs.BatchObjectNames(h.rec.Tenant, h.rec.Key)); err != nil {
		s.Log.Warn("batch_not_removed", "batch", h.rec.Batch, "error", err)
		return
	}
	_, err := s.Batches.PutSync(batch.RecordKey(h.rec.Tenant, h.rec.Batch), nil, h.rev, goneLifetime)
	if err != nil && !errors.Is(err, stream.ErrWrongRevision) {
		s.Log.Warn("batch_not_removed", "batch", h.rec.Batch, "error", err)
	}
}

// serve runs a batch until it has ended, ctx ends, or another leader serves it.
func (s leader) serve(ctx context.Context, h *held, lane *use) {
	r := &runner{s: s.store, tenant: h.rec.Tenant, key: h.rec.Key, id: h.rec.Batch, trace: h.rec.Trace, rev: h.rev, run: batch.NewRun(h.rec, s.MaxPayload), views: map[int]*view{},
		replies: map[int]batch.Outcome{}, events: make(chan happening, mostEvents), answers: make(chan happening, batch.MaxConcurrency), opened: h.rec.Opened}
	defer r.asides.Wait()
	defer r.listen()()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var e happening
		select {
		case <-ctx.Done():
			return
		case e = <-r.events:
		case e = <-r.answers:
		case <-timer.C:
			e = r.look(ctx)
		}
		happened := r.takeAll(e)
		if most := int(lane.most.Load()); most != r.most {
			r.most, happened = most, append(happened, batch.Lane{Most: most})
		}
		now := time.Now() // pauses are of a clock that nobody sets
		for _, do := range r.run.Step(now, s.Clock.Now(), happened...) {
			if _, stop := do.(batch.Stop); stop || !s.cfg.Leads() {
				return
			}
			r.carryOut(ctx, do)
		}
		r.forget()
		lane.wants.Store(int64(r.run.Lane()))
		timer.Reset(max(r.run.Next(now).Sub(now), time.Millisecond))
	}
}
