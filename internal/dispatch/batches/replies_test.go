package batches

import (
	"testing"

	"github.com/dspex/dspex/internal/batch"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/wire"
)

// reply is one of a host.
func reply(job string, bad *jobs.Error) []byte {
	r := jobs.Reply{Job: job, Attempt: 2, Session: "s", Host: "h", Result: wire.AppendStr(nil, "x"), Err: bad}
	return r.Append(nil)
}

func TestOnlyTheReplyOfAJobThatHasSucceededIsItsOutcome(t *testing.T) {
	job := batch.JobID("k", 7)
	part := wire.AppendStr(wire.AppendStr(wire.AppendMap(nil, 1), "chunk"), "half")
	for name, c := range map[string]struct {
		data      []byte
		mine, yes bool
	}{
		"its own":               {reply(job, nil), true, true},
		"that it is pending":    {reply(job, jobs.Errorf(jobs.System, jobs.CodePending, "the outcome is not stored yet")), true, false},
		"that it has failed":    {reply(job, jobs.Errorf(jobs.Python, "boom", "boom")), true, false},
		"another job's":         {reply(batch.JobID("k", 8), nil), false, false},
		"a part of the output":  {part, false, false},
		"empty":                 {nil, false, false},
		"what is no reply":      {[]byte(`{"ok": true}`), false, false},
		"one with more behind":  {append(reply(job, nil), 0xc0), false, false},
		"one without its end":   {reply(job, nil)[:20], false, false},
		"none that has a value": {wire.AppendStr(nil, "ok"), false, false},
	} {
		attempts, mine, yes := success(c.data, job)
		if mine != c.mine {
			t.Errorf("%s: it is the job's: %v, expected %v", name, mine, c.mine)
		}
		if yes != c.yes || yes && attempts != 2 {
			t.Errorf("%s: success is %v with %d attempts, expected %v with 2", name, yes, attempts, c.yes)
		}
	}
}

func TestRepliesThatAreTooManyAreDropped(t *testing.T) {
	r := &runner{key: "k", answers: make(chan happening, 1)}
	for range 3 {
		r.answered("7", reply(batch.JobID("k", 7), nil))
	}
	r.answered("seven", reply(batch.JobID("k", 7), nil))
	if e := (<-r.answers).event.(batch.Replied); e.Index != 7 || e.Ended == nil || len(r.answers) != 0 {
		t.Errorf("got %+v and %d others", e, len(r.answers))
	}
}

func TestPartsOfTheOutputAreNoReplies(t *testing.T) {
	r := &runner{key: "k", answers: make(chan happening, 1)}
	r.answered("7", wire.AppendStr(wire.AppendStr(wire.AppendMap(nil, 1), "chunk"), "half"))
	r.answered("7", nil)
	if len(r.answers) != 0 {
		t.Errorf("got %+v", <-r.answers)
	}
}

func TestAFloodOfRepliesIsTakenInPieces(t *testing.T) {
	r := &runner{answers: make(chan happening, 3*mostEvents)}
	for range cap(r.answers) {
		r.answers <- happening{event: batch.Replied{Index: 7}}
	}
	if n := len(r.takeAll(<-r.answers)); n != mostEvents {
		t.Errorf("%d events are decided about together, expected %d", n, mostEvents)
	}
}
