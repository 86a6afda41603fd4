package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Stored is a message of a stream.
type Stored struct {
	Subject  string
	Sequence uint64
	Header   nats.Header
	Data     []byte
	Time     time.Time
}

// Deleted reports whether the message marks a key as gone.
func (s Stored) Deleted() bool { return deleted(s.Header) }

func deleted(h nats.Header) bool {
	return h.Get("KV-Operation") != "" || h.Get("Nats-Marker-Reason") != ""
}

// ErrNotFound reports that the stream holds no such message.
var ErrNotFound = errors.New("no such message")

// Page requests messages of one subject (wildcards allowed) in the order of their sequences.
type Page struct {
	Stream   string
	Subject  string
	From     uint64    // first sequence to look at; 0 is the beginning
	Since    time.Time // without From: the first message to look at was stored then or later
	Messages int       // at most this many
	Bytes    int       // the page ends once it holds this many
}

// pageTimeout bounds the wait for the next message of a page.
const pageTimeout = 5 * time.Second

// GetPage hands the messages of a page to each, one at a time, and returns where the next page begins: 0 when there is none.
// It is a direct get: on a replicated stream it may be a little behind the leader.
func GetPage(ctx context.Context, nc *nats.Conn, p Page, each func(Stored) error) (next uint64, err error) {
	request := map[string]any{"next_by_subj": p.Subject, "batch": p.Messages, "max_bytes": p.Bytes}
	if p.From == 0 && !p.Since.IsZero() {
		request["start_time"] = p.Since.UTC()
	} else {
		request["seq"] = max(p.From, 1)
	}
	body, err := json.Marshal(request)
	if err != nil {
		return 0, err
	}
	return direct(ctx, nc, p.Stream, p.Messages, body, each)
}

// getMany hands the last messages of subjects to each.
func getMany(ctx context.Context, nc *nats.Conn, stream string, subjects []string, each func(Stored)) error {
	body, err := json.Marshal(map[string]any{"multi_last": subjects})
	if err != nil {
		return err
	}
	_, err = direct(ctx, nc, stream, len(subjects), body, func(m Stored) error { each(m); return nil })
	return err
}

// direct requests several messages, most at most, and hands them to each; next is behind the last one, 0 when there are no more.
func direct(ctx context.Context, nc *nats.Conn, stream string, most int, body []byte, each func(Stored) error) (next uint64, err error) {
	inbox := nc.NewInbox()
	answers := make(chan *nats.Msg, most+1) // room for all, and for the end: SubscribeSync would make room for 65,536
	sub, err := nc.ChanSubscribe(inbox, answers)
	if err != nil {
		return 0, fmt.Errorf("page of %s: %w", stream, err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := nc.PublishRequest("$JS.API.DIRECT.GET."+stream, inbox, body); err != nil {
		return 0, fmt.Errorf("page of %s: %w", stream, err)
	}
	for {
		m, err := nextOf(ctx, answers)
		if err != nil {
			return 0, fmt.Errorf("page of %s: %w", stream, err)
		}
		if status := m.Header.Get("Status"); status != "" {
			return pageEnd(m, status, next)
		}
		s, err := directStored(m)
		if err != nil {
			return 0, fmt.Errorf("page of %s: %w", stream, err)
		}
		if err := each(s); err != nil {
			return 0, err
		}
		next = s.Sequence + 1
	}
}

func nextOf(ctx context.Context, answers <-chan *nats.Msg) (*nats.Msg, error) {
	timer := time.NewTimer(pageTimeout)
	defer timer.Stop()
	select {
	case m, open := <-answers:
		if !open {
			return nil, nats.ErrConnectionClosed
		}
		return m, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
		return nil, context.DeadlineExceeded
	}
}

// pageEnd reads the broker's last word on a page.
func pageEnd(m *nats.Msg, status string, next uint64) (uint64, error) {
	switch status {
	case "404":
		return 0, nil
	case "204":
		if m.Header.Get("Nats-Num-Pending") == "0" {
			return 0, nil
		}
		return next, nil
	case "503":
		return 0, nats.ErrNoResponders
	}
	return 0, fmt.Errorf("broker: status %s %s", status, m.Header.Get("Description"))
}

// directStored reads a message of a direct get: its own headers and, beside them, where it comes from.
func directStored(m *nats.Msg) (Stored, error) {
	seq, err := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64)
	if err != nil {
		return Stored{}, errors.New("broker's answer has no sequence")
	}
	at, err := time.Parse(time.RFC3339Nano, m.Header.Get("Nats-Time-Stamp"))
	if err != nil {
		return Stored{}, errors.New("broker's answer has no time")
	}
	return Stored{Subject: m.Header.Get("Nats-Subject"), Sequence: seq, Header: m.Header, Data: m.Data, Time: at}, nil
}

// HeadersPage requests the headers of messages in the order of their sequences; their bodies stay at the broker.
type HeadersPage struct {
	Stream   string
	Subjects []string
	From     uint64 // first sequence to look at
	Until    uint64 // last one
	Most     int    // messages to look at
}

const (
	headersBatch  = 256              // messages in memory at a time
	headersExpiry = 30 * time.Second // after which the broker drops the consumer of a reader that has gone
)

// SizeHeader has the length of the body that stayed behind.
const SizeHeader = "Nats-Msg-Size"

// GetHeaders hands the messages of a page to each until it reports that it has enough, and returns where the next page begins: 0
// when there is none.
func GetHeaders(ctx context.Context, js jetstream.JetStream, p HeadersPage, each func(Stored) (enough bool, err error)) (next uint64, err error) {
	cons, err := js.CreateConsumer(ctx, p.Stream, jetstream.ConsumerConfig{
		FilterSubjects: p.Subjects, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: max(p.From, 1),
		AckPolicy: jetstream.AckNonePolicy, HeadersOnly: true, MemoryStorage: true, InactiveThreshold: headersExpiry,
	})
	if err != nil {
		return 0, fmt.Errorf("read headers of %s: %w", p.Stream, err)
	}
	name := cons.CachedInfo().Name
	defer func() { _ = js.DeleteConsumer(context.WithoutCancel(ctx), p.Stream, name) }() // it would expire
	for left := int(cons.CachedInfo().NumPending); left > 0; {
		batch, err := cons.FetchNoWait(headersBatch)
		if err != nil {
			return 0, fmt.Errorf("read headers of %s: %w", p.Stream, err)
		}
		got := 0
		for m := range batch.Messages() {
			got++
			left--
			meta, err := m.Metadata()
			if err != nil {
				return 0, fmt.Errorf("read headers of %s: %w", p.Stream, err)
			}
			seq := meta.Sequence.Stream
			if seq > p.Until {
				return 0, nil
			}
			enough, err := each(Stored{Subject: m.Subject(), Sequence: seq, Header: m.Headers(), Time: meta.Timestamp})
			if err != nil {
				return 0, err
			}
			if p.Most--; enough || p.Most <= 0 {
				return following(seq, p.Until, left), nil
			}
		}
		if err := batch.Error(); err != nil {
			return 0, fmt.Errorf("read headers of %s: %w", p.Stream, err)
		}
		if got == 0 {
			return 0, nil // the rest was deleted meanwhile
		}
	}
	return 0, nil
}

func following(seq, until uint64, left int) uint64 {
	if seq >= until || left <= 0 {
		return 0
	}
	return seq + 1
}
