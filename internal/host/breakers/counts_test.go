package breakers

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/dspex/dspex/internal/breaker"
)

// TestACountIsTheEventsInTheirOrder: whatever was shared when, and however often a share failed, the count is that of the events.
func TestACountIsTheEventsInTheirOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var stored, want int
		var pending count
		taken := map[string]count{}
		o := Shared{counts: taken}
		for range rapid.IntRange(0, 30).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"failure", "success", "share", "share fails"}).Draw(t, "step") {
			case "failure":
				want++
				o.counts["x"] = o.counts["x"].then(breaker.Event{Change: breaker.Counted})
			case "success":
				want = 0
				o.counts["x"] = o.counts["x"].then(breaker.Event{Change: breaker.Cleared})
			case "share":
				stored = o.takeCounts()["x"].onto(stored)
			case "share fails":
				pending = o.takeCounts()["x"]
				if rapid.Bool().Draw(t, "a failure meanwhile") {
					want++
					o.counts["x"] = o.counts["x"].then(breaker.Event{Change: breaker.Counted})
				}
				o.keepCount("x", pending)
			}
			if got := o.countOf("x").onto(stored); got != want {
				t.Fatalf("%d failures in a row, want %d", got, want)
			}
		}
	})
}
