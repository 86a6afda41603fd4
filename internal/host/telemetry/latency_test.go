package telemetry

import (
	"slices"
	"testing"
	"time"

	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/jobs"
)

func TestLatenciesAreCountedInTheirBuckets(t *testing.T) {
	var l Latencies
	for _, took := range []time.Duration{0, shortest, time.Millisecond, time.Millisecond, 1100 * time.Microsecond, 100 * time.Hour} {
		l.ended(jobs.ModeCall, took)
	}
	l.ended(jobs.ModeQueue, time.Second)
	got := l.All()
	for _, row := range []struct {
		mode jobs.Mode
		want control.Latencies
	}{
		{jobs.ModeCall, control.Latencies{{.25, 2}, {1, 2}, {1.189, 1}, {16777216, 1}}},
		{jobs.ModeQueue, control.Latencies{{1024, 1}}},
	} {
		if !slices.Equal(got[string(row.mode)], row.want) {
			t.Errorf("%s: must be %v, got %v", row.mode, row.want, got[string(row.mode)])
		}
	}
}

func TestABucketIsANinthWiderThanTheOneBefore(t *testing.T) {
	for i := range doublings*perDoubling + 1 {
		upper := time.Duration(upperOf(i) * float64(time.Millisecond))
		if got := bucketOf(upper - upper/100); got != i {
			t.Errorf("just below %s: must be bucket %d, got %d", upper, i, got)
		}
	}
}
