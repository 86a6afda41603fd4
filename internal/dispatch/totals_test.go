package dispatch_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/dispatch"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/natstest"
	"github.com/dspex/dspex/internal/stream"
)

// counted is what stats.get answers.
func counted(t *testing.T, nc *nats.Conn) (requests, failed int) {
	t.Helper()
	var answer struct {
		Result struct {
			Requests int `json:"total_requests"`
			Errors   int `json:"total_errors"`
		}
	}
	if m, err := nc.Request(jobs.RPCStats, nil, 5*time.Second); err == nil { // else it does not serve yet
		if err := json.Unmarshal(m.Data, &answer); err != nil {
			t.Fatal(err)
		}
	}
	return answer.Result.Requests, answer.Result.Errors
}

func await(t *testing.T, what string, there func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !there(); {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

func TestTotalsGoOnWhenHostsAndDispatchersRestart(t *testing.T) {
	s := natstest.Run(t, func(o *server.Options) { o.JetStreamMaxStore = 64 << 30 })
	run := func(name string) (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		d, err := dispatch.New(dispatch.Config{Name: name, NC: natstest.Connect(t, s)})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- d.Run(ctx) }()
		return func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}
	nc := natstest.Connect(t, s)
	beat := func(incarnation string, started, requests, failed int64, leaving bool) {
		b, err := json.Marshal(control.Heartbeat{Host: "h1", Incarnation: incarnation, Started: started, Requests: requests, Errors: failed, Leaving: leaving})
		if err != nil {
			t.Fatal(err)
		}
		if err := nc.Publish(jobs.SubjectHeartbeat+"h1", b); err != nil {
			t.Fatal(err)
		}
	}
	is := func(requests, failed int) func() bool {
		return func() bool { r, f := counted(t, nc); return r == requests && f == failed }
	}
	stop := run("d1")
	await(t, "the first host is not counted", func() bool { beat("a", 1, 10, 2, false); return is(10, 2)() })
	beat("a", 1, 12, 3, true)
	await(t, "what a host counted is gone with it", is(12, 3))
	beat("b", 2, 0, 0, false)
	beat("b", 2, 5, 1, false)
	await(t, "a restarted host does not go on", is(17, 4))
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	bucket, err := js.KeyValue(t.Context(), stream.Control)
	if err != nil {
		t.Fatal(err)
	}
	await(t, "it is not written down", func() bool {
		e, err := bucket.Get(t.Context(), control.TotalsKey)
		if err != nil {
			return false
		}
		written, err := control.ParseTotals(e.Value())
		return err == nil && written.Sum().Requests == 17
	})
	stop()
	defer run("d2")()
	await(t, "the next dispatcher counts from zero", is(17, 4))
	await(t, "the host does not go on at the next dispatcher", func() bool { beat("b", 2, 6, 1, false); return is(18, 4)() })
}
