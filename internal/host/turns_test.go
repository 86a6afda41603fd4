package host

import (
	"context"
	"testing"
)

func TestNobodyWaitsForATurnWhenTheDoingHasEnded(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	h := &Host{}
	p := &partition{tenure: &tenure{h: h, ctx: ctx}, starts: ctx, sessions: map[string]*session{}}
	waits, stands := &session{p: p, id: "waits"}, &session{p: p, id: "parked"}
	p.wg.Add(3)
	h.turns.enter(waits) // no turn is free
	h.turns.parked.PushBack(parked{session: stands})
	end()
	h.ward(ctx)
	h.turns.enter(&session{p: p, id: "late"})
	p.wg.Wait()
	if n := h.turns.waiting.Len() + h.turns.parked.Len(); n != 0 {
		t.Errorf("%d are left", n)
	}
}
