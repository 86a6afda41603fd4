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
		data []byte
		yes  bool
	}{
		"its own":               {reply(job, nil), true},
		"that it is pending":    {reply(job, jobs.Errorf(jobs.System, jobs.CodePending, "the outcome is not stored yet")), false},
		"that it has failed":    {reply(job, jobs.Errorf(jobs.Python, "boom", "boom")), false},
		"another job's":         {reply(batch.JobID("k", 8), nil), false},
		"a part of the output":  {part, false},
		"empty":                 {nil, false},
		"what is no reply":      {[]byte(`{"ok": true}`), false},
		"one with more behind":  {append(reply(job, nil), 0xc0), false},
		"one without its end":   {reply(job, nil)[:20], false},
		"none that has a value": {wire.AppendStr(nil, "ok"), false},
	} {
		attempts, yes := success(c.data, job)
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
