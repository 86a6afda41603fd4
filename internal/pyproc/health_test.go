package pyproc

import (
	"testing"
	"time"
)

// silence is how long after it was heard for the last time a worker counts as hung, and how many PINGs it got meanwhile.
func silence(h health) (took time.Duration, pings int) {
	heard := true
	for {
		ping, lost := h.tick(heard)
		took += h.look
		heard = false
		if ping {
			pings++
		}
		if lost {
			return took, pings
		}
	}
}

func TestAWorkerIsHungWhenSoManyChecksInARowHaveFailed(t *testing.T) {
	for name, c := range map[string]struct {
		options Options
		took    time.Duration
		pings   int
	}{
		"the defaults":   {Options{HealthInterval: 2 * time.Second, PingTimeout: 5 * time.Second, HealthFailures: 3}, 12 * time.Second, 5},
		"the original's": {Options{HealthInterval: 30 * time.Second, PingTimeout: 5 * time.Second, HealthFailures: 3}, 96 * time.Second, 3},
		"one failure":    {Options{HealthInterval: 10 * time.Second, PingTimeout: time.Second, HealthFailures: 1}, 12 * time.Second, 1},
	} {
		t.Run(name, func(t *testing.T) {
			var cfg Config
			c.options.Apply(&cfg)
			took, pings := silence(health{every: cfg.PingEvery, lost: cfg.PingLost, look: min(lookEvery, cfg.PingEvery)})
			if took != c.took {
				t.Errorf("hung after %v, want %v", took, c.took)
			}
			if pings != c.pings {
				t.Errorf("%d pings, want %d", pings, c.pings)
			}
		})
	}
}

func TestAWorkerThatAnswersIsNeverHung(t *testing.T) {
	h := health{every: 30 * time.Second, lost: 65 * time.Second, look: 2 * time.Second}
	asked := false
	for range 1000 {
		ping, lost := h.tick(asked)
		if lost {
			t.Fatal("hung, though it answers")
		}
		asked = ping
	}
}
