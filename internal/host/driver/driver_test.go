package driver

import (
	"context"
	"testing"
	"time"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/host/attempt"
	"github.com/dspex/dspex/internal/host/telemetry"
	"github.com/dspex/dspex/internal/host/tokens"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
	"github.com/dspex/dspex/internal/stream"
)

// still is a machine whose clock a test moves.
type still struct{ at clock.Mono }

func (s *still) Wall() time.Time  { return time.Unix(0, 0).Add(s.at) }
func (s *still) Mono() clock.Mono { return s.at }

// alone is a scope in which nothing runs.
type alone struct{ Scope }

func (alone) Anonymous() bool                                  { return false }
func (alone) Admits(*attempt.Attempt) (lifecycle.Reason, bool) { return lifecycle.Stopping, false }
func (alone) Began(*Driver)                                    {}

func TestASessionThatWaitsHasATimerOnceSomethingIsNear(t *testing.T) {
	m := &still{at: time.Hour}
	on := &stream.Access{Clock: &stream.Clock{Clock: clock.New(m)}}
	cfg := &lifecycle.Config{Clock: on.Clock, SessionIdle: 24 * time.Hour, CheckoutTimeout: time.Minute, MaxPayload: 1 << 20}
	all := &Drivers{
		Goroutines: &Goroutines{}, On: on, Rules: NewRules(cfg), Telemetry: telemetry.New(nil, "h1"), Work: context.Background(),
		Tokens: tokens.New(0, func(string) bool { return true }),
	}
	d := all.Session(jobs.SessionRef{Tenant: jobs.DefaultTenant, ID: "a"}, alone{}, 1, 1, false)
	j := &lifecycle.Job{Sequence: 1, Stored: m.Wall(), Came: m.Mono(), Env: jobs.Envelope{Job: "q1", Mode: jobs.ModeQueue, Deadline: 10 * time.Minute}, Data: []byte(`{"command": "echo"}`)}
	j.Weigh(cfg)
	due := m.at + 10*time.Minute
	d.FeedHere(lifecycle.Event{Kind: lifecycle.Delivered, Job: j})
	d.Approach()
	if d.timer != nil {
		t.Fatalf("a timer is set for in %v", d.armed-m.at)
	}
	m.at = due - Near
	d.Approach()
	if d.timer == nil {
		t.Fatal("no timer is set")
	}
	defer d.timer.Stop()
	if d.armed != due {
		t.Errorf("the timer is set for %v, not for %v", d.armed, due)
	}
}
