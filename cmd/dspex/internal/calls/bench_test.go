package calls

import (
	"testing"
	"time"
)

func TestPercentilesAreNearestRank(t *testing.T) {
	b := &tally{latencies: seconds(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)}
	for share, want := range map[float64]int{0.5: 5, 0.9: 9, 0.99: 10, 1: 10, 0: 1} {
		if got := b.at(share); got != seconds(want)[0] {
			t.Errorf("p%v is %v, want %d s", 100*share, got, want)
		}
	}
	if (&tally{}).at(0.5) != 0 {
		t.Error("no latencies, no percentile")
	}
}

func seconds(n ...int) []time.Duration {
	out := make([]time.Duration, len(n))
	for i := range n {
		out[i] = time.Duration(n[i]) * time.Second
	}
	return out
}
