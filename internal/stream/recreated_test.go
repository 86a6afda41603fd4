package stream

import (
	"testing"
	"time"
)

func TestWhatIsMadeAgainBeginsAboveEveryEarlierNumber(t *testing.T) {
	now := time.UnixMicro(1_800_000_000_000_000)
	for _, c := range []struct{ remembered, want uint64 }{
		{0, 0},                     // a new deployment
		{1, 1_800_000_000_000_000}, // the first store
		{1_700_000_000_000_000, 1_800_000_000_000_000},          // a later one
		{1_900_000_000_000_000, 1_900_000_000_000_000 + unseen}, // the clock was set back
	} {
		if got := beginning(now, c.remembered); got != c.want {
			t.Errorf("after %d: %d, expected %d", c.remembered, got, c.want)
		}
	}
	if last := time.Date(2255, 1, 1, 0, 0, 0, 0, time.UTC); beginning(last, 1) >= 1<<53 {
		t.Error("it does not fit into a JSON number")
	}
}
