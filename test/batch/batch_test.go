// Package batch tests batches against whole deployments without Python.
package batch

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/dspextest"
)

const patience = 3 * time.Minute

// questions are n jobs: every third one without a session, the others in four.
func questions(n int) iter.Seq2[dspex.BatchJob, error] {
	return func(yield func(dspex.BatchJob, error) bool) {
		for i := range n {
			j := dspex.BatchJob{ID: fmt.Sprintf("row-%d", i), Command: "predict", Args: dspex.Args{"question": fmt.Sprintf("question %d", i)}}
			if i%3 > 0 {
				j.Session = fmt.Sprintf("s%d", i%4)
			}
			if !yield(j, nil) {
				return
			}
		}
	}
}

// these are a few jobs.
func these(all ...dspex.BatchJob) iter.Seq2[dspex.BatchJob, error] {
	return func(yield func(dspex.BatchJob, error) bool) {
		for _, j := range all {
			if !yield(j, nil) {
				return
			}
		}
	}
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// code is the code of an error of dspex.
func code(err error) string {
	if e, is := errors.AsType[*dspex.Error](err); is {
		return e.Code
	}
	return ""
}

// collect reads all results that are there.
func collect(t *testing.T, c *dspex.Client, id string, q dspex.BatchQuery) (all []dspex.BatchResult) {
	t.Helper()
	for r, err := range c.BatchResults(bounded(t), id, q) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

func run(t *testing.T, c *dspex.Client, id string, jobs iter.Seq2[dspex.BatchJob, error], opts ...dspex.BatchOption) dspex.Batch {
	t.Helper()
	if _, err := c.SubmitBatch(bounded(t), id, jobs, opts...); err != nil {
		t.Fatal(err)
	}
	b, err := c.WaitBatch(bounded(t), id)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestBatches are claims about one deployment.
func TestBatches(t *testing.T) {
	c := dspextest.Start(t, dspextest.WithMode(dspextest.MockAdapter)).Client()
	for name, claim := range map[string]func(*testing.T, *dspex.Client){
		"one outcome for each job, in their order":                        whole,
		"twice is one run, and other jobs under its id are a conflict":    twice,
		"each bad job is named, and nothing runs unless they are skipped": badJobs,
		"a line that cannot be read is named, too":                        badLines,
		"submitted together they run once, however often that is":         together,
		"an erased batch is gone, and its id is free again":               erased,
	} {
		t.Run(name, func(t *testing.T) { claim(t, c) })
	}
}

// together submits jobs all or none, twice: as after an answer that did not come.
func together(t *testing.T, c *dspex.Client) {
	var all []dspex.NewJob
	for i := range 400 {
		all = append(all, dspex.NewJob{Session: fmt.Sprintf("together%d", i%4), Command: "predict", Args: dspex.Args{"question": fmt.Sprintf("question %d", i)},
			Options: []dspex.SubmitOption{dspex.WithJobID(fmt.Sprintf("t-%d", i))}})
	}
	var accepted []dspex.JobRef
	for range 2 {
		var err error
		if accepted, err = c.SubmitAll(bounded(t), all); err != nil {
			t.Fatal(err)
		}
		for i, job := range accepted {
			if job.Session != all[i].Session || job.ID != fmt.Sprintf("t-%d", i) {
				t.Fatalf("job %d is %v", i, job)
			}
			if reply, err := c.Wait(bounded(t), job); err != nil || reply.Attempt != 1 || reply.Job != job {
				t.Fatalf("job %d: %+v, %v", i, reply, err)
			}
		}
	}
	for s := range 4 {
		if info, err := c.Admin().GetSession(bounded(t), fmt.Sprintf("together%d", s)); err != nil || info.Operations != 100 {
			t.Errorf("session %d has run %d jobs, want 100: %v", s, info.Operations, err)
		}
	}
	var invalid *dspex.InvalidJobsError
	all[7].Options = []dspex.SubmitOption{dspex.WithJobID("q7")}
	all[9] = dspex.NewJob{Raw: []byte(`{"command": `)}
	if _, err := c.SubmitAll(bounded(t), all); !errors.As(err, &invalid) || len(invalid.Invalid) != 2 {
		t.Fatalf("with jobs that this client refuses: %v", err)
	}
	if first, second := invalid.Invalid[0].Index, invalid.Invalid[1].Index; first != 7 || second != 9 {
		t.Errorf("this client must refuse jobs 7 and 9, got %d and %d", first, second)
	}
	all[7] = dspex.NewJob{Session: "together0", Command: "predict", Options: []dspex.SubmitOption{dspex.WithJobID("t-0")}}
	all[9] = dspex.NewJob{Raw: []byte(`{"job": "t-9", "session": "together1", "command": 7}`)}
	if _, err := c.SubmitAll(bounded(t), all); !errors.As(err, &invalid) || len(invalid.Invalid) != 2 {
		t.Fatalf("with jobs that the service refuses: %v", err)
	}
	if code := invalid.Invalid[0].Err.Code; code != "bad_job_id" {
		t.Errorf("the first must be refused with bad_job_id, got %s", code)
	}
	if path := invalid.Invalid[1].Err.Path; path != "command" {
		t.Errorf("the second must be refused at command, got %s", path)
	}
	if _, err := c.SubmitAll(bounded(t), make([]dspex.NewJob, 1001)); code(err) != "bad_request" {
		t.Errorf("1,001 jobs: %v", err)
	}
}

func whole(t *testing.T, c *dspex.Client) {
	const n = 300
	b := run(t, c, "whole", questions(n))
	if b.Jobs != n || b.Outcomes.Succeeded != n || b.ExpiresAt.Sub(b.EndedAt) != 7*24*time.Hour {
		t.Fatalf("the batch is %s", b.Raw)
	}
	all := collect(t, c, "whole", dspex.BatchQuery{})
	if len(all) != n {
		t.Fatalf("%d results, want %d", len(all), n)
	}
	for i, r := range all {
		switch {
		case r.Index != i:
			t.Fatalf("r.Index: got %v, want %v; result %d is %s", r.Index, i, i, r.Raw)
		case r.ID != fmt.Sprintf("row-%d", i):
			t.Fatalf(`r.ID: got %v, want %v; result %d is %s`, r.ID, fmt.Sprintf("row-%d", i), i, r.Raw)
		case r.Status != dspex.JobSucceeded:
			t.Fatalf("r.Status must be dspex.JobSucceeded, got %v; result %d is %s", r.Status, i, r.Raw)
		case r.Reply == nil:
			t.Fatalf("r.Reply must not be nil; result %d is %s", i, r.Raw)
		case r.Err != nil:
			t.Fatalf("r.Err must be nil, got %v; result %d is %s", r.Err, i, r.Raw)
		}
	}
}

func twice(t *testing.T, c *dspex.Client) {
	first := run(t, c, "twice", questions(150))
	again, err := c.SubmitBatch(bounded(t), "twice", questions(150))
	if err != nil {
		t.Fatal(err)
	}
	if !again.Again || again.Digest != first.Digest || !again.SubmittedAt.Equal(first.SubmittedAt) {
		t.Fatalf("the second submission is %s, the first was %s", again.Raw, first.Raw)
	}
	for name, other := range map[string]iter.Seq2[dspex.BatchJob, error]{
		"fewer": questions(128), "more": questions(300), "other": these(dspex.BatchJob{Command: "ping"}),
	} {
		if _, err := c.SubmitBatch(bounded(t), "twice", other); code(err) != "conflict" {
			t.Errorf("%s jobs: %v, want a conflict", name, err)
		}
	}
	if got := collect(t, c, "twice", dspex.BatchQuery{}); len(got) != 150 {
		t.Fatalf("%d results are left of 150", len(got))
	}
}

func badJobs(t *testing.T, c *dspex.Client) {
	jobs := func() iter.Seq2[dspex.BatchJob, error] {
		return func(yield func(dspex.BatchJob, error) bool) {
			i := 0
			for j := range questions(300) {
				switch i {
				case 3:
					j.Options = map[string]any{"timeout": "soon"}
				case 200:
					j.Session = "not a session"
				}
				if i++; !yield(j, nil) {
					return
				}
			}
		}
	}
	_, err := c.SubmitBatch(bounded(t), "bad", jobs())
	var invalid *dspex.InvalidJobsError
	if !errors.As(err, &invalid) || len(invalid.Invalid) != 2 {
		t.Fatalf("the error is %v, want two bad jobs", err)
	}
	if i := invalid.Invalid[0]; i.Index != 3 || i.Err.Code != "bad_option" || i.Err.Path != "options.timeout" {
		t.Errorf("the first is %d: %v", i.Index, i.Err)
	}
	if i := invalid.Invalid[1]; i.Index != 200 || i.Err.Code != "bad_session_id" {
		t.Errorf("the second is %d: %v", i.Index, i.Err)
	}
	b := run(t, c, "bad", jobs(), dspex.BatchSkipInvalid())
	switch {
	case b.Outcomes.Succeeded != 298:
		t.Fatalf("b.Outcomes.Succeeded must be 298, got %v; the batch is %s", b.Outcomes.Succeeded, b.Raw)
	case b.Outcomes.Failed != 2:
		t.Fatalf("b.Outcomes.Failed must be 2, got %v; the batch is %s", b.Outcomes.Failed, b.Raw)
	case b.Errors["bad_option"] != 1:
		t.Fatalf(`b.Errors["bad_option"] must be 1, got %v; the batch is %s`, b.Errors["bad_option"], b.Raw)
	case b.Errors["bad_session_id"] != 1:
		t.Fatalf(`b.Errors["bad_session_id"] must be 1, got %v; the batch is %s`, b.Errors["bad_session_id"], b.Raw)
	}
	failed := collect(t, c, "bad", dspex.BatchQuery{Outcomes: []dspex.JobStatus{dspex.JobFailed}})
	switch {
	case len(failed) != 2:
		t.Fatalf("len(failed) must be 2, got %v; the failed ones are %v", len(failed), failed)
	case failed[1].Index != 200:
		t.Fatalf("failed[1].Index must be 200, got %v; the failed ones are %v", failed[1].Index, failed)
	case code(failed[1].Err) != "bad_session_id":
		t.Fatalf(`code(failed[1].Err) must be "bad_session_id", got %v; the failed ones are %v`, code(failed[1].Err), failed)
	case failed[1].Attempts != 0:
		t.Fatalf("failed[1].Attempts must be 0, got %v; the failed ones are %v", failed[1].Attempts, failed)
	}
}

func badLines(t *testing.T, c *dspex.Client) {
	fine := `{"command": "predict", "args": {"question": "q"}}`
	var jobs []dspex.BatchJob
	for _, line := range []string{fine, `{"command": `, fine, `{"command": "ping", "command": "ping"}`, `[]`, "{\"command\": \"p\xff\"}", `{"command": "ping", "args": {"n": 1e999}}`, fine} {
		jobs = append(jobs, dspex.BatchJob{Raw: []byte(line)})
	}
	_, err := c.SubmitBatch(bounded(t), "lines", these(jobs...))
	var invalid *dspex.InvalidJobsError
	if !errors.As(err, &invalid) {
		t.Fatalf("the error is %v", err)
	}
	var bad []int
	for _, i := range invalid.Invalid {
		bad = append(bad, i.Index)
		t.Log(i.Index, i.Err)
	}
	if !slices.Equal(bad, []int{1, 3, 4, 5, 6}) {
		t.Fatalf("the bad ones are %v", bad)
	}
	if b := run(t, c, "lines", these(jobs...), dspex.BatchSkipInvalid()); b.Outcomes.Succeeded != 3 || b.Outcomes.Failed != 5 {
		t.Fatalf("the batch is %s", b.Raw)
	}
}

func TestACancelledBatchRunsNothingMoreAndAnswersForEachJob(t *testing.T) {
	slow := dspextest.Rule{Command: "predict", Latency: time.Hour}
	c := dspextest.Start(t, dspextest.WithMode(dspextest.MockAdapter), dspextest.WithScenario(slow)).Client()
	if _, err := c.SubmitBatch(bounded(t), "stop", questions(1000), dspex.BatchConcurrency(10)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CancelBatch(bounded(t), "stop"); err != nil {
		t.Fatal(err)
	}
	b, err := c.WaitBatch(bounded(t), "stop")
	if err != nil {
		t.Fatal(err)
	}
	if b.Outcomes.Cancelled != 1000 {
		t.Fatalf("the batch is %s", b.Raw)
	}
	all := collect(t, c, "stop", dspex.BatchQuery{})
	if len(all) != 1000 || slices.ContainsFunc(all, func(r dspex.BatchResult) bool { return r.Status != dspex.JobCancelled || code(r.Err) != "cancelled" }) {
		t.Fatalf("%d results, want 1000 that are cancelled", len(all))
	}
}

func TestAFailureOfABatchWithoutAnIdTellsTheIdThatItHas(t *testing.T) {
	c := dspextest.Start(t, dspextest.WithMode(dspextest.MockAdapter)).Client()
	cut := errors.New("the file ends here")
	jobs := func(yield func(dspex.BatchJob, error) bool) {
		for j := range questions(200) {
			if !yield(j, nil) {
				return
			}
		}
		yield(dspex.BatchJob{}, cut)
	}
	_, err := c.SubmitBatch(bounded(t), "", jobs)
	var unclear *dspex.UnclearBatchError
	if !errors.As(err, &unclear) || !errors.Is(err, cut) {
		t.Fatalf("the error is %v", err)
	}
	if b := run(t, c, unclear.ID, questions(200)); b.Outcomes.Succeeded != 200 {
		t.Fatalf("the batch is %s", b.Raw)
	}
}

func erased(t *testing.T, c *dspex.Client) {
	run(t, c, "again", questions(10))
	if _, err := c.EraseBatch(bounded(t), "again"); err != nil {
		t.Fatal(err)
	}
	b := run(t, c, "again", these(dspex.BatchJob{Command: "predict", Args: dspex.Args{"question": "another"}}))
	if b.Again || b.Jobs != 1 || b.Outcomes.Succeeded != 1 {
		t.Fatalf("the batch is %s", b.Raw)
	}
	if _, err := c.GetBatch(bounded(t), "never"); code(err) != "batch_unknown" {
		t.Fatalf("a batch that never was: %v", err)
	}
	var ids []string
	for b, err := range c.Batches(bounded(t)) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, b.ID)
	}
	if len(ids) == 0 || ids[0] != "again" || slices.Contains(ids[1:], "again") {
		t.Fatalf("the list is %v", ids)
	}
}
