package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Follow calls each for every key of bucket that matches filter, first with what is there, then at every change, until ctx
// ends. A deleted key comes with value nil.
func Follow(ctx context.Context, js jetstream.JetStream, bucket, filter string, log *slog.Logger, each func(key string, value []byte)) {
	FollowEntries(ctx, js, bucket, filter, log, func(key string, e Entry) { each(key, e.Value) })
}

// FollowKnown is FollowEntries; known is called each time when all that was there has been passed on.
func FollowKnown(ctx context.Context, js jetstream.JetStream, bucket, filter string, log *slog.Logger, each func(key string, e Entry), known func()) {
	followAll(ctx, js, bucket, filter, log, each, known)
}

// FollowEntries is Follow with all that is known of a key. After a lost connection it begins again with what is there.
func FollowEntries(ctx context.Context, js jetstream.JetStream, bucket, filter string, log *slog.Logger, each func(key string, e Entry)) {
	followAll(ctx, js, bucket, filter, log, each, func() {})
}

func followAll(ctx context.Context, js jetstream.JetStream, bucket, filter string, log *slog.Logger, each func(key string, e Entry), known func()) {
	for ctx.Err() == nil {
		if err := follow(ctx, js, bucket, filter, each, known); err != nil && ctx.Err() == nil {
			log.Warn("watch_lost", "bucket", bucket, "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// followPause is the time between looks whether the bucket is still the one that is followed: one that was recreated sends
// those who followed the earlier one nothing, or late.
const followPause = 3 * time.Second

func follow(ctx context.Context, js jetstream.JetStream, bucket, filter string, each func(string, Entry), known func()) error {
	began, err := js.Stream(ctx, "KV_"+bucket)
	if err != nil {
		return err
	}
	sub, err := subscribe(ctx, js, bucket, filter)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }()
	pending, err := sub.InitialConsumerPending()
	if err != nil {
		return err
	}
	once := sync.OnceFunc(known)
	if pending == 0 {
		once()
	}
	for looked := time.Now(); ; {
		m, err := receive(ctx, sub, looked.Add(followPause))
		if err != nil || ctx.Err() != nil {
			return err
		}
		if m != nil {
			e, left, err := entry(m)
			if err != nil {
				return err
			}
			each(strings.TrimPrefix(m.Subject, "$KV."+bucket+"."), e)
			if left == 0 {
				once()
			}
		}
		if time.Since(looked) >= followPause {
			if err := still(ctx, js, began.CachedInfo()); err != nil {
				return err
			}
			looked = time.Now()
		}
	}
}

// subscribe makes an ordered consumer of the newest values of a bucket. The watcher of nats.go is not used: it holds a lock of the
// message handler while it waits for the broker's answer, which stops fake time.
func subscribe(ctx context.Context, js jetstream.JetStream, bucket, filter string) (*nats.Subscription, error) {
	var options []nats.JSOpt
	switch o := js.Options(); {
	case o.APIPrefix != "":
		options = append(options, nats.APIPrefix(o.APIPrefix))
	case o.Domain != "":
		options = append(options, nats.Domain(o.Domain))
	}
	push, err := js.Conn().JetStream(options...)
	if err != nil {
		return nil, err
	}
	return push.SubscribeSync("$KV."+bucket+"."+filter, nats.BindStream("KV_"+bucket), nats.OrderedConsumer(), nats.DeliverLastPerSubject(), nats.Context(ctx))
}

// receive waits for a message until the time by; none is no error.
func receive(ctx context.Context, sub *nats.Subscription, by time.Time) (*nats.Msg, error) {
	ctx, cancel := context.WithDeadline(ctx, by)
	defer cancel()
	m, err := sub.NextMsgWithContext(ctx)
	if err != nil && ctx.Err() != nil {
		return nil, nil
	}
	return m, err
}

// entry is the content of a message of a bucket's stream, and how many are left after it.
func entry(m *nats.Msg) (e Entry, left uint64, err error) {
	at, err := m.Metadata()
	if err != nil {
		return e, 0, err
	}
	e = Entry{Revision: at.Sequence.Stream, Stored: at.Timestamp}
	if !deleted(m.Header) && len(m.Data) > 0 {
		e.Value, e.Exists = m.Data, true
	}
	return e, at.NumPending, nil
}

// still reports that a stream is gone, or another one of its name is there. What does not answer is taken for unchanged.
func still(ctx context.Context, js jetstream.JetStream, before *jetstream.StreamInfo) error {
	s, err := js.Stream(ctx, before.Config.Name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return err
	case err == nil && identityOf(s.CachedInfo()) != identityOf(before):
		return fmt.Errorf("%s was made again", before.Config.Name)
	}
	return nil
}
