package host

import (
	"context"
	"testing"

	"github.com/dspex/dspex/internal/jobs"
)

func TestNobodyWaitsForATurnWhenTheDoingHasEnded(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	h := &Host{}
	p := &partition{tenure: &tenure{h: h, ctx: ctx}, starts: ctx, sessions: map[jobs.SessionRef]*session{}}
	waits, stands := &session{p: p, ref: named("waits")}, &session{p: p, ref: named("parked")}
	p.wg.Add(3)
	h.turns.enter(waits) // no turn is free
	h.turns.parked.PushBack(parked{session: stands})
	end()
	h.ward(ctx)
	h.turns.enter(&session{p: p, ref: named("late")})
	p.wg.Wait()
	if n := h.turns.waiting[callTurn].Len() + h.turns.waiting[queuedTurn].Len() + h.turns.parked.Len(); n != 0 {
		t.Errorf("%d are left", n)
	}
}
