package host_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/stream"
)

// reasonWithin waits until the health is degraded for a reason of which part is in the text; it returns the reason.
func (y *system) reasonWithin(bound time.Duration, part string) string {
	y.t.Helper()
	var reasons []string
	for end := time.Now().Add(bound); time.Now().Before(end); y.pass(time.Second) {
		_, reasons = y.health()
		if i := slices.IndexFunc(reasons, func(r string) bool { return strings.Contains(r, part) }); i >= 0 {
			return reasons[i]
		}
	}
	y.t.Fatalf("after %v there is no reason with %q: %q", bound, part, reasons)
	return ""
}

// purge removes all that a stream holds.
func (y *system) purge(name string) {
	y.t.Helper()
	js, err := jetstream.New(y.nc)
	if err != nil {
		y.t.Fatal(err)
	}
	s, err := js.Stream(context.Background(), name)
	if err != nil {
		y.t.Fatal(err)
	}
	if err := s.Purge(context.Background()); err != nil {
		y.t.Fatal(err)
	}
}

func TestAHostWhoseWorkersLiveAndFinishNothingIsNamed(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		release := make(chan struct{})
		y.script(func(context.Context, frame.CallBody) (frame.Frame, error, bool) {
			<-release
			return frame.Frame{}, nil, false
		})
		y.pass(time.Minute) // without work nothing is late
		if status, reasons := y.health(); status != "healthy" {
			t.Fatalf("idle: %s %v", status, reasons)
		}
		y.store("dspex.session.s", "hangs", `{"command":"append"}`)
		y.pass(15 * time.Second)
		if status, reasons := y.health(); status != "healthy" {
			t.Errorf("after 15 s: %s %v", status, reasons)
		}
		if reason := y.reasonWithin(15*time.Second, "host h1 has finished nothing"); !strings.Contains(reason, "1 calls run") {
			t.Error(reason)
		}
		close(release)
		if e := y.end("s", "hangs"); e.Outcome != "succeeded" {
			t.Errorf("%+v", e)
		}
		if status, reasons := y.health(); status != "healthy" {
			t.Errorf("afterwards: %s %v", status, reasons)
		}
	})
}

func TestCallsThatAreAlwaysSlowStallNobody(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		y.script(func(context.Context, frame.CallBody) (frame.Frame, error, bool) {
			time.Sleep(25 * time.Second)
			return frame.Frame{}, nil, false
		})
		for _, job := range []string{"first", "second"} {
			y.store("dspex.session.s", job, `{"command":"append"}`)
			if job == "first" { // it is not known yet to be usual
				y.reasonWithin(30*time.Second, "host h1 has finished nothing")
			} else {
				y.pass(24 * time.Second)
				if status, reasons := y.health(); status != "healthy" {
					t.Errorf("%s %v", status, reasons)
				}
			}
			y.end("s", job)
		}
	})
}

func TestAHostThatAnswersNoCallStallsThoughEachOneTimesOut(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		y.script(func(ctx context.Context, _ frame.CallBody) (frame.Frame, error, bool) {
			f, err := stuck(ctx)
			return f, err, true
		})
		for n := range 4 {
			y.store("dspex.session.s", fmt.Sprint("stuck", n), `{"command":"append","options":{"timeout":"8s","max_retries":0}}`)
		}
		y.reasonWithin(30*time.Second, "host h1 has finished nothing")
	})
}

func TestALeaderThatAssignsNothingIsNamed(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		defer y.anotherHost("h2")()
		if status, reasons := y.health(); status != "healthy" {
			t.Fatalf("%s %v", status, reasons)
		}
		y.limit(stream.Assign, 1) // the broker refuses every assignment
		y.purge("KV_" + stream.Assign)
		if reason := y.reasonWithin(30*time.Second, "leads but assigns nothing"); !strings.Contains(reason, "the dispatcher d1 ") || !strings.Contains(reason, "the last one failed: ") {
			t.Error(reason)
		}
		y.limit(stream.Assign, -1)
		y.pass(10 * time.Second)
		if status, reasons := y.health(); status != "healthy" {
			t.Errorf("afterwards: %s %v", status, reasons)
		}
	})
}
