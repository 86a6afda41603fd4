package stream

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	mostReads = 32
	mostPages = 2 // of 4 MiB
)

// Reads bounds what a process has the broker send it at the same time, in answers to reads: the broker drops a connection for which
// more than max_pending (nats.conf) waits. An answer is a record or an outcome, encoded: 1 MiB at most, with the broker's usual
// max_payload.
type Reads struct{ single, pages chan struct{} }

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

// Page is GetPage.
func (r *Reads) Page(ctx context.Context, nc *nats.Conn, p Page, each func(Stored) error) (uint64, error) {
	return r.page(ctx, func() (uint64, error) { return GetPage(ctx, nc, p, each) })
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

// GetLast reads the last message of a subject from the stream's leader.
func GetLast(ctx context.Context, nc *nats.Conn, stream, subject string) (Stored, error) {
	return get(ctx, nc, stream, map[string]any{"last_by_subj": subject})
}

// GetSequence reads one message by its sequence.
func GetSequence(ctx context.Context, nc *nats.Conn, stream string, seq uint64) (Stored, error) {
	return get(ctx, nc, stream, map[string]any{"seq": seq})
}

// GetNext reads the first message of subject at or after seq.
func GetNext(ctx context.Context, nc *nats.Conn, stream, subject string, seq uint64) (Stored, error) {
	return get(ctx, nc, stream, map[string]any{"seq": seq, "next_by_subj": subject})
}

// getTimeout bounds a read whose context has no nearer deadline.
const getTimeout = 5 * time.Second

func get(ctx context.Context, nc *nats.Conn, stream string, request map[string]any) (Stored, error) {
	ctx, cancel := context.WithTimeout(ctx, getTimeout)
	defer cancel()
	body, err := json.Marshal(request)
	if err != nil {
		return Stored{}, err
	}
	m, err := nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+stream, body)
	if err != nil {
		return Stored{}, err
	}
	var r struct {
		Message *struct {
			Subject string    `json:"subject"`
			Seq     uint64    `json:"seq"`
			Hdrs    string    `json:"hdrs"`
			Data    string    `json:"data"`
			Time    time.Time `json:"time"`
		} `json:"message"`
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &r); err != nil {
		return Stored{}, fmt.Errorf("broker's answer is not JSON: %w", err)
	}
	if r.Error != nil {
		if r.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound {
			return Stored{}, ErrNotFound
		}
		return Stored{}, fmt.Errorf("broker: %w", r.Error)
	}
	if r.Message == nil {
		return Stored{}, ErrNotFound
	}
	s := Stored{Subject: r.Message.Subject, Sequence: r.Message.Seq, Time: r.Message.Time}
	if s.Data, err = base64.StdEncoding.DecodeString(r.Message.Data); err != nil {
		return Stored{}, fmt.Errorf("broker's answer: data: %w", err)
	}
	hdr, err := base64.StdEncoding.DecodeString(r.Message.Hdrs)
	if err != nil {
		return Stored{}, fmt.Errorf("broker's answer: headers: %w", err)
	}
	if len(hdr) > 0 {
		if s.Header, err = nats.DecodeHeadersMsg(hdr); err != nil {
			return Stored{}, fmt.Errorf("broker's answer: headers: %w", err)
		}
	}
	return s, nil
}
