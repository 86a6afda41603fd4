package stream

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// OutcomeSubjects match the outcomes in dspex_results, and not the attempts of jobs that have none yet.
const OutcomeSubjects = "$KV." + Results + ".r.>"

// OlderThan finds where the oldest of parts equal parts of the outcomes ends: all outcomes below that sequence were stored before the
// given time. 0: none was. It looks at some twenty of them.
func OlderThan(ctx context.Context, nc *nats.Conn, results *jetstream.StreamInfo, before time.Time, parts uint64) (below uint64, err error) {
	oldest, err := GetNext(ctx, nc, ResultsStream, OutcomeSubjects, 1)
	if errors.Is(err, ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	low, high := oldest.Sequence, oldest.Sequence+(results.State.LastSeq+1-min(oldest.Sequence, results.State.LastSeq))/parts+1
	for low < high { // below low all are old; at high one may be young
		middle := low + (high-low)/2
		m, err := GetNext(ctx, nc, ResultsStream, OutcomeSubjects, middle)
		switch {
		case errors.Is(err, ErrNotFound):
			high = middle
		case err != nil:
			return 0, err
		case m.Time.Before(before):
			low = max(middle+1, min(m.Sequence+1, high))
		default:
			high = middle
		}
	}
	if low == oldest.Sequence {
		return 0, nil
	}
	return low, nil
}
