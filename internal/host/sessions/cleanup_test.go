package sessions

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/host/driver"
	"github.com/dspex/dspex/internal/host/ownership"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/natstest"
	"github.com/dspex/dspex/internal/stream"
)

func named(id string) jobs.SessionRef { return jobs.SessionRef{Tenant: jobs.DefaultTenant, ID: id} }

func TestOnlyThePartitionsOwnerErasesAndTwiceIsFine(t *testing.T) {
	nc := natstest.Connect(t, natstest.Run(t, func(o *server.Options) { o.JetStreamMaxStore = 64 << 30 }))
	js, err := jetstream.New(nc)
	if err == nil {
		_, err = stream.Ensure(t.Context(), js, stream.Settings{})
	}
	if err != nil {
		t.Fatal(err)
	}
	w, err := stream.NewWriter(nc)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	on := &stream.Access{NC: nc, JS: js, Results: stream.NewBucket(nc, w, stream.Results), Claims: stream.NewClaims(js, stream.NewBucket(nc, w, stream.Assign))}
	key := jobs.AssignmentKey(3)
	epoch, err := on.Claims.Write(key, stream.Owner{Host: "h1"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	put := func(session string) {
		t.Helper()
		if _, err := on.Results.PutSync(named(session).ResultKey("j"), []byte("x"), 0, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	left := func(session string) bool {
		t.Helper()
		e, err := on.Results.Get(t.Context(), named(session).ResultKey("j"))
		if err != nil {
			t.Fatal(err)
		}
		return e.Exists
	}
	put("mine")
	put("other")
	ctx, fence := context.WithCancelCause(t.Context())
	all := New("h1", nil, &driver.Drivers{Goroutines: &driver.Goroutines{}, On: on}, time.Hour)
	p := newPartition(newService(all, &ownership.Ownership{N: 3, Work: ctx, Fence: fence}), epoch)
	p.want = stream.Consumer{Key: key}
	s := scope{p}
	for range 2 {
		if err := s.erase(t.Context(), named("mine")); err != nil {
			t.Fatal(err)
		}
	}
	if left("mine") || !left("other") {
		t.Errorf("mine is left: %v, another session's is left: %v", left("mine"), left("other"))
	}
	put("mine")
	if _, err := on.Claims.Write(key, stream.Owner{Host: "h2"}, epoch); err != nil {
		t.Fatal(err)
	}
	if err := s.erase(t.Context(), named("mine")); !errors.Is(err, errFenced) || !left("mine") {
		t.Errorf("after the partition went to another host: %v, left %v", err, left("mine"))
	}
}
