package attempt

import (
	"testing"
	"time"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/stream"
)

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

// A slot must not be called: what is older than its lease may run elsewhere.
func TestWhatIsOlderThanTheLeaseIsNotCalled(t *testing.T) {
	r := &Runner{On: &stream.Access{Clock: &stream.Clock{Clock: clock.New(nil)}}}
	for _, age := range []time.Duration{2 * time.Second, time.Hour} {
		a := &Attempt{r: r, confirmed: r.On.Clock.Mono() - age, lease: 2 * time.Second}
		out := &Output{}
		if a.CallIfMine(frame.CallBody{}, out); !out.Stale {
			t.Errorf("confirmed %v ago: not stale", age)
		}
	}
}
