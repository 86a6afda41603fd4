package dashboard

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/insight"
)

func begun() *tail {
	t := &tail{}
	t.reset()
	return t
}

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func (t *tail) see(kind string, e attemptEvent) {
	e.Event, e.Tenant = "dspex.session_pool."+kind, "default"
	t.add(e)
}

func TestAStartWhoseEndMayBeMissedIsNoRun(t *testing.T) {
	tail := begun()
	tail.settled = time.Now().Add(time.Hour)
	one := attemptEvent{At: noon, Host: "h1", Session: "s", Job: "early", Attempt: 1, Worker: "h1/0", Duration: 2}
	tail.see("checkout", one)
	if tail.running != 0 || len(tail.jobs) != 0 || len(tail.second.Waited) != 1 {
		t.Errorf("%d run, %d jobs, %v waited", tail.running, len(tail.jobs), tail.second.Waited)
	}
	tail.see("execute", one)
	if j := tail.jobs[jobKey{"default", "s", "early"}]; j == nil || j.State() != "succeeded" {
		t.Errorf("its end must be known, got %+v", j)
	}
	tail.settled = time.Now()
	one.Job = "late"
	tail.see("checkout", one)
	if tail.running != 1 {
		t.Errorf("%d run, must be 1", tail.running)
	}
}

func TestAJobThatRunsIsShownThoughManyCameSince(t *testing.T) {
	tail := begun()
	one := attemptEvent{At: noon, Host: "h1", Session: "s", Job: "long", Command: "predict", Attempt: 1, Worker: "h1/0"}
	tail.see("checkout", one)
	for i := range 3 * mostJobs {
		other := attemptEvent{At: noon.Add(time.Second), Host: "h1", Session: "t", Job: fmt.Sprint("j", i), Attempt: 1, Worker: "h1/0"}
		tail.see("checkout", other)
		tail.see("execute", other)
	}
	v := tail.ofWorker("h1/0", noon.Add(time.Minute))
	if len(v.Running) != 1 || v.Running[0].Job != "long" || v.Running[0].Command != "predict" {
		t.Errorf("it must run, got %+v", v.Running)
	}
	delete(tail.jobs, jobKey{"default", "s", "long"})
	if v := tail.ofWorker("h1/0", noon.Add(time.Minute)); len(v.Running) != 1 || v.Running[0].For != time.Minute {
		t.Errorf("without what is kept of it: %+v", v.Running)
	}
}

func TestWhatIsKeptOfAttemptsIsBounded(t *testing.T) {
	tail := begun()
	for i := range 20_000 {
		e := attemptEvent{At: noon.Add(time.Duration(i) * time.Millisecond), Host: "h1", Session: fmt.Sprint("s", i), Job: fmt.Sprint("j", i), Attempt: 1, Worker: fmt.Sprint("h1/", i), Duration: 1}
		tail.see("checkout", e)
		if i%2 == 0 {
			e.Category, e.Code = "timeout", "late"
			tail.see("error", e)
		}
	}
	one := attemptEvent{Host: "h1", Session: "one", Job: "one", Worker: "h1/0"}
	for i := range 1000 {
		one.Attempt = i
		tail.see("checkout", one)
	}
	if n := len(tail.jobs); n > mostJobs+mostFailed {
		t.Errorf("%d jobs", n)
	}
	if n := len(tail.sessions); n > mostSessions || tail.recent.Len() != n {
		t.Errorf("%d sessions, %d of them in order", n, tail.recent.Len())
	}
	if n := len(tail.workers); n > mostWorkers {
		t.Errorf("%d workers", n)
	}
	if tail.running > mostRunning {
		t.Errorf("%d run", tail.running)
	}
	if n := len(tail.jobs[jobKey{"default", "one", "one"}].Attempts); n != mostAttempts {
		t.Errorf("%d attempts of one job", n)
	}
	if s := tail.take(); len(s.Waited) > mostValues || s.Errors != 10_000 {
		t.Errorf("%d durations, %d errors", len(s.Waited), s.Errors)
	}
	failed, more := tail.list(func(t *track) bool { return t.State() == "failed" }, 0, 10)
	if len(failed) != 10 || !more || failed[0].Job != "j19998" {
		t.Errorf("%+v", failed)
	}
}

func TestASessionThatRunsElsewhereHasMoved(t *testing.T) {
	tail := begun()
	for i, worker := range []string{"h1/0", "h1/0", "h1/1", "h2/0"} {
		tail.see("checkout", attemptEvent{At: noon, Host: worker[:2], Session: "s", Job: fmt.Sprint(i), Attempt: 1, Worker: worker})
		tail.see("execute", attemptEvent{At: noon, Host: worker[:2], Session: "s", Job: fmt.Sprint(i), Attempt: 1, Worker: worker})
	}
	chips := tail.recentSessions(func(*sessionTrack) bool { return true }, 10)
	switch {
	case len(chips) != 1:
		t.Errorf("len(chips) must be 1, got %v; %+v", len(chips), chips)
	case chips[0].Moves != 2:
		t.Errorf("chips[0].Moves must be 2, got %v; %+v", chips[0].Moves, chips)
	case chips[0].Host != "h2":
		t.Errorf(`chips[0].Host must be "h2", got %v; %+v`, chips[0].Host, chips)
	case chips[0].Worker != "h2/0":
		t.Errorf(`chips[0].Worker must be "h2/0", got %v; %+v`, chips[0].Worker, chips)
	case chips[0].State != "idle":
		t.Errorf(`chips[0].State must be "idle", got %v; %+v`, chips[0].State, chips)
	}
	places := mapOf(withListed(chips, []dspex.SessionInfo{{ID: "s", Host: "h2"}, {ID: "cold", Host: "h1", Worker: "h2/0"}, {ID: "nowhere"}}, "default"), []dspex.HostInfo{{Host: "h1"}, {Host: "h2"}})
	var got []string
	for _, p := range places {
		for _, s := range p.Spots {
			for _, c := range s.Chips {
				got = append(got, p.Host+" "+s.Worker+" "+c.ID)
			}
		}
	}
	if text := strings.Join(got, "; "); text != "h1  cold; h2 h2/0 s;   nowhere" {
		t.Errorf("%q", text)
	}
}

func TestAnEndThatWasMissedIsFoundByASecondLook(t *testing.T) {
	tail := begun()
	for i := range 20 {
		tail.see("checkout", attemptEvent{At: noon, Host: "h1", Session: "s", Job: fmt.Sprint(i), Attempt: 1, Worker: "h1/0"})
	}
	if found := tail.suspects(noon.Add(longRun)); len(found) != 0 {
		t.Errorf("too early: %v", found)
	}
	later := noon.Add(longRun + time.Second)
	first, second := tail.suspects(later), tail.suspects(later)
	if len(first) != lookedAtOnce || len(second) != lookedAtOnce || first[0] == second[0] {
		t.Errorf("%v, %v", first, second)
	}
	for _, key := range append(first, second...) {
		tail.ended(key, &dspex.Error{Category: dspex.ErrTimeout, Code: "late"})
	}
	if left := tail.suspects(later); len(left) != 4 {
		t.Errorf("left: %v", left)
	}
	if tail.running != 4 || len(tail.looked) != 4 || tail.jobs[first[0]].State() != "failed" {
		t.Errorf("%d run, %d looked at", tail.running, len(tail.looked))
	}
}

func TestATimelineHasTheWaitsBetweenAttempts(t *testing.T) {
	at := func(ms int) time.Time { return noon.Add(time.Duration(ms) * time.Millisecond) }
	for _, row := range []struct {
		name     string
		attempts []attempt
		queued   time.Duration
		from     time.Time
		want     string
	}{
		{"one that ran", []attempt{{Number: 1, Ran: 30}}, 200 * time.Millisecond, time.Time{}, "waited 200 ms, attempt 1 ran 30 ms"},
		{"a failure and a success", []attempt{{Number: 1, Ran: 50, At: at(100), Category: "timeout"}, {Number: 2, Ran: 100, At: at(400)}}, 0, noon, "waited 50 ms, attempt 1 failed 50 ms, waited 200 ms, attempt 2 ran 100 ms"},
		{"a failure at once", []attempt{{Number: 1, At: at(10), Category: "timeout"}}, 0, noon, "waited 10 ms, attempt 1 failed"},
		{"one that runs", []attempt{{Number: 1, At: at(500), Running: true, Waited: 20}}, 0, time.Time{}, "waited 20 ms, attempt 1 running 500 ms"},
	} {
		t.Run(row.name, func(t *testing.T) {
			line := lineOf(pieces(row.attempts, row.queued, row.from, at(1000)))
			var labels []string
			width := 0
			for _, b := range line.Bars {
				labels, width = append(labels, b.Label), width+b.W
			}
			if got := strings.Join(labels, ", "); got != row.want {
				t.Errorf("got %q, expected %q", got, row.want)
			}
			if width < 990 || width > 1000 {
				t.Errorf("%d thousandths wide", width)
			}
		})
	}
}

func TestTheSentenceIsWhatMattersMost(t *testing.T) {
	healthy := dspex.Health{Status: dspex.HealthHealthy}
	degraded := dspex.Health{Status: dspex.HealthDegraded, Reasons: []string{"a host does not answer", "a clock is off"}}
	open := []dspex.Breaker{{Name: "lm.gpt", State: dspex.BreakerOpen, RetryIn: 42 * time.Second}}
	for _, row := range []struct {
		name         string
		now          insight.Sample
		level, words string
	}{
		{"no pool", insight.Sample{Sick: &dspex.Error{Message: "no worker serves"}, Breakers: open}, bad, "No worker serves."},
		{"an error of another kind", insight.Sample{Sick: errors.New("x")}, bad, "X."},
		{"a breaker before other reasons", insight.Sample{Health: degraded, Breakers: open}, bad, "The circuit breaker lm.gpt is open"},
		{"partitions without owner", insight.Sample{Health: degraded, Hosts: dspex.Hosts{Unassigned: 3, Partitions: 64}}, bad, "3 of 64 partitions have no owner"},
		{"the first reason", insight.Sample{Health: degraded}, warning, "A host does not answer."},
		{"no reasons for a tenant", insight.Sample{Health: dspex.Health{Status: dspex.HealthDegraded}}, warning, "something is missing"},
		{"nothing", insight.Sample{Health: healthy}, good, "Everything works"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := headlineOf(row.now, true, &series{})
			if s.level != row.level || !strings.Contains(s.text, row.words) {
				t.Errorf("%s: %s", s.level, s.text)
			}
		})
	}
	leads := dspex.Health{Status: dspex.HealthDegraded, Reasons: []string{"a partition has no live owner", "the dispatcher d1 leads but assigns nothing"}}
	if s := headlineOf(insight.Sample{Health: leads, Hosts: dspex.Hosts{Unassigned: 64, Partitions: 64}}, true, &series{}); s.advice != "The dispatcher d1 leads but assigns nothing." {
		t.Errorf("a leader that assigns nothing must be named, got %+v", s)
	}
	if s := headlineOf(insight.Sample{Health: healthy}, true, &series{busy: []float64{8}, capacity: []float64{8}, working: []float64{30}}); s.level != warning || !strings.Contains(s.text, "All 8 slots are busy") {
		t.Errorf("full: %+v", s)
	}
}

func TestAGraphFillsItsPicture(t *testing.T) {
	if got := curve([]float64{0, 10}, 10); got != "M238 59L240 3" {
		t.Errorf("%q", got)
	}
	if got := curve([]float64{0, 0}, 0); got != "M238 59L240 59" {
		t.Errorf("nothing: %q", got)
	}
	if got := curve([]float64{1}, 1); got != "" {
		t.Errorf("one value: %q", got)
	}
}

func TestNumbersAreReadable(t *testing.T) {
	for want, got := range map[string]string{"1,234,567": count(1234567), "999": count(999), "-1,000": count(-1000), "–": milliseconds(0), "< 0.1 ms": milliseconds(0.01), "2.5 ms": milliseconds(2.5), "18 ms": milliseconds(18.2), "2.5 s": milliseconds(2500), "2m05s": milliseconds(125_000)} {
		if got != want {
			t.Errorf("got %q, expected %q", got, want)
		}
	}
}

func TestADifferenceNamesWhatChanged(t *testing.T) {
	l := dspex.DeadLetterDetails{DeadLetter: dspex.DeadLetter{Attempts: 3, Category: dspex.ErrTimeout, Code: "late", Message: "m"}}
	changed := map[string]bool{}
	for _, d := range differences(l, dspex.Job{Status: dspex.JobSucceeded, Attempts: 1, Reply: &dspex.Reply{Worker: "h1/0"}}) {
		changed[d.What] = d.Changed
	}
	for what, want := range map[string]bool{"Outcome": true, "Attempts": true, "Error": true, "Worker": true, "Exception": false} {
		if changed[what] != want {
			t.Errorf("%s: %v", what, changed[what])
		}
	}
}
