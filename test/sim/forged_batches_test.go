package sim

import (
	"strings"
	"testing"
	"time"

	"github.com/dspex/dspex/internal/batch"
	"github.com/dspex/dspex/internal/jobs"
)

// forgeBatch is a faultless history of a batch of three jobs of one session, the last of which cannot be run.
func forgeBatch() *history {
	h := newHistory(4)
	key := batch.NewKey()
	bad := string((&jobs.Reply{Err: jobs.Errorf(jobs.Python, jobs.CodeBadOption, "bad")}).Append(nil))
	add := func(e event) {
		e.at, e.label = time.Duration(len(h.all)+1)*10*time.Millisecond, "default/b"
		h.all = append(h.all, e)
	}
	record := func(r batch.Record) {
		r.Key, r.Batch, r.Tenant, r.Jobs = key, "b", jobs.DefaultTenant, 3
		add(event{kind: batched, batch: &r})
	}
	line := batch.Line{Session: "s", Body: []byte{0x80}}
	record(batch.Record{Phase: batch.Uploading})
	add(event{kind: lined, chunk: &batch.Chunk{Lines: []batch.Line{line, line, {Session: "s", Bad: []byte(bad)}}}})
	h.all[1].label = key
	record(batch.Record{Phase: batch.Running})
	add(event{kind: taken})
	record(batch.Record{Phase: batch.Running, Opened: 3})
	p := &batch.Part{}
	for i := range 2 {
		job := batch.JobID(key, i)
		body := string((&jobs.Reply{Job: job, Attempt: 1, Session: "s", State: jobs.Warm}).Append(nil))
		add(event{kind: stored, session: "s", job: job, seq: uint64(i + 1), request: []byte(`{"command":"append"}`)})
		add(event{kind: resulted, session: "s", job: job, seq: uint64(i + 1), attempt: 1, text: "succeeded", body: body, result: &jobs.Result{Kind: jobs.Succeeded}})
		p.Outcomes = append(p.Outcomes, batch.Outcome{Index: i, Kind: jobs.Succeeded, Attempts: 1, Reply: []byte(body)})
	}
	p.Outcomes = append(p.Outcomes, batch.Outcome{Index: 2, Kind: jobs.Failed, Reply: []byte(bad)})
	add(event{kind: parted, part: p})
	h.all[len(h.all)-1].label = key
	record(batch.Record{Phase: batch.Ended, Opened: 3, Stored: 3, Tally: batch.Tally{Succeeded: 2, Failed: 1}, Announced: true})
	add(event{kind: pageRead, session: "s", job: batch.JobID(key, 0), text: "succeeded", body: string(p.Outcomes[0].Reply)})
	return h
}

// checkBatches is what check does about batches alone.
func checkBatches(h *history) string {
	c := &checker{h: h, outcomes: map[string][]event{}, forgot: map[string][]time.Duration{}, first: map[string]event{}}
	c.oneOutcome()
	c.batchesEnd()
	return strings.Join(c.bad, "\n")
}

func TestTheCheckersAcceptAFaultlessBatch(t *testing.T) {
	if bad := checkBatches(forgeBatch()); bad != "" {
		t.Error(bad)
	}
}

func TestTheCheckersCatchForgedBatches(t *testing.T) {
	part := func(h *history) *batch.Part { return h.find(parted, 0).part }
	for name, c := range map[string]struct {
		falsify func(h *history)
		want    string
	}{
		"it does not end":                        {func(h *history) { h.drop(batched, 3) }, "has not ended"},
		"its end is told to nobody":              {func(h *history) { h.find(batched, 3).batch.Announced = false }, "told to nobody"},
		"it is forgotten":                        {func(h *history) { h.find(taken, 0).label = "default/other" }, "has no record"},
		"a job has no outcome":                   {func(h *history) { part(h).Outcomes = part(h).Outcomes[1:] }, "job 0 has 0 outcomes"},
		"a job has two outcomes":                 {func(h *history) { part(h).Outcomes = append(part(h).Outcomes, part(h).Outcomes[0]) }, "job 0 has 2 outcomes"},
		"an outcome is another one than its":     {func(h *history) { part(h).Outcomes[0].Reply = part(h).Outcomes[1].Reply }, "none of its 1 results"},
		"a job is published before it may":       {func(h *history) { h.find(batched, 2).batch.Opened = 1 }, "none from 1 on"},
		"what cannot be run is published":        {func(h *history) { h.find(lined, 0).chunk.Lines[1].Bad = []byte("x") }, "cannot be run"},
		"nobody asked for a cancellation":        {func(h *history) { part(h).Outcomes[0].Reply = batch.CancelledReply() }, "nobody has asked"},
		"what is cancelled by the batch runs":    {cancelledButRun, "was published"},
		"what was not opened has an outcome":     {func(h *history) { h.find(batched, 3).batch.Opened = 2 }, "was not opened"},
		"the record counts wrong":                {func(h *history) { h.find(batched, 3).batch.Tally.Failed = 0 }, "the record counts"},
		"a client reads another outcome":         {func(h *history) { h.find(pageRead, 0).text = "failed" }, "a client read"},
		"a client reads another reply":           {func(h *history) { h.find(pageRead, 0).body = string(batch.CancelledReply()) }, "something else"},
		"a session's jobs change places":         {func(h *history) { h.find(stored, 0).seq = 9 }, "is stored before"},
		"jobs of what was not submitted are run": {func(h *history) { h.drop(batched, 3); h.drop(batched, 2); h.drop(batched, 1) }, "was not submitted"},
	} {
		t.Run(name, func(t *testing.T) {
			h := forgeBatch()
			c.falsify(h)
			if bad := checkBatches(h); !strings.Contains(bad, c.want) {
				t.Errorf("found %q, want %q", bad, c.want)
			}
		})
	}
}

func cancelledButRun(h *history) {
	o := h.find(parted, 0)
	o.part.Outcomes[0].Reply, o.part.Outcomes[0].Kind = batch.CancelledReply(), jobs.Cancelled
	h.all = append(h.all, event{kind: cancels, label: "default/b", at: time.Second})
}
