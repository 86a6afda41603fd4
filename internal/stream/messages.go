package stream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// LastSequence is that of a stream's newest message.
func (a *Access) LastSequence(ctx context.Context, stream string) (uint64, error) {
	s, err := a.JS.Stream(ctx, stream)
	if err != nil {
		return 0, err
	}
	return s.CachedInfo().State.LastSeq, nil
}

// Messages counts the messages of a stream under each subject that matches filter.
func (a *Access) Messages(ctx context.Context, stream, filter string) (map[string]uint64, error) {
	s, err := a.JS.Stream(ctx, stream)
	if err != nil {
		return nil, err
	}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(filter))
	if err != nil {
		return nil, err
	}
	return info.State.Subjects, nil
}

// Count is the number of messages and of consumers of a stream.
func (a *Access) Count(ctx context.Context, stream string) (messages uint64, consumers int, err error) {
	s, err := a.JS.Stream(ctx, stream)
	if err != nil {
		return 0, 0, err
	}
	state := s.CachedInfo().State
	return state.Msgs, state.Consumers, nil
}

// DeleteMessage removes a message. One that is gone already is fine.
func (a *Access) DeleteMessage(ctx context.Context, stream string, sequence uint64) error {
	s, err := a.JS.Stream(ctx, stream)
	if err != nil {
		return err
	}
	if err := s.DeleteMsg(ctx, sequence); err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
		return err
	}
	return nil
}

// PurgeSubject removes all messages of a stream under a subject but the newest ones.
func (a *Access) PurgeSubject(ctx context.Context, stream, subject string, keep uint64) error {
	s, err := a.JS.Stream(ctx, stream)
	if err != nil {
		return err
	}
	options := []jetstream.StreamPurgeOpt{jetstream.WithPurgeSubject(subject)}
	if keep > 0 {
		options = append(options, jetstream.WithPurgeKeep(keep))
	}
	return s.Purge(ctx, options...)
}

// Progress is how far the consumer of a lane has come.
type Progress struct {
	Delivered uint64 // sequence of the last message that it delivered
	Pending   uint64 // messages that it has not delivered yet
	At        time.Time
}

// Progress reads that of a lane of anonymous jobs; none: no host has served the lane yet.
func (a *Access) Progress(ctx context.Context, lane string) (p Progress, none bool, err error) {
	c, err := a.JS.Consumer(ctx, Anonymous, lane)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return p, true, err
	}
	if err != nil {
		return p, false, err
	}
	info := c.CachedInfo()
	return Progress{info.Delivered.Stream, info.NumPending, info.TimeStamp}, false, nil
}

// Publish stores a message and calls done with the broker's answer. It does not block, and done must not.
func (a *Access) Publish(subject string, header map[string][]string, data []byte, done func(Ack, error)) {
	a.Writer.Publish(&nats.Msg{Subject: subject, Header: header, Data: data}, done)
}

// StoreFirst is Store of a message that must be the only one under its subject: else the error is ErrWrongRevision.
func (a *Access) StoreFirst(subject string, header map[string][]string, data []byte) error {
	header[nats.ExpectedLastSubjSeqHdr] = []string{"0"}
	return a.Store(subject, header, data)
}

// StoreSequence is Store that returns where the message is.
func (a *Access) StoreSequence(subject string) (uint64, error) {
	ack, err := a.Writer.PublishSync(&nats.Msg{Subject: subject})
	return ack.Sequence, err
}

// Notify is a channel that gets a value when something is published under the subject, until stop is called.
func (a *Access) Notify(subject string) (c <-chan struct{}, stop func(), err error) {
	published := make(chan struct{}, 1)
	stop, err = a.Receive(subject, func(string, []byte) {
		select {
		case published <- struct{}{}:
		default:
		}
	})
	return published, stop, err
}

// Inbox is a subject of this process alone.
func (a *Access) Inbox() string { return a.NC.NewInbox() }

// Invite requests all who serve a subject to answer to an inbox.
func (a *Access) Invite(subject, inbox string) error { return a.NC.PublishRequest(subject, inbox, nil) }

// Collect invites all who serve a subject and hands their answers to each, until ctx ends, or the broker reports that there is no responder.
func (a *Access) Collect(ctx context.Context, subject string, each func(data []byte)) error {
	inbox := a.NC.NewInbox()
	sub, err := a.NC.SubscribeSync(inbox)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := a.Invite(subject, inbox); err != nil {
		return err
	}
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil || m.Header.Get("Status") != "" {
			return nil // the time is over, or nobody is there
		}
		each(m.Data)
	}
}

// Announcer publishes under the kinds below a subject, each at most once, and gets from the broker which of them have no subscriber.
type Announcer struct {
	nc             *nats.Conn
	subject, inbox string // + kind
}

// noResponders is the status of the broker's word that nobody listens.
const noResponders = "503"

// Announce makes an announcer. noListener is called with each kind that was published while nobody listened, on one goroutine, until stop
// is called.
func (a *Access) Announce(subject string, noListener func(kind string)) (out *Announcer, stop func(), err error) {
	out = &Announcer{a.NC, subject, a.NC.NewInbox() + "."}
	sub, err := a.NC.Subscribe(out.inbox+"*", func(m *nats.Msg) {
		if m.Header.Get("Status") == noResponders { // else it is a listener that answers
			noListener(strings.TrimPrefix(m.Subject, out.inbox))
		}
	})
	if err != nil {
		return nil, nil, fmt.Errorf("subscribe to a subject without listeners: %w", err)
	}
	return out, func() { _ = sub.Unsubscribe() }, nil
}

// Publish sends a body to whoever listens.
func (o *Announcer) Publish(kind string, body []byte) {
	_ = o.nc.PublishMsg(&nats.Msg{Subject: o.subject + kind, Reply: o.inbox + kind, Data: body})
}

// Forbidden reports that the broker has refused one of them.
func (o *Announcer) Forbidden() bool { return Forbidden(o.nc, o.subject) }

// ResetConsumer has everything delivered again that a partition's consumer has not been acknowledged.
func (a *Access) ResetConsumer(ctx context.Context, name string) error {
	_, err := a.JS.ResetConsumer(ctx, Jobs, name)
	return err
}

// Sent is how many deliveries a partition's consumer has made since it was created or reset.
func (a *Access) Sent(ctx context.Context, name string) (uint64, error) {
	c, err := a.JS.Consumer(ctx, Jobs, name)
	if err != nil {
		return 0, err
	}
	return c.CachedInfo().Delivered.Consumer, nil
}

// Reconnects gets a value each time that the connection was recreated, until stop is called.
func (a *Access) Reconnects() (c <-chan nats.Status, stop func()) {
	connected := a.NC.StatusChanged(nats.CONNECTED)
	return connected, func() { a.NC.RemoveStatusListener(connected) }
}

// anonymousAckWait is how long an anonymous job may be silent before the broker gives it to another host.
const anonymousAckWait = 20 * time.Second

// OpenLane makes the consumer if there is none.
func (a *Access) OpenLane(ctx context.Context, lane string, subjects []string) (*Lane, error) {
	cons, err := a.JS.CreateOrUpdateConsumer(ctx, Anonymous, jetstream.ConsumerConfig{
		Durable: lane, FilterSubjects: subjects, AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: anonymousAckWait, MaxDeliver: -1, MaxAckPending: MaxAckPending,
	})
	if err != nil {
		return nil, err
	}
	return &Lane{cons, lanePulls * pullBytes(a.NC)}, nil
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
