package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Eraser removes all messages of one subject that a stream held at one moment.
type Eraser struct {
	stream  jetstream.Stream
	subject string
	below   uint64 // sequences from here on came later
}

// NewEraser notes what there is of the subject (wildcards allowed) now. What is stored afterwards Erase leaves alone: so a
// caller who makes sure after NewEraser that the subject is still its own cannot erase what a successor has written.
func NewEraser(ctx context.Context, js jetstream.JetStream, stream, subject string) (*Eraser, error) {
	s, err := js.Stream(ctx, stream)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", stream, err)
	}
	return &Eraser{stream: s, subject: subject, below: s.CachedInfo().State.LastSeq + 1}, nil
}

// Beside is an Eraser of another subject of the same stream, as of the same moment.
func (e *Eraser) Beside(subject string) *Eraser {
	return &Eraser{stream: e.stream, subject: subject, below: e.below}
}

// Erase removes them. It may be repeated.
func (e *Eraser) Erase(ctx context.Context) error {
	if err := e.stream.Purge(ctx, jetstream.WithPurgeSubject(e.subject), jetstream.WithPurgeSequence(e.below)); err != nil {
		return fmt.Errorf("erase %s: %w", e.subject, err)
	}
	return nil
}

// OutcomeSubjects match the outcomes in dspex_results, and not the attempts of jobs that have none yet.
const OutcomeSubjects = "$KV." + Results + ".r.>"

// Shorten removes outcomes that were stored before the given time, the oldest first and one of parts equal parts of them at most, if
// they use that share of their room. It returns what they used and their room; done: some were removed.
func (a *Access) Shorten(ctx context.Context, share float64, before time.Time, parts uint64) (done bool, b Bounded, err error) {
	s, err := a.JS.Stream(ctx, ResultsStream)
	if err != nil {
		return false, b, err
	}
	info := s.CachedInfo()
	b = Bounded{Used: info.State.Bytes, Room: info.Config.MaxBytes}
	if b.Room <= 0 || float64(b.Used) < share*float64(b.Room) {
		return false, b, nil
	}
	below, err := OlderThan(ctx, a.NC, info, before, parts)
	if err != nil || below == 0 {
		return false, b, err
	}
	return true, b, s.Purge(ctx, jetstream.WithPurgeSubject(OutcomeSubjects), jetstream.WithPurgeSequence(below))
}

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
