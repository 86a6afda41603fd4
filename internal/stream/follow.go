package stream

import (
	"context"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Follow calls each for every key of bucket that matches filter, first with what is there, then at every change, until ctx
// ends. A deleted key comes with value nil.
func Follow(ctx context.Context, js jetstream.JetStream, bucket, filter string, log *slog.Logger, each func(key string, value []byte)) {
	FollowEntries(ctx, js, bucket, filter, log, func(key string, e Entry) { each(key, e.Value) })
}

// FollowEntries is Follow with all that is known of a key. After a lost connection it begins again with what is there.
func FollowEntries(ctx context.Context, js jetstream.JetStream, bucket, filter string, log *slog.Logger, each func(key string, e Entry)) {
	for ctx.Err() == nil {
		if err := follow(ctx, js, bucket, filter, each); err != nil && ctx.Err() == nil {
			log.Warn("watch_lost", "bucket", bucket, "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func follow(ctx context.Context, js jetstream.JetStream, bucket, filter string, each func(string, Entry)) error {
	kv, err := js.KeyValue(ctx, bucket)
	if err != nil {
		return err
	}
	w, err := kv.Watch(ctx, filter)
	if err != nil {
		return err
	}
	defer func() { _ = w.Stop() }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-w.Updates():
			switch {
			case !ok:
				return nil
			case e == nil: // all that was there has been told
			case e.Operation() == jetstream.KeyValuePut && len(e.Value()) > 0:
				each(e.Key(), Entry{Value: e.Value(), Revision: e.Revision(), Stored: e.Created(), Exists: true})
			default:
				each(e.Key(), Entry{Revision: e.Revision(), Stored: e.Created()})
			}
		}
	}
}
