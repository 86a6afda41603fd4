package sim

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/wire"
)

// forge is a faultless history of two turns, one of which needed two attempts, to be falsified.
func forge(t *testing.T) *history {
	h := newHistory(4)
	at := time.Duration(0)
	add := func(e event) {
		at += 10 * time.Millisecond
		e.at, e.session, e.who = at, "s", "h0.1"
		h.all = append(h.all, e)
	}
	turn := func(seq uint64, job string, attempts int, saw ...string) {
		add(event{kind: stored, seq: seq, job: job, request: []byte(`{"command":"append","options":{"max_retries":1}}`)})
		add(event{kind: accepted, seq: seq, job: job})
		for n := 1; n <= attempts; n++ {
			add(event{kind: began, job: job, attempt: n})
			add(event{kind: ended, job: job, attempt: n})
			if n < attempts {
				add(event{kind: attemptRecorded, seq: seq, attempt: n, notBefore: h.start.Add(at + 15*time.Millisecond)})
			}
		}
		list, err := wire.Encode(append(slices.Clone(saw), job))
		if err != nil {
			t.Fatal(err)
		}
		body := string((&jobs.Reply{Job: job, Attempt: attempts, Session: "s", State: jobs.Warm, Result: list}).Append(nil))
		last := &jobs.Outcome{Job: job, Sequence: seq, Kind: jobs.Succeeded}
		add(event{kind: committed, seq: seq, job: job, epoch: 5, attempt: attempts, body: body, record: &jobs.Record{Last: last, Updated: h.start.Add(at)}})
		add(event{kind: resulted, seq: seq, job: job, attempt: attempts, body: body, text: "succeeded", result: &jobs.Result{Kind: jobs.Succeeded}})
		add(event{kind: answered, job: job, body: body})
	}
	turn(1, "a", 1)
	turn(2, "b", 2, "a")
	return h
}

// find returns the nth event of a kind.
func (h *history) find(k kind, nth int) *event {
	for i := range h.all {
		if h.all[i].kind == k {
			if nth--; nth < 0 {
				return &h.all[i]
			}
		}
	}
	panic("the forged history has no such event")
}

func (h *history) drop(k kind, nth int) {
	e := h.find(k, nth)
	h.all = slices.DeleteFunc(h.all, func(o event) bool { return o.at == e.at })
}

func TestTheCheckersAcceptAFaultlessHistory(t *testing.T) {
	if bad := check(forge(t), time.Hour); len(bad) > 0 {
		t.Error(strings.Join(bad, "\n"))
	}
}

func TestTheCheckersCatchForgeries(t *testing.T) {
	for name, c := range map[string]struct {
		falsify func(h *history)
		want    string
	}{
		"the arguments that were uploaded are gone": {func(h *history) {
			e := *h.find(accepted, 0)
			e.kind, e.at = uploaded, e.at-5*time.Millisecond
			h.all = append(h.all, e)
			h.find(answered, 0).text = jobs.CodeObjectUnknown
		}, "has not found the arguments"},
		"an outcome is lost":           {func(h *history) { h.drop(resulted, 1); h.drop(answered, 1) }, "has no outcome"},
		"an outcome changes":           {func(h *history) { e := *h.find(resulted, 0); e.text = "failed"; h.all = append(h.all, e) }, "two outcomes"},
		"an answer is no outcome":      {func(h *history) { h.find(answered, 0).body = h.find(answered, 1).body }, "something else than its outcome"},
		"an answer to another payload": {func(h *history) { e := h.find(answered, 0); e.asked, e.list = "x", []string{"a#1"} }, "of another payload"},
		"a result without a commit":    {func(h *history) { h.drop(committed, 1) }, "without a commit"},
		"a commit comes twice":         {func(h *history) { e := *h.find(committed, 1); e.attempt, e.body = 1, "x"; h.all = append(h.all, e) }, "committed twice"},
		"commits change places": {func(h *history) {
			e := h.find(committed, 0)
			e.seq, e.record.Last.Sequence = 3, 3
		}, "is committed after"},
		"an old epoch commits":    {func(h *history) { h.find(committed, 1).epoch = 4 }, "commits after epoch"},
		"a turn is forgotten":     {func(h *history) { h.find(committed, 1).body = h.find(committed, 0).body }, "committed were"},
		"a reset is invented":     {func(h *history) { h.find(committed, 1).body = resetBody(t) }, "says reset"},
		"an attempt starts twice": {func(h *history) { h.find(began, 2).attempt = 1 }, "starts twice"},
		"one attempt too many":    {func(h *history) { e := *h.find(began, 2); e.attempt = 3; h.all = append(h.all, e) }, "the job allows 2"},
		"a job overtakes":         {func(h *history) { h.find(began, 1).at = h.find(began, 0).at }, "before a (sequence 1) has ended"},
		"a retry does not wait":   {func(h *history) { h.find(began, 2).at -= 11 * time.Millisecond }, "not before"},
		"a job expires early": {func(h *history) {
			m, r := h.find(stored, 1), h.find(resulted, 1)
			m.header, r.result.Kind = nats.Header{jobs.HeaderDeadline: {"1000"}}, jobs.Expired
		}, "its deadline is 1s"},
		"a client waits for ever":            {func(h *history) { h.all = append(h.all, event{kind: stuck, who: "c0", text: "op 1"}) }, "waits for ever"},
		"a job is left":                      {func(h *history) { h.all = append(h.all, event{kind: final, text: "1 jobs on dspex.p.0.s"}) }, "at the end"},
		"a dead letter from nowhere":         {func(h *history) { h.all = append(h.all, event{kind: deadLetter, text: "s.2"}) }, "dead letters, want 0"},
		"a dead-lettered job without letter": {func(h *history) { h.find(committed, 0).record.Last.DeadLettered = true }, "dead letters, want 1"},
		"an accepted job is not there":       {func(h *history) { h.drop(stored, 0) }, "never stored"},
		"one of two that belong together is stored": {func(h *history) {
			h.all = append(h.all, event{kind: together, session: "s", job: "a", text: "s_pair"})
		}, "one is stored"},
		"a conflict without reason": {func(h *history) { h.find(answered, 0).text = jobs.CodeConflict }, "has one payload"},
		"an accepted job is unknown": {func(h *history) {
			h.all = append(h.all, event{kind: lookedUp, session: "s", job: "a", text: jobs.CodeJobUnknown})
		}, "does not know it"},
	} {
		t.Run(name, func(t *testing.T) {
			h := forge(t)
			c.falsify(h)
			if bad := strings.Join(check(h, time.Hour), "\n"); !strings.Contains(bad, c.want) {
				t.Errorf("want %q among:\n%s", c.want, bad)
			}
		})
	}
}

func TestTheCheckersCatchForgedPrograms(t *testing.T) {
	for name, c := range map[string]struct {
		falsify func(h *history)
		want    string
	}{
		"nothing":                       {func(*history) {}, ""},
		"a version comes twice":         {func(h *history) { h.find(pushed, 1).seq = 1 }, "has version 1 after 1"},
		"a worker goes back":            {func(h *history) { h.find(began, 4).program = "one" }, "before what it knew"},
		"a worker forgets":              {func(h *history) { h.find(began, 4).program = "" }, "forgets the program"},
		"a program from nowhere":        {func(h *history) { h.find(began, 4).program = "other" }, "was not stored"},
		"the next job does not find it": {func(h *history) { h.find(began, 3).program = "one" }, "was pushed there before"},
		"a host never finds it":         {func(h *history) { h.find(began, 5).program = "one" }, "in the end"},
	} {
		t.Run(name, func(t *testing.T) {
			h := forgePrograms()
			c.falsify(h)
			checks := &checker{h: h}
			checks.programsFollow()
			if bad := strings.Join(checks.bad, "\n"); !strings.Contains(bad, c.want) || c.want == "" && bad != "" {
				t.Errorf("want %q among:\n%s", c.want, bad)
			}
		})
	}
}

// forgePrograms is a faultless history of two pushes on one host, a job after each, and one of another host in the end.
func forgePrograms() *history {
	h := newHistory(4)
	run := func(who, session, job, program string) {
		h.all = append(h.all, event{kind: stored, session: session, job: job}, event{kind: began, who: who, text: "0", session: session, job: job, program: program})
	}
	for n, x := range []string{"one", "two"} {
		run("h0.1", "", x, []string{"", "one"}[n])
		h.all = append(h.all, event{kind: pushed, text: x, seq: uint64(n + 1)}, event{kind: answered, job: x, asked: x})
		run("h0.1", "s", "after-"+x, x)
	}
	h.all = append(h.all, event{kind: looked})
	run("h0.1", "s", "look", "two")
	run("h1.1", "r", "look", "two")
	for n := range h.all {
		h.all[n].at = time.Duration(n+1) * time.Millisecond
	}
	return h
}

func resetBody(t *testing.T) string {
	list, err := wire.Encode([]string{"b"})
	if err != nil {
		t.Fatal(err)
	}
	return string((&jobs.Reply{Job: "b", Attempt: 2, Session: "s", State: jobs.Reset, Result: list}).Append(nil))
}

// TestWhatWasLostWithTheStreamIsAReasonForAConflict: repeats of an id that were answered before, one of them with another payload.
func TestWhatWasLostWithTheStreamIsAReasonForAConflict(t *testing.T) {
	h := forge(t)
	first := *h.find(stored, 0)
	at := h.all[len(h.all)-1].at
	for n, request := range []string{string(first.request), `{"command":"other"}`} {
		again := first
		at += 10 * time.Millisecond
		again.at, again.seq, again.request = at, uint64(3+n), []byte(request)
		h.all = append(h.all, again)
	}
	h.all = append(h.all, event{kind: answered, session: "s", job: "a", at: at + time.Millisecond, text: jobs.CodeConflict},
		event{kind: lost, who: "broker", at: at + 2*time.Millisecond, text: stores[jobsLost]})
	if bad := check(h, time.Hour); len(bad) > 0 {
		t.Error(strings.Join(bad, "\n"))
	}
}
