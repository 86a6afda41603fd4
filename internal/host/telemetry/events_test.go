package telemetry

import (
	"encoding/json"
	"maps"
	"math"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
	"github.com/dspex/dspex/internal/natstest"
	"github.com/dspex/dspex/internal/stream"
)

func TestTelemetryIsSentWhileSomebodyListens(t *testing.T) {
	srv := natstest.Run(t)
	nc, listener := natstest.Connect(t, srv), natstest.Connect(t, srv)
	tell, stop, err := newEvents(&stream.Access{NC: nc}, "h1")
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	of := &lifecycle.Task{Job: &lifecycle.Job{Env: jobs.Envelope{Job: "j1"}}, Session: jobs.SessionRef{Tenant: jobs.DefaultTenant, ID: "s1"}, Req: jobs.Request{Command: "predict"}, Attempt: 2}
	emit := func(kind int) (sent uint64) {
		before := nc.Stats().OutMsgs
		tell.emit(kind, of, "h1/0", 1234567*time.Nanosecond, jobs.Errorf(jobs.Timeout, "late", ""))
		sent = nc.Stats().OutMsgs - before
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		return sent
	}
	if n := emit(ofExecute); n != 1 {
		t.Errorf("the first one: %d messages", n)
	}
	awaitDeaf(t, nc, tell, ofExecute)
	for range 100 {
		if n := emit(ofExecute); n != 0 {
			t.Fatal("sent though nobody listens")
		}
	}
	sub, err := listener.SubscribeSync("dspex.telemetry.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Flush(); err != nil {
		t.Fatal(err)
	}
	if n := emit(ofCheckout); n != 1 { // another kind
		t.Errorf("with a listener: %d messages", n)
	}
	tell.muted[ofExecute].Store(0) // its second is over
	for range 3 {
		if n := emit(ofExecute); n != 1 {
			t.Errorf("with a listener: %d messages", n)
		}
	}
	for kind, want := range []map[string]any{
		{"event": "dspex.session_pool.checkout", "attempt": 3.0, "duration": 1.234},
		{"event": "dspex.session_pool.execute", "attempt": 2.0, "duration": 1.234},
		{"event": "dspex.session_pool.execute", "attempt": 2.0, "duration": 1.234},
	} {
		m := next(t, sub)
		maps.Copy(want, map[string]any{"host": "h1", "session": "s1", "job": "j1", "command": "predict", "worker": "h1/0", "error_category": "timeout", "code": "late"})
		for key, v := range want {
			if m[key] != v {
				t.Errorf("%d: %s is %v, want %v", kind, key, m[key], v)
			}
		}
	}
}

func TestTelemetryThatIsNotAllowedIsTriedOnce(t *testing.T) {
	srv := natstest.Run(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "host", Password: "x", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"dspex.telemetry.>"}}}}}
	})
	denied := make(chan error, 10)
	nc := natstest.Connect(t, srv, nats.UserInfo("host", "x"), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied <- err }))
	tell, stop, err := newEvents(&stream.Access{NC: nc}, "h1")
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	of := &lifecycle.Task{Job: &lifecycle.Job{}}
	tell.emit(ofExecute, of, "", 0, nil)
	<-denied
	before := nc.Stats().OutMsgs
	tell.emit(ofExecute, of, "", 0, nil)
	if n := nc.Stats().OutMsgs - before; n != 0 || tell.muted[ofExecute].Load() != math.MaxInt64 {
		t.Errorf("tried again: %d messages", n)
	}
}

// awaitDeaf returns when the broker's word has come.
func awaitDeaf(t *testing.T, nc *nats.Conn, tell *events, kind int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); tell.muted[kind].Load() == 0; {
		if time.Now().After(end) {
			t.Fatal("the broker does not say that nobody listens")
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
	}
}

func next(t *testing.T, sub *nats.Subscription) (m map[string]any) {
	t.Helper()
	msg, err := sub.NextMsg(5 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(msg.Data, &m); err != nil {
		t.Fatalf("%q: %v", msg.Data, err)
	}
	return m
}
