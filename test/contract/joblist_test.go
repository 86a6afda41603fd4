package contract

import (
	"maps"
	"slices"
	"testing"
	"time"
)

// jobsOf lists all pages.
func jobsOf(t *testing.T, ask m) (jobs []m, pages int) {
	t.Helper()
	ask = maps.Clone(ask)
	for {
		page := stub.ask(t, "jobs.list", ask)
		page.succeeds(t)
		pages++
		for _, j := range page.Result.(m)["jobs"].([]any) {
			jobs = append(jobs, j.(m))
		}
		cursor, more := page.Result.(m)["cursor"]
		if !more {
			return jobs, pages
		}
		ask["cursor"] = cursor
	}
}

func idsOf(jobs []m) (ids []string) {
	for _, j := range jobs {
		ids = append(ids, j["job"].(string))
	}
	return ids
}

func TestJobsAreListedWhereTheyStand(t *testing.T) {
	const session = "joblist_1"
	stub.request(t, "dspex.rpc.session."+session, text(body("append", m{"x": 1})), "Dspex-Job", "done").succeeds(t)
	stub.request(t, "dspex.rpc.session."+session, text(body("boom", m{"retryable": false})), "Dspex-Job", "bad")
	stub.publish(t, "dspex.session."+session, text(body("sleep", m{"ms": 3_600_000}, m{"timeout": "2h"})), "Dspex-Job", "long")
	stub.publish(t, "dspex.session."+session, text(body("echo", nil)), "Dspex-Job", "next")
	for end := time.Now().Add(patience); len(idsOf(first(jobsOf(t, m{"session": session, "outcome": "running"})))) == 0; {
		if time.Now().After(end) {
			t.Fatal("the job does not run")
		}
	}
	all, pages := jobsOf(t, m{"session": session, "limit": 1})
	if got := idsOf(all); !slices.Equal(got, []string{"long", "next", "done", "bad"}) || pages < 4 {
		t.Fatalf("%v in %d pages", got, pages)
	}
	keys := []string{"accepted_at", "attempts", "command", "job", "mode", "outcome", "session"}
	if got := slices.Sorted(maps.Keys(all[0])); !slices.Equal(got, keys) {
		t.Errorf("a job without outcome has %v", got)
	}
	if got := slices.Sorted(maps.Keys(all[3])); !slices.Equal(got, []string{"attempts", "code", "ended_at", "job", "outcome", "session"}) {
		t.Errorf("a job with an outcome has %v", got)
	}
	is(t, all[0], m{"session": session, "outcome": "running", "attempts": 1, "command": "sleep", "mode": "queue"})
	is(t, all[1], m{"outcome": "queued", "attempts": 0, "command": "echo"})
	is(t, all[2], m{"outcome": "succeeded", "attempts": 1, "code": nil})
	is(t, all[3], m{"outcome": "failed"})
	isTime(t, all[0]["accepted_at"])
	isTime(t, all[2]["ended_at"])
	for filter, want := range map[string][]string{"queued": {"next"}, "running": {"long"}, "retrying": nil, "succeeded": {"done"}, "failed": {"bad"}, "cancelled": nil, "expired": nil} {
		if got := idsOf(first(jobsOf(t, m{"session": session, "outcome": filter}))); !slices.Equal(got, want) {
			t.Errorf("%s: %v", filter, got)
		}
	}
	if got := idsOf(first(jobsOf(t, m{"command": "sleep", "session": session}))); !slices.Equal(got, []string{"long"}) {
		t.Errorf("by command: %v", got)
	}
	if got := idsOf(first(jobsOf(t, m{"older_than_ms": 3_600_000, "session": session}))); got != nil {
		t.Errorf("an hour old: %v", got)
	}
	if got := idsOf(first(jobsOf(t, m{"newer_than_ms": 3_600_000, "session": session}))); len(got) != 4 {
		t.Errorf("of the last hour: %v", got)
	}
	stub.request(t, "dspex.rpc.jobs.cancel", text(m{"session": session, "job": "long"})).succeeds(t)
	if got := idsOf(first(jobsOf(t, m{"session": session, "outcome": "cancelled"}))); !slices.Equal(got, []string{"long"}) {
		t.Errorf("cancelled: %v", got)
	}
}

func TestAnonymousJobsAreListedWithTheirLane(t *testing.T) {
	stub.publish(t, "dspex.anonymous.batch", text(body("sleep", m{"ms": 3_600_000}, m{"timeout": "2h"})), "Dspex-Job", "listed-long")
	var found []m
	for end := time.Now().Add(patience); ; {
		found, _ = jobsOf(t, m{"anonymous": true, "command": "sleep", "outcome": "running"})
		if slices.Contains(idsOf(found), "listed-long") {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the job does not run")
		}
	}
	is(t, found[slices.Index(idsOf(found), "listed-long")], m{"session": nil, "lane": "batch", "mode": "queue", "attempts": 1})
	stub.request(t, "dspex.rpc.jobs.cancel", text(m{"job": "listed-long"})).succeeds(t)
	found, _ = jobsOf(t, m{"anonymous": true, "outcome": "cancelled"})
	if !slices.Contains(idsOf(found), "listed-long") {
		t.Errorf("cancelled: %v", idsOf(found))
	}
	if got := first(jobsOf(t, m{"session": "joblist_none"})); got != nil {
		t.Errorf("of a session that is not there: %v", got)
	}
}

func TestAListOfJobsRefusesWhatItDoesNotKnow(t *testing.T) {
	for ask, path := range map[string]string{
		`{"state": "queued"}`: "state", `{"outcome": "done"}`: "outcome", `{"limit": 0}`: "limit", `{"limit": 501}`: "limit", `{"session": "a.b"}`: "session", `{"cursor": "5"}`: "cursor",
		`{"cursor": "0-1x"}`: "cursor", `{"cursor": "-1-1"}`: "cursor", `{"session": "x", "anonymous": true}`: "anonymous", `{"command": "echo", "outcome": "failed"}`: "command",
		`{"older_than_ms": 0}`: "older_than_ms", `{"command": ""}`: "command",
	} {
		t.Run(ask, func(t *testing.T) {
			stub.request(t, "dspex.rpc.jobs.list", []byte(ask)).refused(t, "python", "bad_request", path)
		})
	}
	stub.ask(t, "jobs.list", m{"cursor": "99-1"}).succeeds(t)
}

func first[A, B any](a A, _ B) A { return a }
