package stream_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/natstest"
	"github.com/dspex/dspex/internal/stream"
)

func made(t *testing.T) jetstream.JetStream {
	t.Helper()
	s := natstest.Run(t, func(o *server.Options) { o.JetStreamMaxStore = 64 << 30 })
	js, err := jetstream.New(natstest.Connect(t, s))
	if err == nil {
		_, err = stream.Ensure(t.Context(), js, stream.Settings{Partitions: 4})
	}
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func TestWhatEnsureMakesDoesNotDeviate(t *testing.T) {
	js := made(t)
	found, missing, err := stream.Deviations(t.Context(), js)
	if err != nil || len(found) > 0 || len(missing) > 0 {
		t.Errorf("got %+v, missing %v, %v", found, missing, err)
	}
}

func TestSettingsThatLoseJobsAreNamedAndMended(t *testing.T) {
	js := made(t)
	ctx := t.Context()
	change := func(name string, by func(*jetstream.StreamConfig)) {
		s, err := js.Stream(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		cfg := s.CachedInfo().Config
		by(&cfg)
		if _, err := js.UpdateStream(ctx, cfg); err != nil {
			t.Fatal(err)
		}
	}
	change(stream.Jobs, func(c *jetstream.StreamConfig) { c.MaxAge, c.MaxMsgs = time.Hour, 1000 })
	change(stream.Anonymous, func(c *jetstream.StreamConfig) { c.Discard, c.AllowDirect = jetstream.DiscardOld, false })
	change(stream.Dead, func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour })
	change(stream.Events, func(c *jetstream.StreamConfig) { c.MaxAge, c.MaxBytes = 100*time.Hour, 128<<20 }) // more is the operator's affair
	if err := js.DeleteStream(ctx, stream.BatchesStream); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(ctx, "dspex.session.s1", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	found, missing, err := stream.Deviations(ctx, js)
	if err != nil || !slices.Equal(missing, []string{stream.BatchesStream}) {
		t.Fatalf("missing %v, %v", missing, err)
	}
	want := "[{DSPEX_DLQ max_age 1h0m0s 720h0m0s true} {DSPEX_ANON discard DiscardOld DiscardNew true} {DSPEX_ANON allow_direct false true true} " +
		"{DSPEX_JOBS max_age 1h0m0s 0s true} {DSPEX_JOBS max_msgs 1000 0 true}]"
	if got := fmt.Sprint(found); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	for _, d := range found {
		if err := stream.Mend(ctx, js, d.Object); err != nil {
			t.Error(err)
		}
	}
	if found, _, err := stream.Deviations(ctx, js); err != nil || len(found) > 0 {
		t.Errorf("after mending: %+v %v", found, err)
	}
	s, err := js.Stream(ctx, stream.Jobs)
	if err != nil || s.CachedInfo().State.Msgs == 0 {
		t.Errorf("the job is gone: %v", err)
	}
	if err := stream.Mend(ctx, js, "somebody's"); err == nil {
		t.Error("another stream was changed")
	}
}

func TestOnlyConsumersOfEarlierEpochsAreLeftovers(t *testing.T) {
	js := made(t)
	ctx := t.Context()
	kv, err := js.KeyValue(ctx, stream.Assign)
	if err != nil {
		t.Fatal(err)
	}
	var epochs []uint64
	for range 3 {
		rev, err := kv.Put(ctx, "p.1", []byte("h1"))
		if err != nil {
			t.Fatal(err)
		}
		epochs = append(epochs, rev)
	}
	var names []string
	for i, epoch := range epochs {
		name := fmt.Sprintf("p1-e%d", epoch)
		names = append(names, name)
		if i == 1 {
			continue // one that its successor has deleted
		}
		cfg := jetstream.ConsumerConfig{Durable: name, AckPolicy: jetstream.AckExplicitPolicy, FilterSubject: fmt.Sprintf("dspex.p.%d.>", i)}
		if _, err := js.CreateConsumer(ctx, stream.Jobs, cfg); err != nil {
			t.Fatal(err)
		}
	}
	left, err := stream.Leftovers(ctx, js)
	if err != nil || !slices.Equal(left, names[:1]) {
		t.Fatalf("got %v %v, want %v", left, err, names[:1])
	}
	for _, name := range names {
		if err := stream.RemoveLeftover(ctx, js, name); err != nil {
			t.Error(err)
		}
	}
	if _, err := js.Consumer(ctx, stream.Jobs, names[2]); err != nil {
		t.Errorf("the owner's consumer: %v", err)
	}
	if left, err := stream.Leftovers(ctx, js); err != nil || len(left) > 0 {
		t.Errorf("left: %v %v", left, err)
	}
}
