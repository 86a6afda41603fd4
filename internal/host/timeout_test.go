package host_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/frame"
)

// stuck is a worker that answers nothing: the call ends when its caller gives up.
func stuck(ctx context.Context) (frame.Frame, error) {
	<-ctx.Done()
	return frame.Frame{}, ctx.Err()
}

// runs counts the attempts of each job.
type runs struct {
	mu sync.Mutex
	of map[string]int
}

func (r *runs) add(job string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of == nil {
		r.of = map[string]int{}
	}
	r.of[job]++
}

func (r *runs) count(job string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.of[job]
}

// near reports whether d is want, give or take what a loop needs to look.
func near(d, want time.Duration) bool { return d >= want && d <= want+50*time.Millisecond }

func TestAnAttemptEndsAtItsTimeoutAndIsRepeated(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		y.script(func(ctx context.Context, _ frame.CallBody) (frame.Frame, error, bool) {
			f, err := stuck(ctx)
			return f, err, true
		})
		for _, session := range []string{"s", ""} {
			began := time.Now()
			y.store(subject(session), "slow", `{"command":"append","options":{"timeout":"2s"}}`)
			o := y.end(session, "slow")
			switch e := o.Reply.Error; {
			case o.Outcome != "failed":
				t.Errorf(`o.Outcome must be "failed", got %v; %q: %+v`, o.Outcome, session, o)
			case o.Attempts != 3:
				t.Errorf("o.Attempts must be 3, got %v; %q: %+v", o.Attempts, session, o)
			case e.Category != "timeout":
				t.Errorf(`e.Category must be "timeout", got %v; %q: %+v`, e.Category, session, o)
			case e.Code != "operation_timeout":
				t.Errorf(`e.Code must be "operation_timeout", got %v; %q: %+v`, e.Code, session, o)
			case !e.Retryable:
				t.Errorf("must hold: e.Retryable; %q: %+v", session, o)
			case !strings.Contains(e.Message, "the attempt took longer than 2s"):
				t.Errorf(`must hold: strings.Contains(e.Message, "the attempt took longer than 2s"); %q: %+v`, session, o)
			}
			if took := time.Since(began); !near(took, 6300*time.Millisecond) { // three attempts, 100 and 200 ms between them
				t.Errorf("%q: took %v", session, took)
			}
		}
	})
}

func subject(session string) string {
	if session == "" {
		return "dspex.anonymous.interactive"
	}
	return "dspex.session." + session
}

func TestTheCallerIsAnsweredAtTheDeadlineThoughTheWorkerIsStuck(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		y.script(func(ctx context.Context, c frame.CallBody) (frame.Frame, error, bool) {
			if c.Job != "next" {
				f, err := stuck(ctx)
				return f, err, true
			}
			return frame.Frame{}, nil, false
		})
		for _, endpoint := range []string{"dspex.rpc.session.s", "dspex.rpc.anonymous"} {
			began := time.Now()
			m, err := y.nc.RequestMsg(&nats.Msg{Subject: endpoint, Data: []byte(echo), Header: nats.Header{"Dspex-Deadline": {"3000"}}}, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); !near(took, 3*time.Second) {
				t.Errorf("%s: answered after %v", endpoint, took)
			}
			if text := string(m.Data); !strings.Contains(text, `"code":"deadline_exceeded"`) || !strings.Contains(text, "while it ran") || m.Header.Get("Nats-Service-Error-Code") != "408" {
				t.Errorf("%s: %s", endpoint, text)
			}
		}
		if r := y.call("dspex.rpc.session.s", "next", echo); !r.OK {
			t.Errorf("the session's next job: %+v", r)
		}
	})
}

func TestAWaitingJobEndsAtItsDeadlineAndNeverRuns(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		var r runs
		release := make(chan struct{})
		y.script(func(_ context.Context, c frame.CallBody) (frame.Frame, error, bool) {
			if r.add(c.Job); c.Job == "first" {
				<-release
			}
			return frame.Frame{}, nil, false
		})
		y.store("dspex.session.s", "first", `{"command":"append","options":{"timeout":"1h"}}`)
		began := time.Now()
		y.store("dspex.session.s", "waits", `{"command":"append","options":{"deadline":"5s"}}`)
		o := y.end("s", "waits")
		switch e := o.Reply.Error; {
		case o.Outcome != "expired":
			t.Errorf(`o.Outcome must be "expired", got %v; %+v`, o.Outcome, o)
		case o.Attempts != 0:
			t.Errorf("o.Attempts must be 0, got %v; %+v", o.Attempts, o)
		case e.Category != "timeout":
			t.Errorf(`e.Category must be "timeout", got %v; %+v`, e.Category, o)
		case e.Code != "deadline_exceeded":
			t.Errorf(`e.Code must be "deadline_exceeded", got %v; %+v`, e.Code, o)
		case e.Retryable:
			t.Errorf("must not hold: e.Retryable; %+v", o)
		case !strings.Contains(e.Message, "while it waited for its turn"):
			t.Errorf(`must hold: strings.Contains(e.Message, "while it waited for its turn"); %+v`, o)
		}
		if took := time.Since(began); !near(took, 5*time.Second) {
			t.Errorf("ended after %v", took)
		}
		y.store("dspex.session.s", "last", echo)
		close(release)
		if o := y.end("s", "last"); o.Outcome != "succeeded" || r.count("waits") != 0 {
			t.Errorf("%+v, %d runs of the expired job", o, r.count("waits"))
		}
	})
}

func TestACallWaitsForASlotAsLongAsItMayAndAPublishedJobLonger(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		var r runs
		y.pool.fill()
		y.script(func(_ context.Context, c frame.CallBody) (frame.Frame, error, bool) {
			r.add(c.Job)
			return frame.Frame{}, nil, false
		})
		began := time.Now()
		y.store("dspex.session.queued", "queued", echo)
		y.store("dspex.session.late", "late", `{"command":"append","options":{"deadline":"7s"}}`)
		v := y.call("dspex.rpc.session.call", "call", `{"command":"append","options":{"max_retries":5}}`)
		switch e := v.Error; {
		case e.Category != "resource_error":
			t.Errorf(`e.Category must be "resource_error", got %v; call: %+v`, e.Category, v)
		case e.Code != "checkout_timeout":
			t.Errorf(`e.Code must be "checkout_timeout", got %v; call: %+v`, e.Code, v)
		case !e.Retryable:
			t.Errorf("must hold: e.Retryable; call: %+v", v)
		case e.RetryAfter != 5000:
			t.Errorf("e.RetryAfter must be 5000, got %v; call: %+v", e.RetryAfter, v)
		case v.Attempt != 0:
			t.Errorf("v.Attempt must be 0, got %v; call: %+v", v.Attempt, v)
		}
		if took := time.Since(began); !near(took, 5*time.Second) {
			t.Errorf("the call ended after %v", took)
		}
		if o := y.end("late", "late"); o.Outcome != "expired" || !strings.Contains(o.Reply.Error.Message, "while it waited for a worker") {
			t.Errorf("late: %+v", o)
		}
		if took := time.Since(began); !near(took, 7*time.Second) {
			t.Errorf("the queued job with a deadline ended after %v", took)
		}
		y.pool.empty()
		if o := y.end("queued", "queued"); o.Outcome != "succeeded" || o.Attempts != 1 {
			t.Errorf("queued: %+v", o)
		}
		if r.count("call") != 0 || r.count("late") != 0 {
			t.Error("a job ran after its end")
		}
	})
}

func TestAnAnonymousCallThatNoHostTakesIsAnswered(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		var r runs
		y.script(func(_ context.Context, c frame.CallBody) (frame.Frame, error, bool) {
			r.add(c.Job)
			return frame.Frame{}, nil, false
		})
		y.pool.fill()
		y.store("dspex.anonymous.interactive", "queued", echo)
		time.Sleep(2 * time.Second) // what the host had requested before has come
		for deadline, want := range map[string]struct {
			after          time.Duration
			category, code string
		}{"": {5 * time.Second, "resource_error", "checkout_timeout"}, "2000": {2 * time.Second, "timeout", "deadline_exceeded"}} {
			m := &nats.Msg{Subject: "dspex.rpc.anonymous", Data: []byte(echo), Header: nats.Header{"Dspex-Job": {"call" + deadline}}}
			if deadline != "" {
				m.Header.Set("Dspex-Deadline", deadline)
			}
			began := time.Now()
			answer, err := y.nc.RequestMsg(m, time.Minute)
			if err != nil {
				t.Fatalf("%q: %v", deadline, err)
			}
			var v reply
			if err := json.Unmarshal(answer.Data, &v); err != nil || v.Error.Category != want.category || v.Error.Code != want.code {
				t.Errorf("%q: %s", deadline, answer.Data)
			}
			if took := time.Since(began); !near(took, want.after) {
				t.Errorf("%q: answered after %v", deadline, took)
			}
		}
		y.pool.empty()
		if o := y.end("", "queued"); o.Outcome != "succeeded" {
			t.Errorf("%+v", o)
		}
		if o := y.end("", "call"); o.Outcome != "failed" || r.count("call")+r.count("call2000") != 0 {
			t.Errorf("%+v, %d runs", o, r.count("call")+r.count("call2000"))
		}
	})
}

func TestAnAnonymousJobThatNoHostTakesEndsAtItsDeadline(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		var r runs
		y.script(func(_ context.Context, c frame.CallBody) (frame.Frame, error, bool) {
			r.add(c.Job)
			return frame.Frame{}, nil, false
		})
		y.pool.fill()
		y.store("dspex.anonymous.batch", "no-deadline", echo)
		time.Sleep(2 * time.Second) // what the host had requested before has come
		publish := func(job, deadline string) *nats.Subscription {
			return y.replyTo("dspex.anonymous.batch", job, `{"command":"append","options":{"deadline":"`+deadline+`"}}`)
		}
		late, later, chosen, repeat := publish("", "10s"), publish("", "20s"), publish("chosen", "15s"), publish("no-deadline", "5s")
		began := time.Now()
		job := ""
		for _, want := range []struct {
			sub   *nats.Subscription
			after time.Duration
			code  string
		}{{repeat, 5 * time.Second, "outcome_pending"}, {late, 10 * time.Second, "deadline_exceeded"}, {chosen, 15 * time.Second, "outcome_pending"}, {later, 20 * time.Second, "deadline_exceeded"}} {
			a := y.answer(want.sub, 11*time.Second)
			if passed := time.Since(began); a.Error.Code != want.code || passed < want.after || passed > want.after+1100*time.Millisecond {
				t.Errorf("after %v, not %v: %+v", passed, want.after, a)
			}
			if want.sub == late {
				job = a.Job
			}
		}
		if o := y.end("", job); o.Outcome != "expired" || o.Attempts != 0 {
			t.Errorf("late: %+v", o)
		}
		y.pool.empty()
		if o := y.end("", "chosen"); o.Outcome != "expired" {
			t.Errorf("chosen: %+v", o)
		}
		if a := y.answer(chosen, time.Second); a.Error.Code != "deadline_exceeded" {
			t.Errorf("chosen: %+v", a)
		}
		if o := y.end("", "no-deadline"); o.Outcome != "succeeded" { // the deadline of its repeat ends it not
			t.Errorf("no-deadline: %+v", o)
		}
		if n := r.count("no-deadline"); n != 1 || r.count("chosen")+r.count(job) != 0 {
			t.Errorf("%d runs, and of those too late %d", n, r.count("chosen")+r.count(job))
		}
	})
}
