package host_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/pyproc"
)

// starts notes when each attempt of a job began.
type starts struct {
	mu sync.Mutex
	at map[string][]time.Time
}

func (s *starts) note(c frame.CallBody) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at == nil {
		s.at = map[string][]time.Time{}
	}
	s.at[c.Job] = append(s.at[c.Job], time.Now())
}

func (s *starts) gaps(job string) []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	var gaps []time.Duration
	for n, at := range s.at[job] {
		if n > 0 {
			gaps = append(gaps, at.Sub(s.at[job][n-1]))
		}
	}
	return gaps
}

func TestTheGapsBetweenAttempts(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		var s starts
		y.script(func(_ context.Context, c frame.CallBody) (frame.Frame, error, bool) {
			s.note(c)
			return failure("connection", "lost", true), nil, true
		})
		for job, c := range map[string]struct {
			options string
			want    []time.Duration
		}{
			"linear":      {`"max_retries":3,"backoff":"linear"`, ms(100, 200, 300)},
			"exponential": {`"max_retries":5,"backoff":"exponential"`, ms(100, 200, 400, 800, 1600)},
			"list":        {`"max_retries":3,"backoff":[150,300,450]`, ms(150, 300, 450)},
			"capped":      {`"max_retries":4,"backoff_cap":250`, ms(100, 200, 250, 250)},
			"unset":       {`"stream":false`, ms(100, 200, 400, 800, 1600)},
			"none":        {`"max_retries":0`, nil},
		} {
			for _, subject := range []string{"dspex.session.gaps-" + job, "dspex.anonymous.interactive"} {
				id, session := job, "gaps-"+job
				if subject == "dspex.anonymous.interactive" {
					id, session = job+"-anonymous", ""
				}
				y.store(subject, id, `{"command":"append","options":{`+c.options+`}}`)
				o := y.end(session, id)
				if got := s.gaps(id); o.Attempts != len(c.want)+1 || !slices.Equal(got, c.want) {
					t.Errorf("%s: gaps %v, want %v (%+v)", id, got, c.want, o)
				}
			}
		}
	})
}

func ms(n ...int) (d []time.Duration) {
	for _, v := range n {
		d = append(d, time.Duration(v)*time.Millisecond)
	}
	return d
}

// A reset brings everything un-acked at once, also what waits for its delay.
func TestARedeliveryDuringTheDelayStartsNoRetry(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		var s starts
		y.script(func(_ context.Context, c frame.CallBody) (frame.Frame, error, bool) {
			s.note(c)
			return failure("connection", "lost", true), nil, true
		})
		y.store("dspex.session.s", "job", `{"command":"append","options":{"max_retries":1,"backoff":[10000]}}`)
		y.pass(2 * time.Second)
		js, err := jetstream.New(y.nc)
		if err != nil {
			t.Fatal(err)
		}
		jobs, err := js.Stream(t.Context(), "DSPEX_JOBS")
		if err != nil {
			t.Fatal(err)
		}
		for name := range jobs.ConsumerNames(t.Context()).Name() {
			if _, err := js.ResetConsumer(t.Context(), "DSPEX_JOBS", name); err != nil {
				t.Fatal(err)
			}
		}
		if o := y.end("s", "job"); o.Attempts != 2 || !slices.Equal(s.gaps("job"), ms(10000)) {
			t.Errorf("gaps %v: %+v", s.gaps("job"), o)
		}
	})
}

func TestAJobWithoutBackoffUsesItsCategorysDelays(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		var s starts
		y.script(func(_ context.Context, c frame.CallBody) (frame.Frame, error, bool) {
			s.note(c)
			return failure(c.Session, "scripted", true), nil, true // the session's name is the category
		})
		for category, want := range map[string][]time.Duration{
			"initialization": ms(100, 200, 400), "connection": ms(100, 200, 400, 800, 1600), "communication": ms(0, 100, 200), "timeout": ms(100, 200),
			"resource_error": nil, "health_check": ms(100, 200, 300), "session": ms(100, 200, 300), "python": ms(100, 200), "system_error": nil,
		} {
			y.store("dspex.session."+category, category+"-1", echo)
			if o := y.end(category, category+"-1"); o.Outcome != "failed" || o.Attempts != len(want)+1 || o.Reply.Error.Category != category {
				t.Errorf("%s: %+v", category, o)
			}
			if got := s.gaps(category + "-1"); !slices.Equal(got, want) {
				t.Errorf("%s: gaps %v, want %v", category, got, want)
			}
		}
	})
}

func TestTheProvidersDelayIsHonouredAndJitterOnlyOnDemand(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		var s starts
		y.script(func(_ context.Context, c frame.CallBody) (frame.Frame, error, bool) {
			s.note(c)
			after := uint64(0)
			if c.Session == "limited" {
				after = 7000
			}
			return failureAfter("resource_error", "lm_rate_limit", true, after), nil, true
		})
		y.store("dspex.session.limited", "a", echo)
		if o := y.end("limited", "a"); o.Reply.Error.RetryAfter != 7000 || !o.Reply.Error.Retryable {
			t.Errorf("%+v", o)
		}
		if got := s.gaps("a"); !slices.Equal(got, ms(7000, 7000, 7000)) {
			t.Errorf("gaps %v", got)
		}
		y.store("dspex.session.jitter", "b", `{"command":"append","options":{"max_retries":20,"backoff":[1000],"jitter":0.25}}`)
		y.end("jitter", "b")
		seen := map[time.Duration]bool{}
		for _, gap := range s.gaps("b") {
			if seen[gap] = true; gap < 749*time.Millisecond || gap > 1251*time.Millisecond {
				t.Errorf("gap %v", gap)
			}
		}
		if len(seen) < 10 {
			t.Errorf("%d different gaps of 20", len(seen))
		}
	})
}

func TestWhatCannotGoWellIsNotRepeated(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		y.script(func(_ context.Context, c frame.CallBody) (frame.Frame, error, bool) {
			if c.Job == "late" {
				return failure("connection", "lost", true), nil, true
			}
			return failure("python", "bad_input", false), nil, true
		})
		y.store("dspex.session.s", "wrong", `{"command":"append","options":{"max_retries":20}}`)
		if o := y.end("s", "wrong"); o.Outcome != "failed" || o.Attempts != 1 || o.Reply.Error.Retryable {
			t.Errorf("%+v", o)
		}
		// 100 and 200 ms fit into the deadline, 400 ms more do not: the answer comes then, not at the deadline.
		began := time.Now()
		y.store("dspex.session.s", "late", `{"command":"append","options":{"max_retries":20,"deadline":500}}`)
		if o := y.end("s", "late"); o.Outcome != "failed" || o.Attempts != 3 || o.Reply.Error.Code != "lost" {
			t.Errorf("%+v", o)
		}
		if took := time.Since(began); took < 300*time.Millisecond || took >= 400*time.Millisecond {
			t.Errorf("answered after %v", took)
		}
	})
}

func TestOnlyTheHostDecidesThatAJobIsCancelledOrExpired(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		y.script(func(_ context.Context, c frame.CallBody) (frame.Frame, error, bool) {
			return failure("python", c.Job, false), nil, true
		})
		for _, code := range []string{"cancelled", "deadline_exceeded"} {
			y.store("dspex.session.s", code, echo)
			if o := y.end("s", code); o.Outcome != "failed" || o.Reply.Error.Code != "user_error" {
				t.Errorf("%s: %+v", code, o)
			}
		}
	})
}

func TestAQueuedJobWaitsForWorkersThatDoNotStartAndACallDoesNot(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		refusals := 0
		y.pool.mu.Lock()
		y.pool.none = func() error {
			if refusals++; refusals <= 3 {
				return &pyproc.UnavailableError{RetryAfter: 2 * time.Second, Err: errors.New("no such file")}
			}
			return nil
		}
		y.pool.mu.Unlock()
		r := y.call("dspex.rpc.session.s", "call", echo)
		switch e := r.Error; {
		case e.Category != "initialization":
			t.Errorf(`e.Category must be "initialization", got %v; call: %+v`, e.Category, r)
		case e.Code != "worker_start_failed":
			t.Errorf(`e.Code must be "worker_start_failed", got %v; call: %+v`, e.Code, r)
		case !e.Retryable:
			t.Errorf("must hold: e.Retryable; call: %+v", r)
		case e.RetryAfter != 2000:
			t.Errorf("e.RetryAfter must be 2000, got %v; call: %+v", e.RetryAfter, r)
		case r.Attempt != 0:
			t.Errorf("r.Attempt must be 0, got %v; call: %+v", r.Attempt, r)
		}
		began := time.Now()
		y.store("dspex.session.s", "queued", echo)
		if o := y.end("s", "queued"); o.Outcome != "succeeded" || o.Attempts != 3 {
			t.Errorf("queued: %+v", o)
		}
		if took := time.Since(began); took < 4*time.Second || took > 4100*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
}
