package stores

import (
	"context"
	"time"

	"github.com/dspex/dspex/internal/stream"
)

// Pauses between two anchors of the stream of jobs.
const (
	anchorMost  = time.Second
	anchorLeast = 20 * time.Millisecond
	anchorJobs  = 32 // that come between two of them, where the bounds let it
)

// AnchorPause is the time until the next anchor, by the number of jobs between the last two and the time between them. A block of the
// stream that has just begun has no anchor until then. Each job that leaves it empty makes the broker begin another block, and keep 256
// KiB of memory for ten seconds. A thousand jobs a second, one after the other, need more than its memory limit within one second without
// an anchor.
func AnchorPause(between uint64, after time.Duration) time.Duration {
	pause := 2 * after // jobs that stop for a moment soon come again
	if between > anchorJobs/2 {
		pause = time.Duration(float64(after) * anchorJobs / float64(between))
	}
	return min(max(pause, anchorLeast), anchorMost)
}

// anchored is the broker, as far as anchors need it.
type anchored interface {
	StoreSequence(subject string) (uint64, error)
	DeleteMessage(ctx context.Context, stream string, sequence uint64) error
	PurgeSubject(ctx context.Context, stream, subject string, keep uint64) error
}

// KeepAnchored keeps one unconsumed message in the newest block of the stream of jobs, until ctx ends.
func (s *Stores) KeepAnchored(ctx context.Context) { keepAnchored(ctx, s.broker) }

func keepAnchored(ctx context.Context, broker anchored) {
	var last uint64
	var at time.Time
	due := time.NewTimer(0)
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-due.C:
		}
		pause := anchorMost
		if sequence, err := broker.StoreSequence(stream.AnchorSubject); err == nil { // the probes report an error
			now := time.Now()
			if pause = anchorLeast; last > 0 && sequence > last { // else it is the first one of this leader, or of another stream
				pause = AnchorPause(sequence-last-1, now.Sub(at))
			}
			removeAnchor(ctx, broker, last)
			last, at = sequence, now
		}
		due.Reset(pause)
	}
}

// removeAnchor removes the anchor before the newest one. 0: it is not known, and those of leaders that were killed go with it.
func removeAnchor(ctx context.Context, broker anchored, last uint64) {
	ctx, cancel := context.WithTimeout(ctx, stream.AckTimeout)
	defer cancel()
	if last > 0 {
		_ = broker.DeleteMessage(ctx, stream.Jobs, last)
		return
	}
	_ = broker.PurgeSubject(ctx, stream.Jobs, stream.AnchorSubject, 1)
}
