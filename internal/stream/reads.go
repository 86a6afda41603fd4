package stream

import (
	"context"

	"github.com/nats-io/nats.go"
)

// Reads bounds what a process has the broker send it at the same time, in answers to reads: the broker drops a connection for which
// more than max_pending (nats.conf) waits. An answer is a record or an outcome, encoded: 1 MiB at most, with the broker's usual
// max_payload.
type Reads struct{ single, pages chan struct{} }

const (
	mostReads = 32
	mostPages = 2 // of 4 MiB
)

// NewReads makes the bound of a process. A nil one bounds nothing.
func NewReads() *Reads {
	return &Reads{make(chan struct{}, mostReads), make(chan struct{}, mostPages)}
}

// begin waits for its turn, which end gives on.
func begin(ctx context.Context, turns chan struct{}) (end func(), err error) {
	select {
	case turns <- struct{}{}:
		return func() { <-turns }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Sequence is GetSequence.
func (r *Reads) Sequence(ctx context.Context, nc *nats.Conn, stream string, seq uint64) (Stored, error) {
	return r.one(ctx, func() (Stored, error) { return GetSequence(ctx, nc, stream, seq) })
}

// Next is GetNext.
func (r *Reads) Next(ctx context.Context, nc *nats.Conn, stream, subject string, seq uint64) (Stored, error) {
	return r.one(ctx, func() (Stored, error) { return GetNext(ctx, nc, stream, subject, seq) })
}

// Last is GetLast.
func (r *Reads) Last(ctx context.Context, nc *nats.Conn, stream, subject string) (Stored, error) {
	return r.one(ctx, func() (Stored, error) { return GetLast(ctx, nc, stream, subject) })
}

func (r *Reads) one(ctx context.Context, get func() (Stored, error)) (Stored, error) {
	if r == nil {
		return get()
	}
	end, err := begin(ctx, r.single)
	if err != nil {
		return Stored{}, err
	}
	defer end()
	return get()
}

// Page is GetPage.
func (r *Reads) Page(ctx context.Context, nc *nats.Conn, p Page, each func(Stored) error) (uint64, error) {
	return r.page(ctx, func() (uint64, error) { return GetPage(ctx, nc, p, each) })
}

// page runs a read of a page.
func (r *Reads) page(ctx context.Context, get func() (uint64, error)) (uint64, error) {
	if r == nil {
		return get()
	}
	end, err := begin(ctx, r.pages)
	if err != nil {
		return 0, err
	}
	defer end()
	return get()
}
