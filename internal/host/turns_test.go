package host

import (
	"context"
	"testing"
	"time"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/host/telemetry"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
	"github.com/dspex/dspex/internal/stream"
)

// idlePartition is one of a host that is connected to nobody.
func idlePartition(ctx context.Context) *partition {
	h := &Host{telemetry: telemetry.New(), clock: &stream.Clock{Clock: clock.New(nil)}}
	h.rules = lifecycle.Config{Clock: h.clock, SessionIdle: time.Hour, CheckoutTimeout: time.Minute, MaxPayload: 1 << 20}
	h.turns.admits = func(string) bool { return true }
	t := &tenure{h: h, ctx: ctx, earlier: earlier{of: map[jobs.SessionRef]map[*driver]bool{}, heirs: map[jobs.SessionRef]*driver{}}}
	return &partition{tenure: t, epoch: 1, sessions: map[jobs.SessionRef]*driver{}}
}

func TestNobodyWaitsForATokenWhenTheEpochIsOver(t *testing.T) {
	p := idlePartition(t.Context())
	for _, id := range []string{"a", "b"} {
		d := p.newSession(named(id), false)
		p.sessions[d.ref] = d
		d.feed(lifecycle.Event{Kind: lifecycle.Delivered, Job: &lifecycle.Job{Sequence: 1, Stored: time.Now(), Env: jobs.Envelope{Job: "q1", Mode: jobs.ModeQueue}}})
	}
	for end := time.Now().Add(10 * time.Second); ; { // no token is free
		p.h.turns.mu.Lock()
		waiting := p.h.turns.waiting[queuedTurn].Len()
		p.h.turns.mu.Unlock()
		if waiting == 2 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d sessions wait", waiting)
		}
	}
	p.shut()
	p.wg.Wait()
	if n := p.h.turns.waiting[queuedTurn].Len(); n != 0 {
		t.Errorf("%d are left", n)
	}
	p.h.turns.next(queuedTurn)
	if free := p.h.turns.free[queuedTurn]; free != 1 {
		t.Errorf("%d tokens are free, want 1", free)
	}
}

func TestATokenForWhoHasEndedGoesToTheNext(t *testing.T) {
	p := idlePartition(t.Context())
	gone := p.newSession(named("gone"), false)
	gone.close(nil)
	p.h.turns.grant(gone, queuedTurn)
	if free := p.h.turns.free[queuedTurn]; free != 1 {
		t.Errorf("%d tokens are free, want 1", free)
	}
}

// A slot must not be called: what is older than its lease may run elsewhere.
func TestWhatIsOlderThanTheLeaseIsNotCalled(t *testing.T) {
	p := idlePartition(t.Context())
	for age, stale := range map[time.Duration]bool{2 * time.Second: true, time.Hour: true} {
		a := &attempt{d: p.newSession(named("s"), false), confirmed: p.h.clock.Mono() - age, lease: 2 * time.Second}
		out := &output{}
		if a.callIfMine(frame.CallBody{}, out); out.Stale != stale {
			t.Errorf("confirmed %v ago: stale %v, want %v", age, out.Stale, stale)
		}
	}
}
