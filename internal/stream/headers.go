package stream

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

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
