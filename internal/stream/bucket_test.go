package stream_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/natstest"
	"github.com/dspex/dspex/internal/stream"
)

// asked counts the requests under a subject.
func asked(t *testing.T, nc *nats.Conn, subject string) func() int {
	t.Helper()
	sub, err := nc.SubscribeSync(subject)
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return func() int {
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		n, _, err := sub.Pending()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
}

// readAll reads keys on a goroutine each: every second one is there.
func readAll(t *testing.T, b *stream.Bucket, n int) {
	t.Helper()
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			e, err := b.GetTogether(t.Context(), fmt.Sprintf("s.%d", i))
			want := ""
			if i%2 == 0 {
				want = fmt.Sprint("value ", i)
			}
			if err != nil {
				t.Errorf("key %d: %v", i, err)
			}
			if e.Exists != (want != "") || string(e.Value) != want {
				t.Errorf("key %d: got %q, exists %v; want %q", i, e.Value, e.Exists, want)
			}
			if e.Exists && (e.Revision == 0 || e.Stored.IsZero()) {
				t.Errorf("key %d: got revision %d of %v, want both", i, e.Revision, e.Stored)
			}
		})
	}
	all.Wait()
}

func TestKeysThatAreReadTogetherTakeFewRequestsAndNoneIsMissed(t *testing.T) {
	y := start(t)
	for i := 0; i < 200; i += 2 {
		y.put(t, fmt.Sprintf("s.%d", i), fmt.Sprint("value ", i), 0)
	}
	if _, err := y.records.GetTogether(t.Context(), "s.0"); err != nil { // it has found out that there is one copy
		t.Fatal(err)
	}
	together, alone := asked(t, y.nc, "$JS.API.DIRECT.GET.KV_"+stream.Sessions), asked(t, y.nc, "$JS.API.STREAM.MSG.GET.KV_"+stream.Sessions)
	readAll(t, y.records, 200)
	if n := together(); n == 0 || n > 100 {
		t.Errorf("200 keys took %d requests", n)
	}
	if n := alone(); n != 0 {
		t.Errorf("%d keys were read alone", n)
	}
}

func TestWhatWasAcknowledgedIsSeenByWhoReadsTogether(t *testing.T) {
	y := start(t)
	for i := range 500 {
		key := fmt.Sprintf("s.%d", i)
		y.put(t, key, "there", 0)
		if e, err := y.records.GetTogether(t.Context(), key); err != nil || !e.Exists {
			t.Fatalf("key %d: %+v, %v", i, e, err)
		}
	}
}

func TestWhereTheBrokerDoesNotLetReadDirectlyTheLeaderIsAsked(t *testing.T) {
	s := natstest.Run(t, func(o *server.Options) {
		o.Users = []*server.User{
			{Username: "all", Password: "x"},
			{Username: "host", Password: "x", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"$JS.API.DIRECT.GET.>"}}}},
		}
	})
	connect := func(user string) *nats.Conn {
		nc, err := nats.Connect(s.ClientURL(), nats.UserInfo(user, "x"), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		return nc
	}
	nc, host := connect("all"), connect("host")
	js, err := jetstream.New(nc)
	if err == nil {
		_, err = stream.Ensure(t.Context(), js, stream.Settings{JobsBytes: 64 << 20, ResultsBytes: 64 << 20})
	}
	if err != nil {
		t.Fatal(err)
	}
	w, err := stream.NewWriter(host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	b := stream.NewBucket(host, w, stream.Sessions)
	for i := 0; i < 40; i += 2 {
		if _, err := b.PutSync(fmt.Sprintf("s.%d", i), fmt.Append(nil, "value ", i), 0, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	alone := asked(t, nc, "$JS.API.STREAM.MSG.GET.KV_"+stream.Sessions)
	readAll(t, b, 40)
	if n := alone(); n != 40 {
		t.Errorf("%d of 40 keys were read from the leader", n)
	}
}

func TestInAClusterTheLeaderIsAskedForEachKey(t *testing.T) {
	c := natstest.RunCluster(t)
	nc := natstest.Connect(t, c.Servers[0])
	js, err := jetstream.New(nc)
	if err == nil {
		_, err = stream.Ensure(t.Context(), js, stream.Settings{JobsBytes: 64 << 20, ResultsBytes: 64 << 20, Replicas: 3})
	}
	if err != nil {
		t.Fatal(err)
	}
	w, err := stream.NewWriter(nc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	b := stream.NewBucket(nc, w, stream.Sessions)
	for i := 0; i < 20; i += 2 {
		if _, err := b.PutSync(fmt.Sprintf("s.%d", i), fmt.Append(nil, "value ", i), 0, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	together := asked(t, nc, "$JS.API.DIRECT.GET.KV_"+stream.Sessions)
	readAll(t, b, 20)
	if n := together(); n != 0 {
		t.Errorf("%d requests went to whichever replica", n)
	}
}

func TestABrokerThatDoesNotAnswerIsToldToAllWhoReadTogether(t *testing.T) {
	y := start(t)
	if _, err := y.records.GetTogether(t.Context(), "s.0"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			if _, err := y.records.GetTogether(ctx, fmt.Sprintf("s.%d", i)); !errors.Is(err, context.Canceled) {
				t.Errorf("key %d: %v", i, err)
			}
		})
	}
	all.Wait()
	if e, err := y.records.GetTogether(t.Context(), "s.0"); err != nil || e.Exists {
		t.Errorf("afterwards: %+v, %v", e, err)
	}
}
