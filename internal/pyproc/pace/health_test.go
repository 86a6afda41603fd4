package pace

import (
	"testing"
	"time"
)

// silence is how long after its last frame a worker counts as hung, and how many PINGs it got meanwhile.
func silence(h Health) (took time.Duration, pings int) {
	received := true
	for {
		ping, lost := h.Tick(received)
		took += h.Look
		received = false
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
		health Health
		took   time.Duration
		pings  int
	}{
		"the defaults":   {Health{Every: 2 * time.Second, Lost: 9 * time.Second, Look: 2 * time.Second}, 12 * time.Second, 5},
		"the original's": {Health{Every: 30 * time.Second, Lost: 65 * time.Second, Look: 2 * time.Second}, 96 * time.Second, 3},
		"one failure":    {Health{Every: 10 * time.Second, Lost: time.Second, Look: 2 * time.Second}, 12 * time.Second, 1},
	} {
		t.Run(name, func(t *testing.T) {
			took, pings := silence(c.health)
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
	h := Health{Every: 30 * time.Second, Lost: 65 * time.Second, Look: 2 * time.Second}
	pinged := false
	for range 1000 {
		ping, lost := h.Tick(pinged)
		if lost {
			t.Fatal("hung, though it answers")
		}
		pinged = ping
	}
}
