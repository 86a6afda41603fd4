package sessions

import (
	"context"
	"testing"
	"time"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/fair"
	"github.com/dspex/dspex/internal/host/driver"
	"github.com/dspex/dspex/internal/host/ownership"
	"github.com/dspex/dspex/internal/host/telemetry"
	"github.com/dspex/dspex/internal/host/tokens"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
	"github.com/dspex/dspex/internal/stream"
)

// idlePartition is one of a host that is connected to nobody, and has no run tokens.
func idlePartition(ctx context.Context) *partition {
	on := &stream.Access{Clock: &stream.Clock{Clock: clock.New(nil)}}
	rules := driver.NewRules(&lifecycle.Config{Clock: on.Clock, SessionIdle: time.Hour, CheckoutTimeout: time.Minute, MaxPayload: 1 << 20})
	all := New("h1", nil, &driver.Drivers{Goroutines: &driver.Goroutines{}, On: on, Rules: rules, Telemetry: telemetry.New(nil, "h1"), Payloads: driver.NewPayloads(on, telemetry.New(nil, "h1").TraceOf), Work: ctx,
		Tokens: tokens.New(0, func(string) bool { return true })}, time.Hour)
	return newPartition(newService(all, &ownership.Ownership{Work: ctx}), 1)
}

func TestNobodyWaitsForATokenWhenTheEpochIsOver(t *testing.T) {
	p := idlePartition(t.Context())
	for _, id := range []string{"a", "b"} {
		d := p.newSession(named(id), false)
		p.sessions[d.Ref] = d
		d.Feed(lifecycle.Event{Kind: lifecycle.Delivered, Job: &lifecycle.Job{Sequence: 1, Stored: time.Now(), Env: jobs.Envelope{Job: "q1", Mode: jobs.ModeQueue}}})
	}
	for end := time.Now().Add(10 * time.Second); ; { // no token is free
		waiting := p.all.Drivers.Tokens.WaitsFor(tokens.Queued)
		if waiting == 2 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d sessions wait", waiting)
		}
	}
	p.shut()
	p.owned.Running.Wait()
	if n := p.all.Drivers.Tokens.WaitsFor(tokens.Queued); n != 0 {
		t.Errorf("%d are left", n)
	}
	p.all.Drivers.Tokens.Return(tokens.Queued, "")
	granted := false
	p.all.Drivers.Tokens.Enter(tokens.NewWaiter("", func(tokens.Kind) bool { granted = true; return true }), fair.Key{Class: fair.Queued})
	if !granted {
		t.Error("the token that came back is not free")
	}
}
