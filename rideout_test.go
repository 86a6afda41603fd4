package dspex_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/natstest"
)

// clientOf is a client of a broker on which these subjects are answered, and a context that bounds its calls.
func clientOf(t *testing.T, answers map[string]nats.MsgHandler) (context.Context, *dspex.Client) {
	t.Helper()
	s := natstest.Run(t)
	nc := natstest.Connect(t, s)
	for subject, f := range answers {
		if _, err := nc.Subscribe(subject, f); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	c, err := dspex.Connect(ctx, s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return ctx, c
}

// dispatcher answers calls as one does, on one broker of a cluster.
func dispatcher(t *testing.T, nc *nats.Conn, answer func(m *nats.Msg)) {
	t.Helper()
	for subject, f := range map[string]nats.MsgHandler{
		contract.RPCJobsGet:       func(m *nats.Msg) { _ = m.Respond([]byte(`{"ok": false}`)) },
		contract.RPCSession + ">": answer,
	} {
		if _, err := nc.Subscribe(subject, f); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}

func succeed(m *nats.Msg) {
	_ = m.Respond([]byte(`{"ok": true, "job": "` + m.Header.Get(contract.HeaderJob) + `", "result": 1}`))
}

func TestACallGoesOnFromABrokerThatIsCutOffOverAnotherOneUnderItsId(t *testing.T) {
	cluster := natstest.RunCluster(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := dspex.Connect(ctx, cluster.Servers[0].ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	dispatcher(t, natstest.Connect(t, cluster.Servers[1]), succeed)
	if _, err := c.Execute(ctx, "s", "echo", nil, dspex.WithJobID("before")); err != nil { // rides until the other brokers have the dispatcher's subscriptions
		t.Fatal(err)
	}
	cluster.Cut()
	began := time.Now()
	r, err := c.Execute(ctx, "s", "echo", nil, dspex.WithJobID("meanwhile"))
	if err != nil || r.Job.ID != "meanwhile" {
		t.Fatalf("%+v, %v", r, err)
	}
	t.Logf("answered after %v", time.Since(began).Round(100*time.Millisecond))
	cluster.Mend()
}

func TestACallRidesOutTheLossOfALeaderIfItHasAnId(t *testing.T) {
	cluster := natstest.RunCluster(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := dspex.Connect(ctx, cluster.Servers[0].ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var asked atomic.Int64
	dispatcher(t, natstest.Connect(t, cluster.Servers[0]), func(m *nats.Msg) {
		if asked.Add(1)%3 != 0 {
			reply := nats.NewMsg(m.Reply)
			reply.Header.Set(contract.HeaderError, "connection_error: no leader")
			reply.Header.Set(contract.HeaderErrorCode, "503")
			reply.Data = []byte(`{"ok": false, "error": {"error_category": "connection", "code": "broker_unreachable", "message": "no leader", "retryable": true}}`)
			_ = m.RespondMsg(reply)
			return
		}
		succeed(m)
	})
	if _, err := c.Execute(ctx, "s", "echo", nil, dspex.WithJobID("mine")); err != nil || asked.Load() != 3 {
		t.Errorf("%v after %d requests", err, asked.Load())
	}
	if _, err := c.Execute(ctx, "s", "echo", nil); err == nil || asked.Load() != 4 {
		t.Errorf("without an id: %v after %d requests", err, asked.Load())
	}
}

// A broker that ends takes a request or its answer with it, and nothing reports it.
func TestARequestOrAnAnswerThatIsLostIsSentAgainUnderItsId(t *testing.T) {
	for name, known := range map[string]string{
		"the request is lost": `{"ok": false, "error": {"error_category": "session", "code": "job_unknown", "message": "unknown job", "retryable": false}}`,
		"the answer is lost":  `{"ok": true, "result": {"job": "mine", "session": "s", "outcome": "succeeded", "attempts": 1}}`,
		"the job waits":       `{"ok": true, "result": {"job": "mine", "session": "s", "outcome": "queued", "attempts": 0}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked, looked atomic.Int64
			first := make(chan *nats.Msg, 1)
			ctx, c := clientOf(t, map[string]nats.MsgHandler{
				contract.RPCJobsGet: func(m *nats.Msg) {
					_ = m.Respond([]byte(known))
					if looked.Add(1) == 2 && name == "the job waits" {
						succeed(<-first)
					}
				},
				contract.RPCSession + ">": func(m *nats.Msg) {
					if asked.Add(1) > 1 {
						succeed(m)
						return
					}
					first <- m
				},
			})
			want := int64(2)
			if name == "the job waits" {
				want = 1
			}
			if r, err := c.Execute(ctx, "s", "echo", nil, dspex.WithJobID("mine")); err != nil || r.Job.ID != "mine" {
				t.Errorf("%+v, %v", r, err)
			}
			if n := asked.Load(); n != want {
				t.Errorf("asked %d times, want %d", n, want)
			}
		})
	}
}

// The request that was accepted runs, whatever becomes of the one that was sent after it.
func TestARefusalOfARequestThatWasSentAgainDecidesNothing(t *testing.T) {
	var asked atomic.Int64
	ctx, c := clientOf(t, map[string]nats.MsgHandler{
		contract.RPCJobsGet: func(m *nats.Msg) {
			_ = m.Respond([]byte(`{"ok": false, "error": {"error_category": "session", "code": "job_unknown", "message": "unknown job", "retryable": false}}`))
		},
		contract.RPCSession + ">": func(m *nats.Msg) {
			switch asked.Add(1) {
			case 1: // accepted, perhaps
			case 2:
				reply := nats.NewMsg(m.Reply)
				reply.Header.Set(contract.HeaderError, "resource_error: overloaded")
				reply.Header.Set(contract.HeaderErrorCode, "429")
				reply.Data = []byte(`{"ok": false, "error": {"error_category": "resource_error", "code": "overloaded", "message": "no room", "retryable": true, "retry_after_ms": 10}}`)
				_ = m.RespondMsg(reply)
			default:
				succeed(m)
			}
		},
	})
	if _, err := c.Execute(ctx, "s", "echo", nil, dspex.WithJobID("mine")); err != nil || asked.Load() != 3 {
		t.Errorf("%v after %d requests, want success after 3", err, asked.Load())
	}
}

// TestAStreamWhoseRequestOrAnswerIsLostIsSentAgainUnderItsId: parts came, then the broker lost the rest.
func TestAStreamWhoseRequestOrAnswerIsLostIsSentAgainUnderItsId(t *testing.T) {
	for name, known := range map[string]string{
		"the request is lost": `{"ok": false, "error": {"error_category": "session", "code": "job_unknown", "message": "unknown job", "retryable": false}}`,
		"the answer is lost":  `{"ok": true, "result": {"job": "mine", "session": "s", "outcome": "succeeded", "attempts": 1}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int64
			ctx, c := clientOf(t, map[string]nats.MsgHandler{
				contract.RPCJobsGet: func(m *nats.Msg) { _ = m.Respond([]byte(known)) },
				contract.RPCSession + ">": func(m *nats.Msg) {
					switch asked.Add(1) {
					case 1:
						part := nats.NewMsg(m.Reply)
						part.Header.Set(contract.HeaderPartial, "0")
						part.Header.Set(contract.HeaderAttempt, "1")
						part.Data = []byte(`{"field": "answer", "chunk": "Par"}`)
						_ = m.RespondMsg(part)
					case 2: // the first one may have been accepted all the same
						_ = m.Respond([]byte(`{"ok": false, "error": {"error_category": "resource_error", "code": "overloaded", "message": "too much", "retryable": true}}`))
					default:
						succeed(m)
					}
				},
			})
			parts, last := 0, (*dspex.Reply)(nil)
			for chunk, err := range c.Stream(ctx, "s", "echo", nil, dspex.WithJobID("mine")) {
				if err != nil {
					t.Fatal(err)
				}
				if last = chunk.Reply; last == nil {
					parts++
				}
			}
			switch {
			case parts != 1:
				t.Errorf("parts must be 1, got %v; %d parts, %+v, asked %d times", parts, parts, last, asked.Load())
			case last == nil:
				t.Errorf("last must not be nil; %d parts, %+v, asked %d times", parts, last, asked.Load())
			case last.Job.ID != "mine":
				t.Errorf(`last.Job.ID must be "mine", got %v; %d parts, %+v, asked %d times`, last.Job.ID, parts, last, asked.Load())
			case asked.Load() != 3:
				t.Errorf("asked.Load() must be 3, got %v; %d parts, %+v, asked %d times", asked.Load(), parts, last, asked.Load())
			}
		})
	}
}
