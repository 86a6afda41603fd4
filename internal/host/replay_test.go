package host_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/stream"
)

type deadLetterInfo struct {
	Sequence       int
	Job            string
	Session, Lane  string
	Command        string
	Mode           string
	Attempts       int
	ErrorCategory  string `json:"error_category"`
	Code           string
	Replayed       *struct{ Job string }
	Failures       []struct{ Code string }
	Request, Error map[string]any
}

type deadAnswer struct {
	Letters  []deadLetterInfo
	Replayed []struct {
		Sequence int
		Job      string
		Again    bool
		Error    struct{ Code string }
	}
	Purged int
	Cursor string
}

// dead sends requests about dead letters.
func (y *system) dead(verb, body string) (a deadAnswer, r reply) {
	y.t.Helper()
	r = y.call("dspex.rpc.dlq."+verb, "", body)
	if r.OK {
		if err := json.Unmarshal(r.Result, &a); err != nil {
			y.t.Fatal(err)
		}
	}
	return a, r
}

// failing makes jobs of a command fail until heal is called.
func (y *system) failing() (ran func() []string, heal func()) {
	var r struct {
		runs
		order []string
	}
	well := false
	y.script(func(_ context.Context, c frame.CallBody) (frame.Frame, error, bool) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if c.Command == "flaky" && !well {
			return failure("resource_error", "lm_server_error", true), nil, true
		}
		r.order = append(r.order, c.Job)
		return frame.Frame{}, nil, false
	})
	return func() []string { r.mu.Lock(); defer r.mu.Unlock(); return slices.Clone(r.order) },
		func() { r.mu.Lock(); defer r.mu.Unlock(); well = true }
}

const flaky = `{"command":"flaky","args":{"x":"y"},"options":{"max_retries":1}}`

func TestAReplayIsOneNewJobAtTheEndOfItsQueue(t *testing.T) {
	for _, session := range []string{"s", ""} {
		t.Run("session "+session, func(t *testing.T) {
			inFakeTime(t, func(t *testing.T, y *system) {
				ran, heal := y.failing()
				y.store(subject(session), "doomed", flaky)
				y.end(session, "doomed")
				heal()
				y.store(subject(session), "later", echo)
				y.end(session, "later")
				replay := func(again bool) {
					t.Helper()
					a, r := y.dead("replay", `{"sequence":1}`)
					if len(a.Replayed) != 1 || a.Replayed[0].Job != "doomed-r1" || a.Replayed[0].Again != again {
						t.Fatalf("%+v", r)
					}
				}
				replay(false)
				replay(true)
				if o := y.end(session, "doomed-r1"); o.Outcome != "succeeded" || o.Attempts != 1 {
					t.Errorf("%+v", o)
				}
				time.Sleep(20 * time.Minute) // the broker does not keep the job's id any more
				y.erase("dspex.dlq.replayed.1")
				replay(true) // as if the dispatcher had died between the job and the note: the result is there
				y.erase("$KV." + stream.Results + ".>")
				replay(true) // the result's lifetime is over: the note is there
				a, _ := y.dead("list", `{}`)
				if len(a.Letters) != 1 || a.Letters[0].Replayed == nil || a.Letters[0].Replayed.Job != "doomed-r1" {
					t.Errorf("%+v", a)
				}
				y.store(subject(session), "last", echo)
				y.end(session, "last")
				if got := fmt.Sprint(ran()); got != "[later doomed-r1 last]" {
					t.Errorf("ran %s", got)
				}
			})
		})
	}
}

// erase removes what the broker holds under a subject.
func (y *system) erase(subject string) {
	y.t.Helper()
	name := stream.Dead
	if strings.HasPrefix(subject, "$KV.") {
		name = "KV_" + stream.Results
	}
	js, err := jetstream.New(y.nc)
	if err != nil {
		y.t.Fatal(err)
	}
	s, err := js.Stream(context.Background(), name)
	if err == nil {
		err = s.Purge(context.Background(), jetstream.WithPurgeSubject(subject))
	}
	if err != nil {
		y.t.Fatal(err)
	}
}

func TestAReplayThatDiesHasALetterOfItsOwn(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		y.failing()
		y.store("dspex.session.s", "doomed", flaky)
		y.end("s", "doomed")
		y.dead("replay", `{"sequence":1}`)
		if o := y.end("s", "doomed-r1"); o.Outcome != "failed" {
			t.Errorf("%+v", o)
		}
		a, _ := y.dead("list", `{"replayed":false}`)
		if len(a.Letters) != 1 || a.Letters[0].Job != "doomed-r1" {
			t.Fatalf("%+v", a)
		}
		b, r := y.dead("replay", fmt.Sprintf(`{"sequence":%d}`, a.Letters[0].Sequence))
		if len(b.Replayed) != 1 || b.Replayed[0].Job != fmt.Sprint("doomed-r", a.Letters[0].Sequence) {
			t.Errorf("%+v", r)
		}
	})
}

func TestDeadLettersAreListedShownAndPurgedByWhatTheyAre(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		y.failing()
		for n, session := range []string{"a", "b", "a", ""} {
			job := fmt.Sprint("job-", n)
			y.store(subject(session), job, flaky)
			y.end(session, job)
			time.Sleep(time.Minute)
		}
		jobsOf := func(body string) string {
			t.Helper()
			a, r := y.dead("list", body)
			if !r.OK {
				t.Fatalf("%s: %+v", body, r)
			}
			var names []string
			for _, l := range a.Letters {
				names = append(names, l.Job)
			}
			return strings.Join(names, " ")
		}
		for body, want := range map[string]string{
			`{}`: "job-0 job-1 job-2 job-3", `{"session":"a"}`: "job-0 job-2", `{"anonymous":true}`: "job-3", `{"session":"none"}`: "",
			`{"error_category":"resource_error"}`: "job-0 job-1 job-2 job-3", `{"error_category":"python"}`: "", `{"code":"lm_server_error","session":"b"}`: "job-1",
			`{"older_than_ms":150000}`: "job-0 job-1", `{"newer_than_ms":150000}`: "job-2 job-3", `{"limit":2}`: "job-0 job-1", `{"replayed":true}`: "",
		} {
			if got := jobsOf(body); got != want {
				t.Errorf("%s: %q, want %q", body, got, want)
			}
		}
		first, _ := y.dead("list", `{"limit":3}`)
		if second := jobsOf(fmt.Sprintf(`{"limit":3,"cursor":%q}`, first.Cursor)); second != "job-3" {
			t.Errorf("second page: %q", second)
		}
		y.showsAll(t)
		y.refusesWhatIsNotClear(t)
		if a, r := y.dead("purge", `{"session":"a","limit":1}`); a.Purged != 1 || a.Cursor == "" {
			t.Errorf("%+v", r)
		}
		if a, _ := y.dead("purge", `{"sequence":2}`); a.Purged != 1 || jobsOf(`{}`) != "job-2 job-3" {
			t.Errorf("left: %s", jobsOf(`{}`))
		}
		if a, r := y.dead("replay", `{"all":true}`); len(a.Replayed) != 2 {
			t.Errorf("%+v", r)
		}
		y.end("a", "job-2-r3")
		y.end("", "job-3-r4")
		if a, _ := y.dead("purge", `{"replayed":true}`); a.Purged != 2 || len(jobsOf(`{}`)) != len("job-2-r3 job-3-r4") {
			t.Errorf("left: %s", jobsOf(`{}`))
		}
		if a, _ := y.dead("purge", `{"all":true}`); a.Purged != 2 || jobsOf(`{}`) != "" {
			t.Errorf("left: %s", jobsOf(`{}`))
		}
	})
}

func (y *system) showsAll(t *testing.T) {
	t.Helper()
	var l deadLetterInfo
	r := y.call("dspex.rpc.dlq.show", "", `{"sequence":4}`)
	if err := json.Unmarshal(r.Result, &l); err != nil {
		t.Fatalf("%+v %v", r, err)
	}
	args, _ := l.Request["args"].(map[string]any)
	switch {
	case l.Lane != "interactive":
		t.Errorf(`l.Lane must be "interactive", got %v; %+v`, l.Lane, l)
	case l.Command != "flaky":
		t.Errorf(`l.Command must be "flaky", got %v; %+v`, l.Command, l)
	case l.Mode != "queue":
		t.Errorf(`l.Mode must be "queue", got %v; %+v`, l.Mode, l)
	case l.Attempts != 2:
		t.Errorf("l.Attempts must be 2, got %v; %+v", l.Attempts, l)
	case l.ErrorCategory != "resource_error":
		t.Errorf(`l.ErrorCategory must be "resource_error", got %v; %+v`, l.ErrorCategory, l)
	case len(l.Failures) != 2:
		t.Errorf("len(l.Failures) must be 2, got %v; %+v", len(l.Failures), l)
	case args["x"] != "y":
		t.Errorf(`args["x"] must be "y", got %v; %+v`, args["x"], l)
	case l.Error["code"] != "lm_server_error":
		t.Errorf(`l.Error["code"] must be "lm_server_error", got %v; %+v`, l.Error["code"], l)
	case l.Error["retryable"] != true:
		t.Errorf(`l.Error["retryable"] must be true, got %v; %+v`, l.Error["retryable"], l)
	case l.Error["attempt"] != 2.0:
		t.Errorf(`l.Error["attempt"] must be 2.0, got %v; %+v`, l.Error["attempt"], l)
	}
}

func (y *system) refusesWhatIsNotClear(t *testing.T) {
	t.Helper()
	for body, code := range map[string]string{
		`{}`: "bad_request", `{"all":true,"session":"a"}`: "bad_request", `{"sequence":1,"all":true}`: "bad_request", `{"anonymous":false}`: "bad_request",
		`{"session":"a","anonymous":true}`: "bad_request", `{"error_category":"nonsense"}`: "bad_request", `{"older_than_ms":0}`: "bad_request",
		`{"sequence":99}`: "dead_letter_unknown",
	} {
		for _, verb := range []string{"replay", "purge"} {
			if _, r := y.dead(verb, body); r.OK || r.Error.Code != code {
				t.Errorf("%s %s: %+v", verb, body, r)
			}
		}
	}
}

func TestAJobThatNamesNoPossibleSessionIsKeptAndCannotBeReplayed(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		y.store("dspex.session.a$b", "lost", echo)
		time.Sleep(time.Second)
		a, _ := y.dead("list", `{}`)
		if len(a.Letters) != 1 || a.Letters[0].Session != "a$b" || a.Letters[0].Code != "bad_session_id" {
			t.Fatalf("%+v", a)
		}
		if _, r := y.dead("replay", `{"sequence":1}`); r.Error.Code != "bad_session_id" {
			t.Errorf("%+v", r)
		}
	})
}

func TestADeadLetterKeepsNoKey(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		y.store("dspex.session.a$b", "secret", `{"command":"set_lm","args":{"model":"m","api_key":"sk-clear"}}`)
		time.Sleep(time.Second)
		m, err := stream.GetLast(t.Context(), y.nc, stream.Dead, named("").InvalidSubject())
		if err != nil || len(m.Data) != 0 {
			t.Errorf("%s, %v", m.Data, err)
		}
	})
}
