package host

import (
	"testing"

	"github.com/dspex/dspex/internal/breaker"
	"pgregory.net/rapid"
)

// TestATallyIsTheEventsInTheirOrder: whatever was shared when, and however often a share failed, the count is that of the events.
func TestATallyIsTheEventsInTheirOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var stored, want int
		var pending tally
		taken := map[string]tally{}
		o := outages{tallies: taken}
		for range rapid.IntRange(0, 30).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"failure", "success", "share", "share fails"}).Draw(t, "step") {
			case "failure":
				want++
				o.tallies["x"] = o.tallies["x"].then(breaker.Event{Change: breaker.Counted})
			case "success":
				want = 0
				o.tallies["x"] = o.tallies["x"].then(breaker.Event{Change: breaker.Cleared})
			case "share":
				stored = o.takeTallies()["x"].onto(stored)
			case "share fails":
				pending = o.takeTallies()["x"]
				if rapid.Bool().Draw(t, "a failure meanwhile") {
					want++
					o.tallies["x"] = o.tallies["x"].then(breaker.Event{Change: breaker.Counted})
				}
				o.keepTally("x", pending)
			}
			if got := o.tallyOf("x").onto(stored); got != want {
				t.Fatalf("%d failures in a row, want %d", got, want)
			}
		}
	})
}

func TestOneEndOfAWorkerAndOneFailedStartAreNewsOnce(t *testing.T) {
	var e ends
	for _, c := range []struct {
		worker uint64
		news   bool
	}{{1, true}, {1, false}, {2, true}, {1, false}} {
		if got := e.first(c.worker); got != c.news {
			t.Errorf("worker %d: %t", c.worker, got)
		}
	}
	for n := range uint64(3 * mostEnds) {
		e.first(n)
	}
	if len(e.workers) > mostEnds {
		t.Errorf("%d workers are remembered", len(e.workers))
	}
}
