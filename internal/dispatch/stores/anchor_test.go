package stores

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// emptied is a stream of jobs that come at an even rate, and its anchors.
type emptied struct {
	rate    float64 // jobs a second
	began   time.Time
	anchors []uint64 // that are there
	written uint64   // since the rate could be seen
	most    uint64   // jobs between two of those
}

func (s *emptied) StoreSequence(string) (uint64, error) {
	last := s.anchors[len(s.anchors)-1]
	sequence := max(last+1, uint64(time.Since(s.began).Seconds()*s.rate))
	if time.Since(s.began) > 2*time.Second {
		s.written, s.most = s.written+1, max(s.most, sequence-last-1)
	}
	s.anchors = append(s.anchors, sequence)
	return sequence, nil
}

func (s *emptied) DeleteMessage(_ context.Context, _ string, sequence uint64) error {
	s.anchors = slices.DeleteFunc(s.anchors, func(a uint64) bool { return a == sequence })
	return nil
}

func (s *emptied) PurgeSubject(_ context.Context, _, _ string, keep uint64) error {
	s.anchors = s.anchors[uint64(len(s.anchors))-keep:]
	return nil
}

// TestAnchorsAreAsFrequentAsJobs: what comes between two of them bounds the blocks that an emptied stream begins.
func TestAnchorsAreAsFrequentAsJobs(t *testing.T) {
	for _, step := range []struct {
		rate        float64
		most        uint64 // jobs between two anchors
		least, upTo uint64 // anchors in a minute
	}{
		{0, 0, 59, 61},
		{1, 1, 59, 61},
		{30, 31, 59, 61},
		{1000, anchorJobs + 2, 1700, 2000},
		{10_000, 201, 2900, 3001},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			s := &emptied{rate: step.rate, began: time.Now(), anchors: []uint64{1, 2}} // of leaders that were killed
			go keepAnchored(ctx, s)
			time.Sleep(time.Minute + 2*time.Second)
			cancel()
			synctest.Wait()
			if s.most > step.most {
				t.Errorf("%v jobs a second: %d between two anchors, want at most %d", step.rate, s.most, step.most)
			}
			if s.written < step.least || s.written > step.upTo {
				t.Errorf("%v jobs a second: %d anchors in a minute, want %d to %d", step.rate, s.written, step.least, step.upTo)
			}
			if len(s.anchors) != 1 {
				t.Errorf("%v jobs a second: %d anchors are left, want 1", step.rate, len(s.anchors))
			}
		})
	}
}

// TestAMomentWithoutJobsMakesAnchorsHardlyRarer: a block may begin when they come again.
func TestAMomentWithoutJobsMakesAnchorsHardlyRarer(t *testing.T) {
	pause := AnchorPause(anchorJobs, 30*time.Millisecond)
	for n, step := range []struct{ between, want uint64 }{
		{anchorJobs, 30}, {0, 60}, {1, 120}, {3 * anchorJobs, 40}, {0, 80}, {0, 160}, {0, 320}, {0, 640}, {0, 1000}, {0, 1000},
	} {
		if pause = AnchorPause(step.between, pause); uint64(pause.Milliseconds()) != step.want {
			t.Errorf("%d: a pause of %v, want %d ms", n, pause, step.want)
		}
	}
}
