package host_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/stream"
	"github.com/dspex/dspex/internal/wire"
)

// limit bounds what a bucket's stream takes in one message: 1 refuses every write for good, as a missing permission does.
func (y *system) limit(bucket string, bytes int32) {
	y.t.Helper()
	y.reshape(bucket, func(cfg *jetstream.StreamConfig) { cfg.MaxMsgSize = bytes })
}

// health is the status and its reasons.
func (y *system) health() (status string, reasons []string) {
	y.t.Helper()
	var v struct {
		Status  string
		Reasons []string
	}
	if err := json.Unmarshal(y.call("dspex.rpc.health.check", "", "").Result, &v); err != nil {
		y.t.Fatal(err)
	}
	return v.Status, v.Reasons
}

// ask sends a request and returns what brings its answers.
func (y *system) ask(subject, job, body string) *nats.Subscription {
	y.t.Helper()
	inbox := y.nc.NewInbox()
	sub := y.subscribe(inbox)
	m := &nats.Msg{Subject: subject, Reply: inbox, Data: []byte(body), Header: nats.Header{"Dspex-Job": {job}}}
	if err := y.nc.PublishMsg(m); err != nil {
		y.t.Fatal(err)
	}
	return sub
}

// replyTo publishes a job, under an id of its own if there is one, and returns what brings its replies.
func (y *system) replyTo(subject, job, body string) *nats.Subscription {
	y.t.Helper()
	inbox := y.nc.NewInbox()
	sub := y.subscribe(inbox)
	m := &nats.Msg{Subject: subject, Data: []byte(body), Header: nats.Header{"Dspex-Reply-To": {inbox}}}
	if job != "" {
		m.Header.Set("Dspex-Job", job)
	}
	if _, err := y.nc.RequestMsg(m, 5*time.Second); err != nil {
		y.t.Fatal(err)
	}
	return sub
}

func (y *system) answer(sub *nats.Subscription, within time.Duration) (r reply) {
	y.t.Helper()
	m, err := sub.NextMsg(within)
	if err != nil {
		y.t.Fatal(err)
	}
	if err := json.Unmarshal(m.Data, &r); err != nil {
		y.t.Fatalf("%q: %v", m.Data, err)
	}
	return r
}

func TestWhoWaitsForWhatTheBrokerRefusesIsToldAtTheDeadline(t *testing.T) {
	for bucket, step := range map[string]string{stream.Sessions: "head", stream.Results: "result"} {
		t.Run(step, func(t *testing.T) {
			inFakeTime(t, func(t *testing.T, y *system) {
				y.limit(bucket, 1)
				began := time.Now()
				first := y.ask("dspex.rpc.session.s", "first", `{"command":"append","options":{"deadline":"1m"}}`)
				if step == "result" { // its outcome stands in the record
					if r := y.answer(first, time.Second); !r.OK {
						t.Errorf("%+v", r)
					}
				}
				behind := y.ask("dspex.rpc.session.s", "behind", `{"command":"append","options":{"deadline":"40s"}}`)
				if r := y.answer(behind, time.Minute); r.Error.Code != "outcome_pending" || r.Error.Category != "connection" {
					t.Errorf("behind: %+v", r)
				}
				if passed := time.Since(began); passed < 40*time.Second || passed > 41*time.Second {
					t.Errorf("behind was told after %v", passed)
				}
				if step == "head" {
					if r := y.answer(first, 21*time.Second); r.Error.Code != "outcome_pending" || !strings.Contains(r.Error.Message, step) {
						t.Errorf("first: %+v", r)
					}
				}
				status, reasons := y.health()
				if status != "degraded" || !slices.Contains(reasons, "1 jobs of host h1 are blocked at the step "+step) {
					t.Errorf("%s %v", status, reasons)
				}
				y.limit(bucket, -1)
				if e := y.end("s", "behind"); e.Outcome != "expired" {
					t.Errorf("behind: %+v", e)
				}
				want := map[string]string{"head": "expired", "result": "succeeded"}[step]
				if e := y.end("s", "first"); e.Outcome != want {
					t.Errorf("first: %+v", e)
				}
				if n := y.pool.runs.Load(); n != map[string]int64{"head": 0, "result": 1}[step] {
					t.Errorf("%d runs", n)
				}
				y.pass(2 * time.Second)
				if status, reasons = y.health(); status != "healthy" {
					t.Errorf("afterwards: %s %v", status, reasons)
				}
			})
		})
	}
}

func TestAnAnonymousJobWhoseOutcomeCannotBeStoredIsToldAtItsDeadline(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		y.limit(stream.Results, 1)
		a := y.ask("dspex.rpc.anonymous", "a", `{"command":"append","options":{"deadline":"1m"}}`)
		if r := y.answer(a, 61*time.Second); r.Error.Code != "outcome_pending" {
			t.Errorf("%+v", r)
		}
		y.limit(stream.Results, -1)
		if e := y.end("", "a"); e.Outcome != "succeeded" { // it had run before
			t.Errorf("%+v", e)
		}
	})
}

func TestAJobBehindARecordOfANewerVersionIsToldAtItsDeadlineAndEndsOnce(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		rev := y.putRecord("future", wire.AppendUint(wire.AppendArray(nil, 1), 1000))
		calls := map[string]*nats.Subscription{}
		for n := 1; n <= 3; n++ {
			job := fmt.Sprint("job", n)
			calls[job] = y.ask("dspex.rpc.session.future", job, fmt.Sprintf(`{"command":"append","options":{"deadline":"%ds"}}`, 10*n))
		}
		began := time.Now()
		for n := 1; n <= 3; n++ {
			job := fmt.Sprint("job", n)
			if r := y.answer(calls[job], 11*time.Second); r.Error.Code != "outcome_pending" || !strings.Contains(r.Error.Message, "newer version") {
				t.Errorf("%s: %+v", job, r)
			}
			if late := time.Since(began) - time.Duration(n)*10*time.Second; late < 0 || late > time.Second {
				t.Errorf("%s was told %v late", job, late)
			}
		}
		if status, reasons := y.health(); status != "degraded" || !slices.Contains(reasons, "1 jobs of host h1 are blocked at the step newer_record") {
			t.Errorf("%s %v", status, reasons)
		}
		if r := y.call("dspex.rpc.session.other", "x", echo); !r.OK {
			t.Errorf("another session: %+v", r)
		}
		js, err := jetstream.New(y.nc)
		if err != nil {
			t.Fatal(err)
		}
		kv, err := js.KeyValue(context.Background(), stream.Sessions)
		if err != nil {
			t.Fatal(err)
		}
		if e, err := kv.Get(context.Background(), "s.future"); err != nil || e.Revision() != rev {
			t.Errorf("the record was touched: %v %v", e, err)
		}
		if err := kv.Delete(context.Background(), "s.future"); err != nil { // as if its lifetime were over
			t.Fatal(err)
		}
		for job, sub := range calls {
			if e := y.end("future", job); e.Outcome != "expired" {
				t.Errorf("%s: %+v", job, e)
			}
			if r := y.answer(sub, time.Second); r.Error.Code != "deadline_exceeded" {
				t.Errorf("%s: %+v", job, r)
			}
			if m, err := sub.NextMsg(time.Minute); err == nil {
				t.Errorf("%s: a third answer: %s", job, m.Data)
			}
		}
		if n := y.pool.runs.Load(); n != 1 {
			t.Errorf("%d runs", n)
		}
	})
}

func TestWhoWaitsBehindAnAttemptOfAnEarlierEpochIsToldAtTheDeadline(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		g := y.gate("long")
		y.publish("e", "long", `{"timeout":"1h","max_retries":0}`)
		<-g.entered
		behind := y.replyTo("dspex.session.e", "behind", `{"command":"append","options":{"deadline":"1m"}}`)
		began := time.Now()
		y.restartBroker() // consumers are in memory
		if r := y.answer(behind, 62*time.Second); r.Error.Code != "outcome_pending" {
			t.Errorf("%+v", r)
		}
		if took := time.Since(began); took < time.Minute {
			t.Errorf("told after %v", took)
		}
		if status, reasons := y.health(); status != "healthy" {
			t.Errorf("the pool must be healthy while a call with a timeout of an hour runs, got %s %v", status, reasons)
		}
		close(g.open)
		if e := y.end("e", "long"); e.Outcome != "succeeded" || e.Attempts != 1 {
			t.Errorf("%+v", e)
		}
		if e := y.end("e", "behind"); e.Outcome != "expired" {
			t.Errorf("%+v", e)
		}
	})
}
