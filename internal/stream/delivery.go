package stream

import (
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Delivery is one delivery of a stored job.
type Delivery struct {
	Subject   string
	Header    map[string][]string
	Data      []byte
	Reply     string // acknowledgements go there
	Sequence  uint64 // in the stream
	Order     uint64 // of this delivery among those of its consumer
	Delivered int    // how often it was, this time included
	Pending   uint64 // jobs behind it
	Stored    time.Time
}

// The bodies of acknowledgements.
var (
	AckDone     = []byte("+ACK")
	AckProgress = []byte("+WPI")
)

// AckLater requests another delivery after a delay.
func AckLater(delay time.Duration) []byte {
	return fmt.Appendf(nil, `-NAK {"delay": %d}`, delay.Nanoseconds())
}

func deliveryOf(m jetstream.Msg) (Delivery, bool) {
	meta, err := m.Metadata()
	if err != nil {
		return Delivery{}, false
	}
	return Delivery{Subject: m.Subject(), Header: m.Headers(), Data: m.Data(), Reply: m.Reply(), Sequence: meta.Sequence.Stream, Order: meta.Sequence.Consumer,
		Delivered: int(meta.NumDelivered), Pending: meta.NumPending, Stored: meta.Timestamp}, true
}

// Taken is the consumer of a partition's epoch.
type Taken struct {
	Identity int64 // identity of the stream that its sequences count in

	cons  jetstream.Consumer
	name  string
	bytes int // that one pull brings at most
}

// pullBytes bounds what one pull of a partition brings: a host that takes all partitions of a backlog gets no more at once than the
// broker keeps for a connection (max_pending in nats.conf). One message of any size must fit.
func pullBytes(nc *nats.Conn) int { return int(nc.MaxPayload()) + pullOverhead }

const (
	pullOverhead = 8 << 10 // of subjects, which the broker counts
	lanePulls    = 8       // largest messages that one pull of a lane brings
)

// Consume calls deliver for each job, on one goroutine, until stop is called, which waits for it. lost is called when the consumer
// has ended.
func (t *Taken) Consume(deliver func(Delivery), lost func(error)) (stop func(), err error) {
	consuming, err := t.cons.Consume(func(m jetstream.Msg) {
		if d, ok := deliveryOf(m); ok {
			deliver(d)
		}
	}, jetstream.PullMaxMessagesWithBytesLimit(256, t.bytes), jetstream.PullExpiry(30*time.Second),
		jetstream.PullHeartbeat(5*time.Second), jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
			if !errors.Is(err, nats.ErrConnectionClosed) && !errors.Is(err, nats.ErrTimeout) && !errors.Is(err, jetstream.ErrMaxBytesExceeded) {
				lost(err)
			}
		}))
	if err != nil {
		return nil, fmt.Errorf("consume %s: %w", t.name, err)
	}
	return func() { consuming.Stop(); <-consuming.Closed() }, nil
}

// Lane is the consumer of a lane of anonymous jobs, which all hosts share.
type Lane struct {
	cons  jetstream.Consumer
	bytes int // that one pull brings at most
}

// Fetch calls each for n jobs at most, and returns when it has them or after wait. No job is no error.
func (l *Lane) Fetch(n int, wait time.Duration, each func(Delivery)) error {
	batch, err := l.cons.Fetch(n, jetstream.FetchMaxWait(wait), jetstream.FetchMaxBytes(l.bytes))
	if err != nil {
		return err
	}
	for m := range batch.Messages() {
		if d, ok := deliveryOf(m); ok {
			each(d)
		}
	}
	if err := batch.Error(); !errors.Is(err, jetstream.ErrNoMessages) && !errors.Is(err, jetstream.ErrMaxBytesExceeded) {
		return err
	}
	return nil
}
