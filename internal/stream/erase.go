package stream

import (
	"context"
	"fmt"

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
