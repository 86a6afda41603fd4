package batch

import (
	"testing"
	"time"
)

// TestLooksAreAsRareAsTheEndsOfJobs: between two looks an eighth to a quarter of the window ends, whatever the rate.
func TestLooksAreAsRareAsTheEndsOfJobs(t *testing.T) {
	for _, c := range []struct {
		perSecond float64
		least     time.Duration
		most      time.Duration
	}{{300, 20 * time.Millisecond, lookFew}, {4000, lookSoon, 2 * lookSoon}, {0, lookLate, lookLate}, {40, lookFew, lookFew}} {
		const window = 64
		pause, left := lookSoon, 0.0
		for n := range 100 {
			left += c.perSecond * pause.Seconds()
			found := int(left)
			left -= float64(found)
			if n > 20 && found > 0 && (pause < c.least || pause > c.most) {
				t.Fatalf("%v a second: look %d comes after %v, want %v to %v", c.perSecond, n, pause, c.least, c.most)
			}
			pause = pauseAfter(pause, found, window)
		}
		if c.perSecond == 0 && pause != lookLate {
			t.Errorf("nothing ends: looks come after %v", pause)
		}
	}
}

func TestOneJobAtATimeIsLookedForSoon(t *testing.T) {
	pause := lookLate
	for range 10 {
		pause = pauseAfter(pause, 1, 1)
	}
	if pause != lookSoon {
		t.Errorf("each look finds all there is, and comes after %v", pause)
	}
}
