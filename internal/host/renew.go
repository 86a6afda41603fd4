package host

import (
	"context"
	"time"

	"github.com/dspex/dspex/internal/fair"
	"github.com/dspex/dspex/internal/jobs"
)

// renewWaiting keeps the records of sessions that wait for a turn: their loops, which would do it, do not run. One that has
// waited for an eighth of a record's life is renewed, and again each eighth: it was written at most the idle time before its
// job came, which is less than half of its life.
func (h *Host) renewWaiting(ctx context.Context) {
	pause := h.recordLife() / 8
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for _, ref := range h.turns.waitingFor(pause) {
				for key, life := range map[string]time.Duration{ref.RecordKey(): h.recordLife(), ref.HeadKey(): h.cfg.SessionIdle + headLife} {
					if err := h.extend(ctx, key, life); err != nil {
						h.log.Debug("not_renewed", "key", key, "error", err) // the next tick tries again
					}
				}
			}
		}
	}
}

// recordLife is how long a record lives after a write, at least.
func (h *Host) recordLife() time.Duration { return h.cfg.SessionIdle + time.Hour }

// waitingFor are the sessions that have waited, without a loop, for so long.
func (t *turns) waitingFor(d time.Duration) (refs []jobs.SessionRef) {
	t.mu.Lock()
	defer t.mu.Unlock()
	look := func(s *session) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if time.Since(s.wants) >= d {
			refs = append(refs, s.ref)
		}
	}
	for kind := range t.waiting {
		t.waiting[kind].All(func(e *fair.Entry[*session]) bool { look(e.Value); return true })
	}
	for e := t.parked.Front(); e != nil; e = e.Next() {
		look(e.Value.(parked).session)
	}
	return refs
}

// extend writes what a key holds once more, for the sake of its life. Whoever writes something else meanwhile wins.
func (h *Host) extend(ctx context.Context, key string, life time.Duration) error {
	e, err := h.records.Get(ctx, key)
	if err != nil || !e.Exists {
		return err
	}
	_, err = h.records.PutSync(key, e.Value, e.Revision, life)
	return err
}
