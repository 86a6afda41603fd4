package host_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// halt ends host and dispatcher: what has not ended within the grace is left as it is.
// named is a session of the tenant default.
func named(id string) jobs.SessionRef { return jobs.SessionRef{Tenant: jobs.DefaultTenant, ID: id} }

func (y *system) halt() {
	y.stop()
	y.done.Wait()
}

// deadLetters reads all dead letters.
func (y *system) deadLetters() (list []*jobs.DeadLetter, bodies []string) {
	y.t.Helper()
	if _, err := stream.GetPage(context.Background(), y.nc, stream.Page{Stream: stream.Dead, Subject: "dspex.dlq.>", Messages: 100, Bytes: 1 << 20}, func(m stream.Stored) error {
		d, err := jobs.ParseDeadLetter(m.Subject, m.Header)
		list, bodies = append(list, d), append(bodies, string(m.Data))
		return err
	}); err != nil {
		y.t.Fatal(err)
	}
	return list, bodies
}

// scripted fails each attempt with a code that names it.
func scripted(c frame.CallBody) frame.Frame {
	return failure("connection", fmt.Sprint("lost_", c.Attempt), true)
}

func (y *system) failEach() {
	y.script(func(_ context.Context, c frame.CallBody) (frame.Frame, error, bool) { return scripted(c), nil, true })
}

// hasAttempts reports whether a history has attempts 1 to n with these codes.
func hasAttempts(history []jobs.Failure, codes ...string) bool {
	return slices.EqualFunc(history, codes, func(f jobs.Failure, code string) bool {
		return f.Code == code && !f.At.IsZero() && f.Attempt == slices.Index(codes, code)+1
	})
}

const doomed = `{"command":"append","args":{"x":1},"options":{"max_retries":2}}`

func TestADeadLetterHasTheRequestAndEveryAttemptsError(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		y.failEach()
		for _, session := range []string{"s", ""} {
			m := &nats.Msg{Subject: subject(session), Data: []byte(doomed), Header: nats.Header{"Dspex-Job": {"doomed" + session}, "Dspex-Deadline": {"60000"}, "Content-Type": {jobs.JSON}}}
			if _, err := y.nc.RequestMsg(m, 5*time.Second); err != nil {
				t.Fatal(err)
			}
			if o := y.end(session, "doomed"+session); o.Outcome != "failed" || o.Attempts != 3 {
				t.Errorf("%q: %+v", session, o)
			}
		}
		y.call("dspex.rpc.session.s", "call", doomed)
		list, bodies := y.deadLetters()
		if len(list) != 3 {
			t.Fatalf("%d letters", len(list))
		}
		for n, d := range list {
			want := &jobs.DeadLetter{Session: named("s"), Job: "dooms", Mode: jobs.ModeQueue, Deadline: time.Minute}
			switch n {
			case 0:
				want.Job = "dooms"
			case 1:
				want = &jobs.DeadLetter{Session: named(""), Lane: "interactive", Mode: jobs.ModeQueue, Deadline: time.Minute}
			case 2:
				want = &jobs.DeadLetter{Session: named("s"), Mode: jobs.ModeCall}
			}
			switch {
			case d.Session != want.Session:
				t.Errorf("d.Session: got %v, want %v; letter %d: %+v %s", d.Session, want.Session, n, d, bodies[n])
			case d.Lane != want.Lane:
				t.Errorf("d.Lane: got %v, want %v; letter %d: %+v %s", d.Lane, want.Lane, n, d, bodies[n])
			case d.Mode != want.Mode:
				t.Errorf("d.Mode: got %v, want %v; letter %d: %+v %s", d.Mode, want.Mode, n, d, bodies[n])
			case d.Deadline != want.Deadline:
				t.Errorf("d.Deadline: got %v, want %v; letter %d: %+v %s", d.Deadline, want.Deadline, n, d, bodies[n])
			case d.Type != jobs.JSON:
				t.Errorf("d.Type must be jobs.JSON, got %v; letter %d: %+v %s", d.Type, n, d, bodies[n])
			case d.Command != "append":
				t.Errorf(`d.Command must be "append", got %v; letter %d: %+v %s`, d.Command, n, d, bodies[n])
			case d.Attempts != 3:
				t.Errorf("d.Attempts must be 3, got %v; letter %d: %+v %s", d.Attempts, n, d, bodies[n])
			case d.Sequence == 0:
				t.Errorf("d.Sequence must not be 0; letter %d: %+v %s", n, d, bodies[n])
			case time.Since(d.Stored) > time.Minute:
				t.Errorf("time.Since(d.Stored) must be <= time.Minute, got %v; letter %d: %+v %s", time.Since(d.Stored), n, d, bodies[n])
			case bodies[n] != doomed:
				t.Errorf("bodies[n] must be doomed, got %v; letter %d: %+v %s", bodies[n], n, d, bodies[n])
			}
			if !hasAttempts(d.Failures, "lost_1", "lost_2", "lost_3") {
				t.Errorf("letter %d: history %+v", n, d.Failures)
			}
			if c, code, _ := d.Failed(); c != jobs.Connection || code != "lost_3" {
				t.Errorf("letter %d: reason %s", n, d.Reason)
			}
		}
	})
}

func TestWhatIsNotWorthKeepingIsNotBuried(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		y.script(func(context.Context, frame.CallBody) (frame.Frame, error, bool) {
			return failure("python", "bad_input", false), nil, true
		})
		for _, session := range []string{"s", ""} {
			y.store(subject(session), "wrong", doomed)
			y.end(session, "wrong")
			y.store(subject(session), "unreadable", `{`)
			y.end(session, "unreadable")
		}
		if list, _ := y.deadLetters(); len(list) != 0 {
			t.Errorf("%d letters: %+v", len(list), list[0])
		}
	})
}

// without deletes a stream for as long as during runs; the dispatcher that comes then makes it again.
func (y *system) without(name string, during func()) {
	y.t.Helper()
	js, err := jetstream.New(y.nc)
	if err != nil {
		y.t.Fatal(err)
	}
	if err := js.DeleteStream(context.Background(), name); err != nil {
		y.t.Fatal(err)
	}
	during()
	y.halt()
	time.Sleep(15 * time.Minute) // longer than the broker keeps ids
}

// decided waits until a session's record has the outcome of a job.
func (y *system) decided(session, job string) {
	y.t.Helper()
	for range 1000 {
		m, err := stream.GetLast(context.Background(), y.nc, "KV_"+stream.Sessions, "$KV."+stream.Sessions+"."+named(session).RecordKey())
		if err == nil {
			if r, err := jobs.ParseRecord(m.Data); err == nil && r.Last != nil && r.Last.Job == job {
				return
			}
		} else if !errors.Is(err, stream.ErrNotFound) {
			y.t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	y.t.Fatal("no outcome in the record")
}

func TestALetterThatACrashPreventedIsWrittenFromTheRecordWithItsHistory(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		y.failEach()
		y.without(stream.Dead, func() {
			y.store("dspex.session.s", "doomed", doomed)
			y.decided("s", "doomed")
		})
		y.run("h2")
		if o := y.end("s", "doomed"); o.Outcome != "failed" || o.Attempts != 3 || y.pool.runs.Load() != 3 {
			t.Errorf("%+v, %d runs", o, y.pool.runs.Load())
		}
		list, bodies := y.deadLetters()
		switch {
		case len(list) != 1:
			t.Errorf("len(list) must be 1, got %v; %d letters: %+v %s", len(list), len(list), list, bodies)
		case !hasAttempts(list[0].Failures, "lost_1", "lost_2", "lost_3"):
			t.Errorf(`must hold: tells(list[0].Failures, "lost_1", "lost_2", "lost_3"); %d letters: %+v %s`, len(list), list, bodies)
		case bodies[0] != doomed:
			t.Errorf("bodies[0] must be doomed, got %v; %d letters: %+v %s", bodies[0], len(list), list, bodies)
		case list[0].Command != "append":
			t.Errorf(`list[0].Command must be "append", got %v; %d letters: %+v %s`, list[0].Command, len(list), list, bodies)
		}
	})
}

func TestBuryingTwiceStoresOneLetter(t *testing.T) {
	for name, c := range map[string]struct {
		expired []string
		runs    int64
	}{
		"decided once":          {nil, 3},
		"decided again":         {[]string{named("s").RecordKey()}, 3},
		"decided and run again": {[]string{named("s").RecordKey(), named("s").AttemptRecordKey()}, 6},
	} {
		t.Run(name, func(t *testing.T) {
			inFakeTime(t, func(t *testing.T, y *system) {
				y.failEach()
				y.store("dspex.session.s", "doomed", doomed)
				time.Sleep(50 * time.Millisecond) // the first attempt has failed
				y.without(stream.ResultsStream, func() {
					y.decided("s", "doomed")
					time.Sleep(time.Second) // the dead letter is written, the result cannot be
				})
				for _, key := range c.expired {
					y.expire(key)
				}
				y.run("h2")
				if o := y.end("s", "doomed"); o.Outcome != "failed" || y.pool.runs.Load() != c.runs {
					t.Errorf("%+v, %d runs", o, y.pool.runs.Load())
				}
				if list, _ := y.deadLetters(); len(list) != 1 {
					t.Errorf("%d letters", len(list))
				}
			})
		})
	}
}

// expire does to a key of the sessions' bucket what the end of its lifetime does.
func (y *system) expire(key string) {
	y.t.Helper()
	js, err := jetstream.New(y.nc)
	if err != nil {
		y.t.Fatal(err)
	}
	s, err := js.Stream(context.Background(), "KV_"+stream.Sessions)
	if err == nil {
		err = s.Purge(context.Background(), jetstream.WithPurgeSubject("$KV."+stream.Sessions+"."+key))
	}
	if err != nil {
		y.t.Fatal(err)
	}
}

func TestAttemptsAndTheirErrorsSurviveRestartsOfBrokerAndHost(t *testing.T) {
	const patient = `{"command":"append","options":{"max_retries":4,"backoff":[3000]}}`
	for name, interrupt := range map[string]func(y *system){
		"broker": func(y *system) { y.restartBroker() },
		"host":   func(y *system) { y.halt(); y.run("h2") },
		"host, and the broker's count of deliveries": func(y *system) { // as after SIGKILL
			y.halt()
			js, err := jetstream.New(y.nc)
			if err == nil {
				err = js.DeleteConsumer(context.Background(), stream.Anonymous, "batch")
			}
			if err != nil {
				y.t.Fatal(err)
			}
			y.run("h2")
		},
	} {
		t.Run(name, func(t *testing.T) {
			inFakeTime(t, func(t *testing.T, y *system) {
				var s starts
				y.script(func(_ context.Context, c frame.CallBody) (frame.Frame, error, bool) {
					s.note(c)
					return scripted(c), nil, true
				})
				y.store("dspex.session.s", "a", patient)
				y.store("dspex.anonymous.batch", "b", patient)
				time.Sleep(7 * time.Second) // attempts at 0, 3 and 6 s
				interrupt(y)
				for job, session := range map[string]string{"a": "s", "b": ""} {
					if o := y.end(session, job); o.Outcome != "failed" || o.Attempts != 5 || o.Reply.Error.Code != "lost_5" {
						t.Errorf("%s: %+v", job, o)
					}
					if gaps := s.gaps(job); len(gaps) != 4 || gaps[2] < 3*time.Second {
						t.Errorf("%s: gaps %v", job, gaps)
					}
				}
				list, _ := y.deadLetters()
				for _, d := range list {
					if !hasAttempts(d.Failures, "lost_1", "lost_2", "lost_3", "lost_4", "lost_5") {
						t.Errorf("%s: %+v", d.Job, d.Failures)
					}
				}
				if len(list) != 2 {
					t.Errorf("%d letters", len(list))
				}
			})
		})
	}
}

func TestACrashIsAnAttempt(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		var s starts
		crash := true // the host ends under the first attempts
		y.script(func(ctx context.Context, c frame.CallBody) (frame.Frame, error, bool) {
			if s.note(c); crash {
				f, err := stuck(ctx)
				return f, err, true
			}
			return frame.Frame{}, nil, false
		})
		once := `{"command":"append","options":{"max_retries":0,"timeout":"1h"}}`
		twice := strings.Replace(once, ":0", ":1", 1)
		for _, session := range []string{"once", "twice"} {
			body := map[string]string{"once": once, "twice": twice}[session]
			y.store("dspex.session."+session, session, body)
			y.store("dspex.anonymous.interactive", session, body)
		}
		time.Sleep(time.Second)
		y.halt()
		crash = false
		y.run("h2")
		for _, session := range []string{"once", ""} {
			switch o := y.end(session, "once"); {
			case o.Outcome != "failed":
				t.Errorf(`o.Outcome must be "failed", got %v; max_retries 0, %q: %+v`, o.Outcome, session, o)
			case o.Attempts != 1:
				t.Errorf("o.Attempts must be 1, got %v; max_retries 0, %q: %+v", o.Attempts, session, o)
			case o.Reply.Error.Code != "attempt_crashed":
				t.Errorf(`o.Reply.Error.Code must be "attempt_crashed", got %v; max_retries 0, %q: %+v`, o.Reply.Error.Code, session, o)
			case o.Reply.Error.Category != "connection":
				t.Errorf(`o.Reply.Error.Category must be "connection", got %v; max_retries 0, %q: %+v`, o.Reply.Error.Category, session, o)
			}
		}
		for _, session := range []string{"twice", ""} {
			if o := y.end(session, "twice"); o.Outcome != "succeeded" || o.Attempts != 2 {
				t.Errorf("max_retries 1, %q: %+v", session, o)
			}
		}
		if list, _ := y.deadLetters(); len(list) != 2 || !hasAttempts(list[0].Failures, "attempt_crashed") || !hasAttempts(list[1].Failures, "attempt_crashed") {
			t.Errorf("%d letters: %+v", len(list), list)
		}
		if n := len(s.at["once"]); n != 2 {
			t.Errorf("the two jobs that may run once have run %d times", n)
		}
	})
}
