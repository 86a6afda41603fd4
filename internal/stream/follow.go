package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Follow calls each for every key of bucket that matches filter, first with what is there, then at every change, until ctx
// ends. A deleted key comes with value nil.
func Follow(ctx context.Context, js jetstream.JetStream, bucket, filter string, log *slog.Logger, each func(key string, value []byte)) {
	FollowEntries(ctx, js, bucket, filter, log, func(key string, e Entry) { each(key, e.Value) })
}

// FollowKnown is FollowEntries; known is called each time when all that was there has been told.
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

// followPause is the time between looks whether the bucket is still the one that is followed: one that was made again tells
// those who followed the earlier one nothing, or late.
const followPause = 3 * time.Second

func follow(ctx context.Context, js jetstream.JetStream, bucket, filter string, each func(string, Entry), known func()) error {
	began, err := js.Stream(ctx, "KV_"+bucket)
	if err != nil {
		return err
	}
	kv, err := js.KeyValue(ctx, bucket)
	if err != nil {
		return err
	}
	w, err := kv.Watch(ctx, filter)
	if err != nil {
		return err
	}
	defer func() { _ = w.Stop() }()
	tick := time.NewTicker(followPause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := still(ctx, js, began.CachedInfo()); err != nil {
				return err
			}
		case e, ok := <-w.Updates():
			switch {
			case !ok:
				return nil
			case e == nil:
				known()
			case e.Operation() == jetstream.KeyValuePut && len(e.Value()) > 0:
				each(e.Key(), Entry{Value: e.Value(), Revision: e.Revision(), Stored: e.Created(), Exists: true})
			default:
				each(e.Key(), Entry{Revision: e.Revision(), Stored: e.Created()})
			}
		}
	}
}

// still reports that a stream is gone, or another one of its name is there. What cannot be asked is taken for unchanged.
func still(ctx context.Context, js jetstream.JetStream, before *jetstream.StreamInfo) error {
	s, err := js.Stream(ctx, before.Config.Name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return err
	case err == nil && !s.CachedInfo().Created.Equal(before.Created):
		return fmt.Errorf("%s was made again", before.Config.Name)
	}
	return nil
}
