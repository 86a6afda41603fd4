package host_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/breaker"
	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/dispatch"
	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/host"
	"github.com/dspex/dspex/internal/pyproc"
	"github.com/dspex/dspex/internal/stream"
)

// outage scripts workers whose language models are down, each until it is mended.
type outage struct {
	mu    sync.Mutex
	down  map[string]string // model -> code of its error
	asked map[string][]time.Time

	answer func(ctx context.Context, c frame.CallBody) (frame.Frame, error, bool)
}

func (y *system) outage(down map[string]string) *outage {
	o := &outage{down: down, asked: map[string][]time.Time{}}
	o.answer = func(_ context.Context, c frame.CallBody) (frame.Frame, error, bool) {
		o.mu.Lock()
		defer o.mu.Unlock()
		if c.LM == "" || c.Command == "append" {
			return frame.Frame{}, nil, false
		}
		o.asked[c.LM] = append(o.asked[c.LM], time.Now())
		switch code := o.down[c.LM]; code {
		case "":
			return frame.Frame{}, nil, false
		case "lm_auth", "user_error", "lm_invalid_request":
			return failure("python", code, false), nil, true
		default:
			return failure("resource_error", code, true), nil, true
		}
	}
	y.script(o.answer)
	return o
}

func (o *outage) mend(model string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.down, model)
}

func (o *outage) calls(model string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.asked[model])
}

func predict(model, more string) string {
	return fmt.Sprintf(`{"command":"predict","options":{"lm":%q%s}}`, model, more)
}

const once = `,"max_retries":0`

// breakers requests the state of a host's breakers.
func (y *system) breakers(host string) map[string]breaker.Info {
	y.t.Helper()
	m, err := y.nc.Request("dspex.ctl."+host+".breakers", nil, 5*time.Second)
	if err != nil {
		y.t.Fatal(err)
	}
	var list []breaker.Info
	if err := json.Unmarshal(m.Data, &list); err != nil {
		y.t.Fatal(err)
	}
	infos := map[string]breaker.Info{}
	for _, i := range list {
		infos[i.Name] = i
	}
	return infos
}

func TestAfterFiveFailuresACallFailsAtOnceAndAQueuedJobWaitsUnharmed(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		o := y.outage(map[string]string{"gpt": "lm_server_error"})
		for n := range 5 {
			if r := y.call(fmt.Sprintf("dspex.rpc.session.s%d", n), "", predict("gpt", once)); r.Error.Code != "lm_server_error" {
				t.Fatalf("%+v", r)
			}
		}
		opened := time.Now()
		for _, endpoint := range []string{"dspex.rpc.session.s9", "dspex.rpc.anonymous"} {
			r := y.call(endpoint, "", predict("gpt", ""))
			switch {
			case r.Error.Code != "breaker_open":
				t.Errorf(`r.Error.Code must be "breaker_open", got %v; %s: %+v`, r.Error.Code, endpoint, r)
			case r.Error.Category != "resource_error":
				t.Errorf(`r.Error.Category must be "resource_error", got %v; %s: %+v`, r.Error.Category, endpoint, r)
			case !r.Error.Retryable:
				t.Errorf("must hold: r.Error.Retryable; %s: %+v", endpoint, r)
			case r.Attempt != 0:
				t.Errorf("r.Attempt must be 0, got %v; %s: %+v", r.Attempt, endpoint, r)
			case r.Error.RetryAfter < 55_000:
				t.Errorf("r.Error.RetryAfter must be >= 55_000, got %v; %s: %+v", r.Error.RetryAfter, endpoint, r)
			case r.Error.RetryAfter > 60_000:
				t.Errorf("r.Error.RetryAfter must be <= 60_000, got %v; %s: %+v", r.Error.RetryAfter, endpoint, r)
			case !strings.Contains(r.Error.Message, "lm.test/gpt is open after 5 failures in a row, the last one resource_error/lm_server_error"):
				t.Errorf(`must hold: strings.Contains(r.Error.Message, "lm.test/gpt is open after 5 failures in a row, the last one resource_error/lm_server_error"); %s: %+v`, endpoint, r)
			}
			if r := y.call(endpoint, "", predict("claude", "")); !r.OK {
				t.Errorf("%s: a job of another model: %+v", endpoint, r)
			}
			if r := y.call(endpoint, "", `{"command":"append"}`); !r.OK {
				t.Errorf("%s: a job without a model: %+v", endpoint, r)
			}
		}
		y.store("dspex.session.waits", "w1", predict("gpt", once))
		y.store("dspex.session.waits", "w2", `{"command":"append"}`)
		y.store("dspex.anonymous.interactive", "w3", predict("gpt", once))
		y.store("dspex.session.late", "w4", predict("gpt", `,"deadline":20000`))
		if e := y.end("late", "w4"); e.Outcome != "expired" || e.Attempts != 0 || time.Since(opened) > 30*time.Second {
			t.Errorf("a deadline while it waits: %+v", e)
		}
		if n := o.calls("gpt"); n != 5 {
			t.Errorf("the model was called %d times while the breaker was open", n-5)
		}
		o.mend("gpt")
		if e := y.end("waits", "w1"); e.Outcome != "succeeded" || e.Attempts != 1 || time.Since(opened) < time.Minute {
			t.Errorf("%+v after %v", e, time.Since(opened))
		}
		if e := y.end("waits", "w2"); e.Outcome != "succeeded" || !strings.Contains(string(e.Reply.Result), `["w1","w2"]`) {
			t.Errorf("the session's order: %+v %s", e, e.Reply.Result)
		}
		if e := y.end("", "w3"); e.Outcome != "succeeded" || e.Attempts != 1 {
			t.Errorf("without session: %+v", e)
		}
	})
}

func TestAnOpenBreakerIsHalfOpenAfter60sAndClosesAfterThreeSuccesses(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		events := y.subscribe("dspex.events.breaker.*")
		o := y.outage(map[string]string{"gpt": "lm_rate_limit"})
		r := y.call("dspex.rpc.session.s", "", predict("gpt", `,"max_retries":9,"backoff":[0]`))
		if i := y.breakers("h1")["lm.test/gpt"]; r.Error.Code != "lm_rate_limit" || r.Attempt != 10 || i.FailureCount != 1 {
			t.Errorf("ten attempts of one job are one failure: %+v %+v", r, i)
		}
		for range 4 {
			y.call("dspex.rpc.session.s", "", predict("gpt", once))
		}
		y.pass(time.Minute + time.Second)
		if r := y.call("dspex.rpc.session.s", "", predict("gpt", `,"max_retries":1,"backoff":[0]`)); r.Error.Code != "breaker_open" || r.Attempt != 1 {
			t.Errorf("a trial that fails opens it again, though the job would be retried: %+v", r)
		}
		if r := y.call("dspex.rpc.session.s", "", predict("gpt", once)); r.Error.Code != "breaker_open" {
			t.Errorf("after a failed trial: %+v", r)
		}
		switch i := y.breakers("h1")["lm.test/gpt"]; {
		case i.State != breaker.Open:
			t.Errorf("i.State must be breaker.Open, got %v; %+v", i.State, i)
		case i.FailureCount != 5:
			t.Errorf("i.FailureCount must be 5, got %v; %+v", i.FailureCount, i)
		case i.TimeUntilRetry == 0:
			t.Errorf("i.TimeUntilRetry must not be 0; %+v", i)
		case i.LastFailure.What != "resource_error/lm_rate_limit":
			t.Errorf(`i.LastFailure.What must be "resource_error/lm_rate_limit", got %v; %+v`, i.LastFailure.What, i)
		}
		o.mend("gpt")
		y.pass(time.Minute + time.Second)
		for n := range 3 {
			if i := y.breakers("h1")["lm.test/gpt"]; i.State != breaker.HalfOpen || i.SuccessCount != n {
				t.Errorf("before trial %d: %+v", n+1, i)
			}
			if r := y.call("dspex.rpc.session.s", "", predict("gpt", once)); !r.OK {
				t.Errorf("%+v", r)
			}
		}
		if i := y.breakers("h1")["lm.test/gpt"]; i.State != breaker.Closed || i.FailureCount != 0 {
			t.Errorf("%+v", i)
		}
		for _, change := range []string{"opened", "reopened", "closed"} {
			m, err := events.NextMsg(5 * time.Second)
			switch {
			case err != nil:
				t.Fatalf("err must be nil, got %v; %s: %v %v", err, change, m, err)
			case m.Subject != "dspex.events.breaker."+change:
				t.Fatalf(`m.Subject must be "dspex.events.breaker."+change, got %v; %s: %v %v`, m.Subject, change, m, err)
			case !strings.Contains(string(m.Data), `"event":"dspex.circuit_breaker.`+change+`"`):
				t.Fatalf("must hold: strings.Contains(string(m.Data), `\"event\":\"dspex.circuit_breaker.`+change+`\"`); %s: %v %v", change, m, err)
			case !strings.Contains(string(m.Data), `"name":"lm.test/gpt"`):
				t.Fatalf("must hold: strings.Contains(string(m.Data), `\"name\":\"lm.test/gpt\"`); %s: %v %v", change, m, err)
			}
		}
	})
}

func (y *system) subscribe(subject string) *nats.Subscription {
	y.t.Helper()
	sub, err := y.nc.SubscribeSync(subject)
	if err != nil {
		y.t.Fatal(err)
	}
	return sub
}

func TestWhatOneHostFindsOutHoldsOnAll(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		o := y.outage(map[string]string{"gpt": "lm_connection"})
		stop := y.anotherHost("h2")
		defer stop()
		for range 5 {
			y.call("dspex.rpc.session.s", "", predict("gpt", once)) // one session: one host
		}
		opened := time.Now()
		y.pass(time.Second)
		for _, name := range []string{"h1", "h2"} {
			if i := y.breakers(name)["lm.test/gpt"]; i.State != breaker.Open || i.FailureCount != 5 || i.LastFailure.What != "resource_error/lm_connection" {
				t.Errorf("%s: %+v", name, i)
			}
		}
		for n := range 20 { // sessions of both
			if r := y.call(fmt.Sprintf("dspex.rpc.session.n%d", n), "", predict("gpt", "")); r.Error.Code != "breaker_open" {
				t.Errorf("%+v", r)
			}
		}
		if n := o.calls("gpt"); n != 5 {
			t.Errorf("%d calls", n)
		}
		y.pass(20 * time.Second)
		stopThird := y.anotherHost("h3")
		defer stopThird()
		i := y.breakers("h3")["lm.test/gpt"]
		if left := time.Minute - time.Since(opened); i.State != breaker.Open || time.Duration(i.TimeUntilRetry)*time.Millisecond > left+time.Second {
			t.Errorf("a host that comes when %v are left: %+v", left, i)
		}
		o.mend("gpt")
		y.pass(time.Minute)
		for n := range 3 {
			if r := y.call("dspex.rpc.session.s", "", predict("gpt", "")); !r.OK {
				t.Errorf("trial %d: %+v", n, r)
			}
		}
		y.pass(time.Second)
		for _, name := range []string{"h1", "h2", "h3"} {
			if i := y.breakers(name)["lm.test/gpt"]; i.State != breaker.Closed {
				t.Errorf("%s: %+v", name, i)
			}
		}
	})
}

// sessionOf finds a session that the host serves.
func (y *system) sessionOf(host string) string {
	y.t.Helper()
	for n := range 100 {
		r, err := y.nc.Request(fmt.Sprintf("dspex.rpc.session.of%d", n), []byte(echo), 20*time.Second)
		if err != nil {
			y.t.Fatal(err)
		}
		var v struct{ Session struct{ Host string } }
		if json.Unmarshal(r.Data, &v) == nil && v.Session.Host == host {
			return fmt.Sprint("of", n)
		}
	}
	y.t.Fatalf("%s serves nothing", host)
	return ""
}

// failures requests from hosts how many failures in a row they have counted.
func (y *system) failures(model string, hosts ...string) (counts []int) {
	y.pass(time.Second)
	for _, h := range hosts {
		counts = append(counts, y.breakers(h)["lm.test/"+model].FailureCount)
	}
	return counts
}

func TestFailuresInARowAreCountedByAllHostsTogetherAndASuccessAnywhereSetsThemBack(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		o := y.outage(map[string]string{})
		defer y.anotherHost("h2")()
		one, two := "dspex.rpc.session."+y.sessionOf("h1"), "dspex.rpc.session."+y.sessionOf("h2")
		fail := func(endpoints ...string) {
			t.Helper()
			o.mu.Lock()
			o.down["gpt"] = "lm_connection"
			o.mu.Unlock()
			for _, endpoint := range endpoints {
				if r := y.call(endpoint, "", predict("gpt", once)); r.Error.Code != "lm_connection" {
					t.Fatalf("%+v", r)
				}
			}
			o.mend("gpt")
		}
		fail(one, one, two, two)
		if n := y.failures("gpt", "h1", "h2"); !slices.Equal(n, []int{4, 4}) {
			t.Errorf("after two failures on each host: %v", n)
		}
		if r := y.call(two, "", predict("gpt", "")); !r.OK {
			t.Fatalf("%+v", r)
		}
		if n := y.failures("gpt", "h1", "h2"); !slices.Equal(n, []int{0, 0}) {
			t.Errorf("after a success on one of them: %v", n)
		}
		wrote := y.stored(stream.Control, "$KV.dspex_control.f.>")
		for range 5 {
			y.call(one, "", predict("gpt", ""))
			y.call(two, "", predict("gpt", ""))
		}
		if n := y.stored(stream.Control, "$KV.dspex_control.f.>"); n != wrote {
			t.Errorf("successes wrote %d times while there was no failure", n-wrote)
		}
		fail(two, one, two, one)
		if r := y.call(two, "", predict("gpt", "")); !r.OK {
			t.Fatalf("%+v", r)
		}
		y.pass(time.Second)
		fail(one, two, one, two)
		y.pass(time.Second)
		stopThird := y.anotherHost("h3")
		defer stopThird()
		fail("dspex.rpc.session." + y.sessionOf("h3"))
		y.pass(time.Second)
		for _, name := range []string{"h1", "h2", "h3"} {
			if i := y.breakers(name)["lm.test/gpt"]; i.State != breaker.Open || i.FailureCount != 5 {
				t.Errorf("the fifth failure in a row, on a host that came late: %s: %+v", name, i)
			}
		}
		if e, err := stream.GetLast(context.Background(), y.nc, stream.Control, "$KV.dspex_control.f.lm=2Etest/gpt"); err == nil && len(e.Data) > 0 {
			t.Errorf("an open breaker has no count: %s", e.Data)
		}
	})
}

func TestAResetAlsoForgetsTheFailuresThatHaveOpenedNothingYet(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		y.outage(map[string]string{"gpt": "lm_connection"})
		defer y.anotherHost("h2")()
		for range 4 {
			y.call("dspex.rpc.session.s", "", predict("gpt", once))
		}
		if n := y.failures("gpt", "h1", "h2"); !slices.Equal(n, []int{4, 4}) {
			t.Fatalf("%v", n)
		}
		if r := y.call("dspex.rpc.breakers.reset", "", `{"name":"lm.test/gpt"}`); !r.OK {
			t.Fatalf("%+v", r)
		}
		y.call("dspex.rpc.session.s", "", predict("gpt", once))
		if n := y.failures("gpt", "h1", "h2"); !slices.Equal(n, []int{1, 1}) {
			t.Errorf("after the reset and one failure: %v", n)
		}
	})
}

// stored is the last sequence under a subject.
func (y *system) stored(in, subject string) uint64 {
	y.t.Helper()
	js, err := jetstream.New(y.nc)
	if err != nil {
		y.t.Fatal(err)
	}
	s, err := js.Stream(context.Background(), "KV_"+in)
	if err != nil {
		y.t.Fatal(err)
	}
	m, err := s.GetLastMsgForSubject(context.Background(), subject)
	if err != nil {
		y.t.Fatal(err)
	}
	return m.Sequence
}

func TestTheEndOfAWorkerIsOneFailureAndWhatWasInItIsRetried(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		entered, end := make(chan struct{}, 8), make(chan struct{})
		y.script(func(_ context.Context, c frame.CallBody) (frame.Frame, error, bool) {
			if c.Attempt > 1 {
				return frame.Frame{}, nil, false
			}
			entered <- struct{}{}
			<-end
			return frame.Frame{}, &pyproc.ExitError{Worker: "w/0", Code: 1}, true
		})
		for n := range 7 {
			y.store(fmt.Sprintf("dspex.session.in%d", n), "j", echo)
		}
		y.store("dspex.anonymous.interactive", "j", echo)
		for range 8 {
			<-entered
		}
		close(end)
		for n := range 7 {
			if e := y.end(fmt.Sprint("in", n), "j"); e.Outcome != "succeeded" || e.Attempts != 2 {
				t.Errorf("session %d: %+v", n, e)
			}
		}
		if e := y.end("", "j"); e.Outcome != "succeeded" || e.Attempts != 2 {
			t.Errorf("without session: %+v", e)
		}
		if i := y.breakers("h1")["pool.h1"]; i.State != breaker.Closed {
			t.Errorf("%+v", i)
		}
	})
}

func TestAFailedStartIsOneFailureHoweverManyWaitedForIt(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		cause := errors.New("no such file")
		y.pool.gone.Store(true)
		y.pool.mu.Lock()
		y.pool.none = func() error { return &pyproc.UnavailableError{RetryAfter: 2 * time.Second, Err: cause} }
		y.pool.mu.Unlock()
		for range 10 {
			if r := y.call("dspex.rpc.session.s", "", echo); r.Error.Code != "worker_start_failed" {
				t.Fatalf("%+v", r)
			}
		}
		if i := y.breakers("h1")["start.h1"]; i.State != breaker.Closed || i.FailureCount != 1 {
			t.Errorf("%+v", i)
		}
	})
}

// anotherHost adds a host with the same workers and waits until it has its share of the partitions.
func (y *system) anotherHost(name string) (stop func()) {
	y.t.Helper()
	h, err := host.New(host.Config{Name: name, NC: y.connect(), Pool: y.pool, Models: noModels{}, Capacity: 8})
	if err != nil {
		y.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := h.Run(ctx); err != nil {
			y.t.Error(err)
		}
	})
	y.pass(10 * time.Second) // the leader moves its share
	return func() { cancel(); done.Wait() }
}

func TestWhatSaysNothingOfTheModelOpensNothing(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		o := y.outage(map[string]string{"raises": "user_error", "refuses": "lm_invalid_request", "locked": "lm_auth", "mixed": "lm_server_error"})
		for n := range 20 {
			for _, model := range []string{"raises", "refuses"} {
				if r := y.call("dspex.rpc.session.s", "", predict(model, "")); r.Error.Code != o.down[model] {
					t.Fatalf("%d: %+v", n, r)
				}
			}
			if r := y.call("dspex.rpc.session.s", "", predict("mixed", `,"require_state":true`)); r.Error.Code != "state_required" {
				t.Fatalf("%+v", r)
			}
		}
		for range 5 { // a key that is refused is the provider's answer to everybody who uses it
			if r := y.call("dspex.rpc.session.s", "", predict("locked", "")); r.Error.Code != "lm_auth" {
				t.Fatalf("%+v", r)
			}
		}
		if r := y.call("dspex.rpc.session.s", "", predict("locked", "")); r.Error.Code != "breaker_open" {
			t.Errorf("%+v", r)
		}
		for range 2 { // a command of the operator is held up once it was seen to call a model
			if r := y.call("dspex.rpc.session.s", "", `{"command":"append","options":{"lm":"locked"}}`); !r.OK {
				t.Errorf("%+v", r)
			}
		}
		for _, want := range []string{"lm_auth", "breaker_open"} {
			if r := y.call("dspex.rpc.session.s", "", `{"command":"ask","options":{"lm":"locked"}}`); r.Error.Code != want {
				t.Errorf("%s: %+v", want, r)
			}
		}
	})
}

func TestAttemptsThatTakeTooLongOpenNothing(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		y.script(func(ctx context.Context, _ frame.CallBody) (frame.Frame, error, bool) {
			<-ctx.Done()
			return frame.Frame{}, ctx.Err(), true
		})
		for n := range 10 { // a model that is too slow for one client serves the others well
			if r := y.call("dspex.rpc.session.s", "", predict("slow", once+`,"timeout":100`)); r.Error.Code != "operation_timeout" {
				t.Fatalf("%d: %+v", n, r)
			}
		}
	})
}

func TestStartsThatFailOpenABreakerThatKeepsNobodyFromWorkersThatServe(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		y.pool.gone.Store(true)
		y.pool.mu.Lock()
		y.pool.none = func() error {
			if y.pool.gone.Load() {
				return &pyproc.UnavailableError{RetryAfter: 2 * time.Second, Err: errors.New("no such file")}
			}
			return nil
		}
		y.pool.mu.Unlock()
		for range 5 {
			if r := y.call("dspex.rpc.session.s", "", `{"command":"append"}`); r.Error.Code != "worker_start_failed" {
				t.Fatalf("%+v", r)
			}
		}
		if r := y.call("dspex.rpc.session.s", "", `{"command":"append"}`); r.Error.Code != "breaker_open" || !strings.Contains(r.Error.Message, "start.h1") {
			t.Fatalf("%+v", r)
		}
		y.store("dspex.session.waits", "w", `{"command":"append","options":{"max_retries":0}}`)
		y.pool.gone.Store(false)
		if r := y.call("dspex.rpc.session.s", "", `{"command":"append"}`); !r.OK {
			t.Errorf("a worker serves: %+v", r)
		}
		if e := y.end("waits", "w"); e.Outcome != "succeeded" || e.Attempts != 1 {
			t.Errorf("%+v", e)
		}
	})
}

func TestWorkersThatDieOpenThePoolsBreakerOneJobCountsOnce(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		die := func(_ context.Context, c frame.CallBody) (frame.Frame, error, bool) {
			if strings.HasPrefix(c.Session, "bad") {
				return frame.Frame{}, &pyproc.ExitError{Worker: "w/0", Code: 1}, true
			}
			return frame.Frame{}, nil, false
		}
		y.script(die)
		if r := y.call("dspex.rpc.session.bad", "", `{"command":"append","options":{"max_retries":9,"backoff":[0]}}`); r.Error.Code != "worker_died" || r.Attempt != 10 {
			t.Errorf("one job that ends ten workers: %+v", r)
		}
		if i := y.breakers("h1")["pool.h1"]; i.State != breaker.Closed || i.FailureCount != 1 {
			t.Errorf("%+v", i)
		}
		if r := y.call("dspex.rpc.session.good", "", `{"command":"append"}`); !r.OK {
			t.Errorf("%+v", r)
		}
		for n := range 5 {
			y.call(fmt.Sprintf("dspex.rpc.session.bad%d", n), "", `{"command":"append","options":{"max_retries":0}}`)
		}
		if r := y.call("dspex.rpc.session.good", "", `{"command":"append"}`); r.Error.Code != "breaker_open" {
			t.Errorf("%+v", r)
		}
		beats := y.subscribe("dspex.hb.h1")
		m, err := beats.NextMsg(5 * time.Second)
		var beat control.Heartbeat
		if err != nil || json.Unmarshal(m.Data, &beat) != nil || !slices.Equal(beat.Breakers, []string{"pool.h1"}) {
			t.Errorf("heartbeat %v %v", m, err)
		}
		y.store("dspex.session.good", "g", `{"command":"append"}`)
		if e := y.end("good", "g"); e.Outcome != "succeeded" || e.Attempts != 1 {
			t.Errorf("%+v", e)
		}
	})
}

func TestATrialThatIsCancelledGivesItsPermitBack(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		o := y.outage(map[string]string{"gpt": "lm_timeout"})
		for range 5 {
			y.call("dspex.rpc.session.s", "", predict("gpt", once))
		}
		y.pass(time.Minute + time.Second)
		running := make(chan string, 3)
		y.script(func(ctx context.Context, c frame.CallBody) (frame.Frame, error, bool) {
			running <- c.Job
			<-ctx.Done()
			return frame.Frame{}, ctx.Err(), true
		})
		for n := range 3 {
			y.store(fmt.Sprintf("dspex.session.t%d", n), fmt.Sprintf("t%d", n), predict("gpt", once))
			<-running
		}
		if r := y.call("dspex.rpc.session.s", "", predict("gpt", "")); r.Error.Code != "breaker_open" || !strings.Contains(r.Error.Message, "half_open") {
			t.Errorf("a fourth trial: %+v", r)
		}
		y.store("dspex.session.next", "next", predict("gpt", once))
		o.mend("gpt")
		y.script(o.answer)
		for n := range 3 {
			y.call("dspex.rpc.jobs.cancel", "", fmt.Sprintf(`{"session":"t%d","job":"t%d"}`, n, n))
		}
		if e := y.end("next", "next"); e.Outcome != "succeeded" {
			t.Errorf("%+v", e)
		}
	})
}

func TestAnOpenBreakerDegradesTheHealthUntilItIsReset(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		events := y.subscribe("dspex.events.breaker.reset")
		o := y.outage(map[string]string{"gpt": "lm_server_error"})
		for range 5 {
			y.call("dspex.rpc.session.s", "", predict("gpt", once))
		}
		y.store("dspex.session.waits", "w", predict("gpt", once))
		r := y.call("dspex.rpc.health.check", "", `{}`)
		if !strings.Contains(string(r.Result), `"reasons":["the circuit breaker lm.test/gpt is open"]`) || !strings.Contains(string(r.Result), `"status":"degraded"`) {
			t.Errorf("%s", r.Result)
		}
		r = y.call("dspex.rpc.breakers.list", "", `{}`)
		var list struct{ Breakers []breaker.Info }
		switch err := json.Unmarshal(r.Result, &list); {
		case err != nil:
			t.Errorf("err must be nil, got %v; %s %v", err, r.Result, err)
		case len(list.Breakers) != 3:
			t.Errorf("len(list.Breakers) must be 3, got %v; %s %v", len(list.Breakers), r.Result, err)
		case list.Breakers[0].Name != "lm.test/gpt":
			t.Errorf(`list.Breakers[0].Name must be "lm.test/gpt", got %v; %s %v`, list.Breakers[0].Name, r.Result, err)
		case list.Breakers[0].State != breaker.Open:
			t.Errorf("list.Breakers[0].State must be breaker.Open, got %v; %s %v", list.Breakers[0].State, r.Result, err)
		case list.Breakers[0].FailureCount != 5:
			t.Errorf("list.Breakers[0].FailureCount must be 5, got %v; %s %v", list.Breakers[0].FailureCount, r.Result, err)
		case list.Breakers[0].LastFailure == nil:
			t.Errorf("list.Breakers[0].LastFailure must not be nil; %s %v", r.Result, err)
		case list.Breakers[1].Name != "pool.h1":
			t.Errorf(`list.Breakers[1].Name must be "pool.h1", got %v; %s %v`, list.Breakers[1].Name, r.Result, err)
		case list.Breakers[2].Name != "start.h1":
			t.Errorf(`list.Breakers[2].Name must be "start.h1", got %v; %s %v`, list.Breakers[2].Name, r.Result, err)
		}
		if r := y.call("dspex.rpc.breakers.reset", "", `{"name":"lm.nobody/x"}`); r.Error.Code != "breaker_unknown" || r.Error.Expected != "lm.test/gpt, pool.h1, start.h1" {
			t.Errorf("%+v", r)
		}
		for _, bad := range []string{`{}`, `{"name":""}`, `{"name":1}`, `{"nom":"x"}`} {
			if r := y.call("dspex.rpc.breakers.reset", "", bad); r.Error.Code != "bad_request" || r.Error.Expected == "" {
				t.Errorf("%s: %+v", bad, r)
			}
		}
		before := time.Now()
		o.mend("gpt")
		if r := y.call("dspex.rpc.breakers.reset", "", `{"name":"lm.test/gpt"}`); !r.OK || !strings.Contains(string(r.Result), `"state":"closed"`) {
			t.Errorf("%+v %s", r, r.Result)
		}
		if e := y.end("waits", "w"); e.Outcome != "succeeded" || time.Since(before) > 10*time.Second {
			t.Errorf("%+v after %v", e, time.Since(before))
		}
		if r := y.call("dspex.rpc.health.check", "", `{}`); !strings.Contains(string(r.Result), `"status":"healthy"`) || strings.Contains(string(r.Result), "reasons") {
			t.Errorf("%s", r.Result)
		}
		if m, err := events.NextMsg(5 * time.Second); err != nil || !strings.Contains(string(m.Data), `"event":"dspex.circuit_breaker.reset"`) {
			t.Errorf("%v %v", m, err)
		}
		for n := range 2 { // also one that counts but never was open; twice is fine
			if r := y.call("dspex.rpc.breakers.reset", "", `{"name":"pool.h1"}`); !r.OK {
				t.Errorf("%d: %+v", n, r)
			}
		}
	})
}

func TestAnErrorRateAboveTheThresholdIsOneAlertAndDegradesTheHealthUntilItFalls(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		d, err := dispatch.New(dispatch.Config{Name: "d2", NC: y.connect()}) // a second one, which does not lead
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		var done sync.WaitGroup
		done.Go(func() {
			if err := d.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		defer done.Wait()
		defer stop()
		y.pass(2 * time.Second)
		alerts := y.subscribe("dspex.events.alert.*")
		y.script(func(_ context.Context, c frame.CallBody) (frame.Frame, error, bool) {
			return failure("python", "user_error", false), nil, c.Command == "fail"
		})
		run := func(command string, times int) {
			for range times {
				y.call("dspex.rpc.anonymous", "", fmt.Sprintf(`{"command":%q}`, command))
			}
			y.pass(2 * time.Second) // two heartbeats
		}
		health := func() string { return string(y.call("dspex.rpc.health.check", "", "").Result) }
		run("append", 96)
		run("fail", 4)
		if h := health(); strings.Contains(h, "degraded") {
			t.Errorf("at 4 %%: %s", h)
		}
		run("fail", 2)
		m, err := alerts.NextMsg(time.Second)
		if err != nil {
			t.Fatal(err)
		}
		var a struct {
			Event, Dispatcher string
			ErrorRate         float64 `json:"error_rate"`
			Errors, Total     int
		}
		switch err := json.Unmarshal(m.Data, &a); {
		case err != nil:
			t.Errorf("err must be nil, got %v; %s %s", err, m.Subject, m.Data)
		case m.Subject != "dspex.events.alert.error_rate":
			t.Errorf(`m.Subject must be "dspex.events.alert.error_rate", got %v; %s %s`, m.Subject, m.Subject, m.Data)
		case a.Event != "dspex.error_reporter.alert":
			t.Errorf(`a.Event must be "dspex.error_reporter.alert", got %v; %s %s`, a.Event, m.Subject, m.Data)
		case a.Dispatcher != "d1":
			t.Errorf(`a.Dispatcher must be "d1", got %v; %s %s`, a.Dispatcher, m.Subject, m.Data)
		case a.Errors != 6:
			t.Errorf("a.Errors must be 6, got %v; %s %s", a.Errors, m.Subject, m.Data)
		case a.Total != 102:
			t.Errorf("a.Total must be 102, got %v; %s %s", a.Total, m.Subject, m.Data)
		case a.ErrorRate < 0.058:
			t.Errorf("a.ErrorRate must be >= 0.058, got %v; %s %s", a.ErrorRate, m.Subject, m.Data)
		case a.ErrorRate > 0.059:
			t.Errorf("a.ErrorRate must be <= 0.059, got %v; %s %s", a.ErrorRate, m.Subject, m.Data)
		}
		if h := health(); !strings.Contains(h, `"reasons":["6 of 102 jobs failed in the last 60 s, more than 5 %"]`) {
			t.Errorf("at 6 %%: %s", h)
		}
		m, err = alerts.NextMsg(2 * time.Minute)
		if err != nil || m.Subject != "dspex.events.alert.recovered" || !strings.Contains(string(m.Data), `"event":"dspex.error_reporter.recovered"`) {
			t.Fatalf("%v %v", m, err)
		}
		if h := health(); !strings.Contains(h, `"status":"healthy"`) {
			t.Errorf("afterwards: %s", h)
		}
		if kept, err := stream.GetLast(ctx, y.nc, stream.Events, "dspex.events.alert.error_rate"); err != nil || !strings.Contains(string(kept.Data), "dspex.error_reporter.alert") {
			t.Errorf("%s %v", kept.Data, err)
		}
	})
}

func TestJobsThatWaitForASlotWhenTheBreakerOpensDoNotRun(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		fail, running := make(chan struct{}), make(chan struct{}, 100)
		y.script(func(_ context.Context, c frame.CallBody) (frame.Frame, error, bool) {
			if c.LM == "" {
				return frame.Frame{}, nil, false
			}
			running <- struct{}{}
			<-fail
			return failure("resource_error", "lm_server_error", true), nil, true
		})
		for n := range 8 { // all slots
			y.store(fmt.Sprintf("dspex.session.first%d", n), fmt.Sprintf("f%d", n), predict("gpt", once))
		}
		for range 8 {
			<-running
		}
		for n := range 12 {
			y.store(fmt.Sprintf("dspex.session.then%d", n), fmt.Sprintf("t%d", n), predict("gpt", once))
		}
		y.pass(time.Second)
		close(fail)
		y.pass(10 * time.Second)
		// The slots of the first four failures go to others before the fifth one opens the breaker.
		if n := len(running); n > 4 {
			t.Errorf("%d more jobs ran", n)
		}
	})
}
