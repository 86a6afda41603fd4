package telemetry

import "testing"

func TestEachAttemptIsAHitAMissOrAMove(t *testing.T) {
	var c Stats
	for _, a := range []struct{ warm, ran uint64 }{{0, 1}, {0, 2}, {1, 1}, {1, 2}, {2, 2}, {2, 2}} {
		c.Affinity(a.warm, a.ran)
	}
	if c.Misses.Load() != 2 || c.Hits.Load() != 3 || c.Moves.Load() != 1 {
		t.Errorf("%d misses, %d hits, %d moves", c.Misses.Load(), c.Hits.Load(), c.Moves.Load())
	}
}
