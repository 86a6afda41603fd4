package host_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/stream"
)

// gate lets jobs of the names given wait inside the worker until they are let go or cancelled.
type gate struct {
	entered chan string
	open    chan struct{}
}

func (y *system) gate(names ...string) *gate {
	g := &gate{entered: make(chan string, 64), open: make(chan struct{})}
	y.pool.mu.Lock()
	defer y.pool.mu.Unlock()
	y.pool.hook = func(ctx context.Context, c frame.CallBody) (frame.Frame, error, bool) {
		for _, name := range names {
			if c.Job == name {
				g.entered <- name
				select {
				case <-g.open:
				case <-ctx.Done():
					return frame.Frame{}, ctx.Err(), true
				}
			}
		}
		return frame.Frame{}, nil, false
	}
	return g
}

func (y *system) publish(session, job, options string) uint64 {
	y.t.Helper()
	js, err := jetstream.New(y.nc)
	if err != nil {
		y.t.Fatal(err)
	}
	m := &nats.Msg{Subject: "dspex.session." + session, Data: []byte(`{"command":"append","options":` + options + `}`), Header: nats.Header{"Dspex-Job": {job}}}
	ack, err := js.PublishMsg(context.Background(), m)
	if err != nil {
		y.t.Fatal(err)
	}
	return ack.Sequence
}

func (y *system) outcome(session, job string) (outcome string, r reply) {
	y.t.Helper()
	got := y.call("dspex.rpc.jobs.get", "", fmt.Sprintf(`{"session":%q,"job":%q,"wait_ms":15000}`, session, job))
	var v struct {
		Outcome string
		Reply   reply
	}
	if err := json.Unmarshal(got.Result, &v); err != nil {
		y.t.Fatalf("%s: %+v", job, got)
	}
	return v.Outcome, v.Reply
}

func (y *system) cancel(session, job string) string {
	y.t.Helper()
	got := y.call("dspex.rpc.jobs.cancel", "", fmt.Sprintf(`{"session":%q,"job":%q}`, session, job))
	var v struct{ Outcome string }
	if err := json.Unmarshal(got.Result, &v); err != nil {
		y.t.Fatalf("cancel %s: %+v", job, got)
	}
	return v.Outcome
}

func TestACancelledJobNeverRunsAndItsSessionGoesOn(t *testing.T) {
	y := start(t, t.TempDir())
	g := y.gate("first")
	y.publish("c", "first", `{}`)
	<-g.entered
	y.publish("c", "second", `{}`)
	y.publish("c", "third", `{}`)
	if got := y.cancel("c", "second"); got != "cancelled" {
		t.Errorf("queued: %s", got)
	}
	close(g.open)
	if got := y.cancel("c", "first"); got != "succeeded" && got != "cancelled" {
		t.Errorf("ended or running: %s", got)
	}
	_, r := y.outcome("c", "third")
	if s := string(r.Result); s != `["first","third"]` && s != `["third"]` {
		t.Errorf("the session's state: %s", s)
	}
	if got, r := y.outcome("c", "second"); got != "cancelled" || r.Error.Code != "cancelled" {
		t.Errorf("second: %s %+v", got, r)
	}
}

func TestARunningJobIsCancelledAndItsEffectIsDropped(t *testing.T) {
	y := start(t, t.TempDir())
	g := y.gate("stuck")
	y.publish("c", "stuck", `{}`)
	<-g.entered
	if got := y.cancel("c", "stuck"); got != "cancelled" {
		t.Errorf("running: %s", got)
	}
	y.publish("c", "next", `{}`)
	if _, r := y.outcome("c", "next"); string(r.Result) != `["next"]` {
		t.Errorf("after it: %s", r.Result)
	}
	if got := y.cancel("c", "next"); got != "succeeded" {
		t.Errorf("cancelling what has ended: %s", got)
	}
}

func TestAJobThatWaitsForARetryIsCancelledAtOnce(t *testing.T) {
	y := start(t, t.TempDir())
	failed := make(chan struct{}, 1)
	y.pool.mu.Lock()
	y.pool.hook = func(context.Context, frame.CallBody) (frame.Frame, error, bool) {
		failed <- struct{}{}
		return failure("connection", "lost", true), nil, true
	}
	y.pool.mu.Unlock()
	y.publish("c", "slow", `{"max_retries":3,"backoff":[30000]}`)
	<-failed
	if got := y.cancel("c", "slow"); got != "cancelled" {
		t.Errorf("backing off: %s", got)
	}
	if n := y.pool.runs.Load(); n != 1 {
		t.Errorf("%d runs", n)
	}
}

func TestAWaitingJobExpiresAtItsDeadlineNotAtItsTurn(t *testing.T) {
	y := start(t, t.TempDir())
	g := y.gate("long")
	y.publish("d", "long", `{}`)
	<-g.entered
	y.publish("d", "late", `{"deadline":50}`)
	if got, r := y.outcome("d", "late"); got != "expired" || r.Error.Code != "deadline_exceeded" {
		t.Errorf("late: %s %+v", got, r)
	}
	close(g.open)
	if got, _ := y.outcome("d", "long"); got != "succeeded" {
		t.Errorf("long: %s", got)
	}
	if n := y.pool.runs.Load(); n != 1 {
		t.Errorf("%d runs", n)
	}
}

func TestALostConsumerEndsNoRunningJob(t *testing.T) {
	y := start(t, t.TempDir())
	g := y.gate("long")
	y.publish("e", "long", `{"max_retries":0}`)
	y.publish("e", "after", `{}`)
	<-g.entered
	js, err := jetstream.New(y.nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(context.Background(), stream.Jobs)
	if err != nil {
		t.Fatal(err)
	}
	before := map[string]bool{}
	for name := range s.ConsumerNames(context.Background()).Name() {
		before[name] = true
		if err := s.DeleteConsumer(context.Background(), name); err != nil {
			t.Fatal(err)
		}
	}
	y.await(func() error {
		fresh := 0
		for name := range s.ConsumerNames(context.Background()).Name() {
			if !before[name] {
				fresh++
			}
		}
		if fresh < 64 {
			return fmt.Errorf("%d partitions taken again", fresh)
		}
		return nil
	})
	close(g.open)
	if got, r := y.outcome("e", "long"); got != "succeeded" || r.Attempt != 1 {
		t.Errorf("long: %s, attempt %d", got, r.Attempt)
	}
	if _, r := y.outcome("e", "after"); string(r.Result) != `["long","after"]` {
		t.Errorf("after: %s", r.Result)
	}
}

// await polls what no message reports.
func (y *system) await(ok func() error) {
	y.t.Helper()
	err := errors.New("never asked")
	for end := time.Now().Add(30 * time.Second); err != nil && time.Now().Before(end); {
		if err = ok(); err != nil {
			<-time.After(20 * time.Millisecond)
		}
	}
	if err != nil {
		y.t.Fatal(err)
	}
}

func TestMoreSessionsThanTurnsAllGetTheirOutcome(t *testing.T) {
	y := start(t, t.TempDir())
	const sessions = 1000
	for n := range sessions {
		y.publish(fmt.Sprintf("many-%d", n), "j", `{}`)
	}
	for n := range sessions {
		if got, _ := y.outcome(fmt.Sprintf("many-%d", n), "j"); got != "succeeded" {
			t.Fatalf("session %d: %s", n, got)
		}
	}
}
