package host

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestASessionPrefersItsWorkerForFiveMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &session{worker: 7, used: time.Now()}
		time.Sleep(300 * time.Second)
		if s.prefers() != 7 {
			t.Error("the hint is gone after 300 s")
		}
		time.Sleep(time.Second)
		if s.prefers() != 0 {
			t.Error("the hint is there after 301 s")
		}
	})
	if w := (&session{}).prefers(); w != 0 {
		t.Errorf("a session that ran nowhere prefers %d", w)
	}
}

func TestEachAttemptIsAHitAMissOrAMove(t *testing.T) {
	var c Stats
	for _, a := range []struct{ warm, ran uint64 }{{0, 1}, {0, 2}, {1, 1}, {1, 2}, {2, 2}, {2, 2}} {
		c.countAffinity(a.warm, a.ran)
	}
	if c.Misses.Load() != 2 || c.Hits.Load() != 3 || c.Moves.Load() != 1 {
		t.Errorf("%d misses, %d hits, %d moves", c.Misses.Load(), c.Hits.Load(), c.Moves.Load())
	}
}
