package contract

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func TestACallOfASessionGetsItsReply(t *testing.T) {
	r := stub.request(t, "dspex.rpc.session.endpoints_1", text(body("predict", m{"question": "What is the capital of France?"})), "Dspex-Job", "first")
	r.succeeds(t)
	if answer := r.Result.(m)["answer"]; answer != "[stub] What is the capital of France?" || len(r.Result.(m)) != 1 {
		t.Errorf("result %v", r.Result)
	}
	switch {
	case r.Job != "first":
		t.Errorf(`r.Job must be "first", got %v; %+v`, r.Job, r)
	case r.Attempt != 1:
		t.Errorf("r.Attempt must be 1, got %v; %+v", r.Attempt, r)
	case r.Engine != "stub":
		t.Errorf(`r.Engine must be "stub", got %v; %+v`, r.Engine, r)
	case r.RanOn != nil:
		t.Errorf("r.RanOn must be nil, got %v; %+v", r.RanOn, r)
	case r.Timing == nil:
		t.Errorf("r.Timing must not be nil; %+v", r)
	}
	switch s := r.Session; {
	case s == nil:
		t.Errorf("s must not be nil; session %+v", r.Session)
	case s.ID != "endpoints_1":
		t.Errorf(`s.ID must be "endpoints_1", got %v; session %+v`, s.ID, r.Session)
	case s.Host == "":
		t.Errorf(`s.Host must not be ""; session %+v`, r.Session)
	case s.Worker == "":
		t.Errorf(`s.Worker must not be ""; session %+v`, r.Session)
	case s.State != "none":
		t.Errorf(`s.State must be "none", got %v; session %+v`, s.State, r.Session)
	}
	switch h := r.header; {
	case h.Get("Dspex-Job") != "first":
		t.Errorf(`h.Get("Dspex-Job") must be "first", got %v; headers %v`, h.Get("Dspex-Job"), h)
	case h.Get("Dspex-Attempt") != "1":
		t.Errorf(`h.Get("Dspex-Attempt") must be "1", got %v; headers %v`, h.Get("Dspex-Attempt"), h)
	case h.Get("Dspex-Partial") != "":
		t.Errorf(`h.Get("Dspex-Partial") must be "", got %v; headers %v`, h.Get("Dspex-Partial"), h)
	case h.Get("Content-Type") != jsonType:
		t.Errorf(`h.Get("Content-Type"): got %v, want %v; headers %v`, h.Get("Content-Type"), jsonType, h)
	}
	if again := stub.call(t, "endpoints_1", "predict", m{"question": "And of Spain?"}); again.Session.State != "warm" && again.Session.State != "restored" {
		t.Errorf("the second call found the state %q", again.Session.State)
	}
}

func TestAnAnonymousCallGetsItsReply(t *testing.T) {
	r := stub.call(t, "", "echo", m{"x": 1})
	r.succeeds(t)
	switch {
	case r.Session != nil:
		t.Errorf("r.Session must be nil, got %v; %+v", r.Session, r)
	case r.RanOn == nil:
		t.Errorf("r.RanOn must not be nil; %+v", r)
	case r.RanOn.Host == "":
		t.Errorf(`r.RanOn.Host must not be ""; %+v`, r)
	case r.RanOn.Worker == "":
		t.Errorf(`r.RanOn.Worker must not be ""; %+v`, r)
	case !strings.HasPrefix(r.Job, "q"):
		t.Errorf(`must hold: strings.HasPrefix(r.Job, "q"); %+v`, r)
	}
	if r.header.Get("Dspex-Job") != r.Job || r.header.Get("Dspex-Attempt") != "1" {
		t.Errorf("headers %v", r.header)
	}
}

func TestAPublishedJobIsAcknowledgedAnsweredAndCanBeFetched(t *testing.T) {
	for endpoint, session := range map[string]string{"dspex.session.endpoints_2": "endpoints_2", "dspex.anonymous.interactive": "", "dspex.anonymous.batch": ""} {
		for _, base := range []string{stub.nc.NewRespInbox(), "dspex.reply.contract." + strings.ReplaceAll(endpoint, ".", "-")} {
			inbox, err := stub.nc.SubscribeSync(base)
			if err != nil {
				t.Fatal(err)
			}
			job := stub.publish(t, endpoint, text(body("echo", m{"x": endpoint})), "Dspex-Reply-To", base)
			answer, err := inbox.NextMsg(patience)
			if err != nil {
				t.Fatalf("%s to %s: %v", endpoint, base, err)
			}
			r := read(t, answer)
			r.succeeds(t)
			o, stored := stub.wait(t, session, job)
			switch {
			case r.Job != job:
				t.Errorf("r.Job: got %v, want %v; %s: %+v, fetched %+v %+v", r.Job, job, endpoint, r, o, stored)
			case stored.Job != job:
				t.Errorf("stored.Job: got %v, want %v; %s: %+v, fetched %+v %+v", stored.Job, job, endpoint, r, o, stored)
			case o.Outcome != "succeeded":
				t.Errorf(`o.Outcome must be "succeeded", got %v; %s: %+v, fetched %+v %+v`, o.Outcome, endpoint, r, o, stored)
			case o.Attempts != 1:
				t.Errorf("o.Attempts must be 1, got %v; %s: %+v, fetched %+v %+v", o.Attempts, endpoint, r, o, stored)
			case o.Job != job:
				t.Errorf("o.Job: got %v, want %v; %s: %+v, fetched %+v %+v", o.Job, job, endpoint, r, o, stored)
			case o.Session != session:
				t.Errorf("o.Session: got %v, want %v; %s: %+v, fetched %+v %+v", o.Session, session, endpoint, r, o, stored)
			case stored.Result.(m)["x"] != endpoint:
				t.Errorf(`stored.Result.(m)["x"]: got %v, want %v; %s: %+v, fetched %+v %+v`, stored.Result.(m)["x"], endpoint, endpoint, r, o, stored)
			}
		}
	}
}

func TestHealthAndStatistics(t *testing.T) {
	numbers := []string{"active_sessions", "active_workers", "available_workers", "average_response_time", "extra", "pool_size", "total_errors", "total_requests", "uptime_seconds"}
	extra := []string{"affinity_hits", "affinity_misses", "affinity_moves", "overflow_workers", "sandbox"}
	stub.call(t, "", "echo", nil).succeeds(t)
	r := stub.request(t, "dspex.rpc.stats.get", nil)
	r.succeeds(t)
	stats := r.Result.(m)
	if got := slices.Sorted(maps.Keys(stats)); !slices.Equal(got, numbers) {
		t.Errorf("the numbers are %v, want %v", got, numbers)
	}
	if got := slices.Sorted(maps.Keys(stats["extra"].(m))); !slices.Equal(got, extra) {
		t.Errorf("the others are %v, want %v", got, extra)
	}
	if r.Engine != "stub" {
		t.Errorf("statistics name the engine %q", r.Engine)
	}
	var health m
	for { // `ready` is printed when the first worker serves; until all do, the health is degraded
		r = stub.request(t, "dspex.rpc.health.check", text(m{}))
		r.succeeds(t)
		if health = r.Result.(m); health["status"] != "degraded" {
			break
		}
	}
	if health["status"] != "healthy" || r.Engine != "stub" {
		t.Errorf("health %v of %q", health, r.Engine)
	}
	if got := slices.Sorted(maps.Keys(health["stats"].(m))); !slices.Equal(got, numbers) {
		t.Errorf("health tells %v", got)
	}
	for name, want := range map[string]string{"pool_size": "2", "active_workers": "2", "available_workers": "2"} {
		if got := health["stats"].(m)[name]; got.(interface{ String() string }).String() != want {
			t.Errorf("%s is %v, want %s: measured now", name, got, want)
		}
	}
}

func TestTheEndpointsThatRunNoJobRefuseABodyThatTheyDoNotKnow(t *testing.T) {
	for _, endpoint := range []string{"dspex.rpc.stats.get", "dspex.rpc.health.check", "dspex.rpc.breakers.list"} {
		stub.request(t, endpoint, []byte(`{"verbose": true}`)).refused(t, "python", "bad_request", "verbose")
		stub.request(t, endpoint, []byte(`[]`)).refused(t, "python", "bad_request", "")
		stub.request(t, endpoint, []byte(`{"`)).refused(t, "python", "bad_request", "")
	}
	for ask, path := range map[string]string{
		``: "job", `[]`: "", `{}`: "job", `{"job": 5}`: "job", `{"job": "a b"}`: "job", `{"job": "x", "session": "a.b"}`: "session", `{"job": "x", "session": 1}`: "session",
		`{"job": "x", "wait_ms": -1}`: "wait_ms", `{"job": "x", "wait_ms": 600001}`: "wait_ms", `{"job": "x", "wait_ms": "1s"}`: "wait_ms",
		`{"job": "x", "id": "x"}`: "id", `{"job": "x", "job": "y"}`: "job", `{"job": "x", "Job": "y"}`: "Job",
	} {
		t.Run(ask, func(t *testing.T) {
			stub.request(t, "dspex.rpc.jobs.get", []byte(ask)).refused(t, "python", "bad_request", path)
		})
	}
	stub.request(t, "dspex.rpc.jobs.get", []byte(`{"job": "x"}`), "Content-Type", "text/plain").refused(t, "python", "bad_header", "Content-Type")
}

func TestNoOneSubscribesToASubjectThatIsNoEndpoint(t *testing.T) {
	for _, subject := range []string{
		"dspex.rpc.session", "dspex.rpc.session.a.b", "dspex.rpc.anonymous.batch", "dspex.rpc.nothing", "dspex.session.a.b", "dspex.session",
		"dspex.anonymous", "dspex.anonymous.fast", "dspex.anonymous.interactive.x",
	} {
		if answer, err := stub.nc.Request(subject, text(body("echo", nil)), patience); !errors.Is(err, nats.ErrNoResponders) {
			t.Errorf("%s: %v %v", subject, answer, err)
		}
	}
}

func TestABadSessionIdIsRefusedAtBothEndpoints(t *testing.T) {
	for _, id := range []string{"a@b", "a:b", "é", "$x", strings.Repeat("a", 65)} {
		r := stub.request(t, "dspex.rpc.session."+id, text(body("echo", nil)))
		r.refused(t, "session", "bad_session_id", "")

		inbox, err := stub.nc.SubscribeSync(stub.nc.NewRespInbox())
		if err != nil {
			t.Fatal(err)
		}
		job := stub.publish(t, "dspex.session."+id, text(body("echo", nil)), "Dspex-Reply-To", inbox.Subject)
		answer, err := inbox.NextMsg(patience)
		if err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		r = read(t, answer)
		r.refused(t, "session", "bad_session_id", "")
		if r.Job != job {
			t.Errorf("%s: job %q, want %q", id, r.Job, job)
		}
	}
	stub.call(t, strings.Repeat("a", 64), "echo", nil).succeeds(t)
}

func TestTheServiceCanBeFoundByTheToolsOfNATS(t *testing.T) {
	answer, err := stub.nc.Request("$SRV.INFO.dspex", nil, patience)
	if err != nil {
		t.Fatal(err)
	}
	for _, endpoint := range []string{"dspex.rpc.session.*", "dspex.rpc.anonymous", "dspex.rpc.jobs.get", "dspex.rpc.health.check", "dspex.rpc.stats.get"} {
		if !strings.Contains(string(answer.Data), `"`+endpoint+`"`) {
			t.Errorf("%s is not listed in %s", endpoint, answer.Data)
		}
	}
}

// A reply goes out with the service's permissions: a requester must not choose where, beyond the shapes of job.md.
func TestAReplySubjectOutsideOfTheAllowedShapes(t *testing.T) {
	js, err := jetstream.New(stub.nc)
	if err != nil {
		t.Fatal(err)
	}
	spy, err := stub.nc.SubscribeSync("dspex.session.victim")
	if err != nil {
		t.Fatal(err)
	}
	for _, endpoint := range []string{"dspex.rpc.session.endpoints_3", "dspex.rpc.anonymous", "dspex.rpc.jobs.get", "dspex.rpc.health.check", "dspex.rpc.stats.get"} {
		// Under dspex. and $ nothing is sent at all.
		if err := stub.nc.PublishMsg(&nats.Msg{Subject: endpoint, Reply: "dspex.session.victim", Data: text(body("append", m{"x": 1}))}); err != nil {
			t.Fatal(err)
		}
		// Elsewhere the sender, who may have an inbox of another name, gets an error.
		elsewhere, err := stub.nc.SubscribeSync("inboxes.of.mine")
		if err != nil {
			t.Fatal(err)
		}
		if err := stub.nc.PublishMsg(&nats.Msg{Subject: endpoint, Reply: "inboxes.of.mine", Data: text(body("append", m{"x": 1}))}); err != nil {
			t.Fatal(err)
		}
		answer, err := elsewhere.NextMsg(patience)
		if err != nil {
			t.Fatalf("%s: %v", endpoint, err)
		}
		read(t, answer).refused(t, "python", "bad_reply_subject", "")
		_ = elsewhere.Unsubscribe()
	}
	for _, to := range []string{"dspex.session.victim", "$JS.API.STREAM.PURGE.DSPEX_JOBS", "_INBOX.*", "_INBOX.>", "_INBOX.a..b", "_INBOX", "inboxes.of.mine", "dspex.reply", "dspex.reply.>"} {
		job := stub.publish(t, "dspex.session.endpoints_3", text(body("append", m{"x": 1})), "Dspex-Reply-To", to)
		o, r := stub.wait(t, "endpoints_3", job)
		r.refused(t, "python", "bad_reply_subject", "Dspex-Reply-To")
		if o.Outcome != "failed" {
			t.Errorf("%s: %s", to, o.Outcome)
		}
	}
	if list := stub.call(t, "endpoints_3", "append", m{"x": "only"}).Result.(m)["list"].([]any); len(list) != 1 {
		t.Errorf("a refused job ran: %v", list)
	}
	if err := stub.nc.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	if msg, err := spy.NextMsg(time.Millisecond); err == nil {
		t.Errorf("the service published %s on %s", msg.Data, msg.Subject)
	}
	if _, err := js.Stream(t.Context(), "DSPEX_JOBS"); err != nil {
		t.Fatal(err)
	}
}

func TestBreakersAreToldUnderTheManualsNamesAndReset(t *testing.T) {
	stub.call(t, "", "echo", nil).succeeds(t)
	r := stub.request(t, "dspex.rpc.breakers.list", nil)
	r.succeeds(t)
	list := r.Result.(m)["breakers"].([]any)
	names := map[string]m{}
	for _, b := range list {
		names[b.(m)["name"].(string)] = b.(m)
	}
	pool := names["pool.dev"]
	if pool == nil || names["start.dev"] == nil {
		t.Fatalf("breakers %v", names)
	}
	want := []string{"config", "failure_count", "half_open_count", "last_failure", "last_state_change", "name", "state", "success_count", "time_until_retry"}
	if got := slices.Sorted(maps.Keys(pool)); !slices.Equal(got, want) || pool["state"] != "closed" {
		t.Errorf("%v", pool)
	}
	if got := slices.Sorted(maps.Keys(pool["config"].(m))); !slices.Equal(got, []string{"failure_threshold", "success_threshold", "timeout"}) {
		t.Errorf("%v", pool["config"])
	}
	r = stub.request(t, "dspex.rpc.breakers.reset", text(m{"name": "pool.dev"}))
	r.succeeds(t)
	if r.Result.(m)["state"] != "closed" || r.Result.(m)["name"] != "pool.dev" {
		t.Errorf("%v", r.Result)
	}
	stub.request(t, "dspex.rpc.breakers.reset", text(m{"name": "pool.nobody"})).refused(t, "session", "breaker_unknown", "name")
	stub.request(t, "dspex.rpc.breakers.reset", nil).refused(t, "python", "bad_request", "name")
}
