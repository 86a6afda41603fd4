package procs

import (
	"context"
	"fmt"
	"iter"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/dspex/dspex"
)

// tally makes a batch whose sessions count: each job of one appends its turn to a list. Every fifth job has no session.
func tally(jobs, sessions int) iter.Seq2[dspex.BatchJob, error] {
	return func(yield func(dspex.BatchJob, error) bool) {
		turn := make([]int, sessions)
		for i := range jobs {
			j := dspex.BatchJob{Command: "echo", Args: dspex.Args{"n": i}, Options: map[string]any{"max_retries": 20}}
			if i%5 > 0 {
				s := i % sessions
				j.Session, j.Command, j.Args = fmt.Sprint("counts_", s), "append", dspex.Args{"x": turn[s]}
				turn[s]++
			}
			if !yield(j, nil) {
				return
			}
		}
	}
}

// TestABatchEndsWithOneOutcomeEachWhoeverDies kills client, dispatcher and hosts in the middle. A job that ran twice, was lost or came out of
// order shows in its session's list.
func TestABatchEndsWithOneOutcomeEachWhoeverDies(t *testing.T) {
	const n, sessions = 600, 4
	d := deploy(t)
	dispatcher := d.start("dispatcher", "d1")
	hosts := []*process{d.host("h1"), d.host("h2")}
	for _, p := range append(hosts, dispatcher) {
		p.awaitReady()
	}
	c := d.client()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()

	broken, stop := context.WithCancel(ctx) // a client that dies while it uploads
	if _, err := c.SubmitBatch(broken, "b", tally(n, sessions), dspex.BatchProgress(func(int) { stop() })); err == nil {
		t.Fatal("the upload was not cut off")
	}
	if _, err := c.SubmitBatch(ctx, "b", tally(n, sessions), dspex.BatchConcurrency(16)); err != nil {
		t.Fatal(err)
	}
	done := func(least int) {
		t.Helper()
		for b, err := c.GetBatch(ctx, "b"); b.Done() < least; b, err = c.GetBatch(ctx, "b") {
			if err != nil {
				t.Fatal(err)
			}
			select {
			case <-ctx.Done():
				t.Fatalf("only %d of %d jobs have ended", b.Done(), least)
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	done(n / 8)
	dispatcher.signal(os.Kill)
	hosts[0].signal(os.Kill)
	_ = hosts[0].awaitEnd()
	d.start("dispatcher", "d2").awaitReady()
	done(n / 2)
	d.host("h1").awaitReady()
	hosts[1].signal(os.Kill)
	b, err := c.WaitBatch(ctx, "b")
	if err != nil {
		t.Fatal(err)
	}
	if b.Outcomes.Succeeded != n {
		t.Fatalf("the batch is %s", b.Raw)
	}
	lists, next := map[string][]int{}, 0
	for r, err := range c.BatchResults(ctx, "b", dspex.BatchQuery{}) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Index != next {
			t.Fatalf("result %d follows %d", r.Index, next-1)
		}
		next++
		if r.Job.Session == "" {
			continue
		}
		var got struct{ List []int }
		if err := r.Reply.Decode(&got); err != nil {
			t.Fatal(err)
		}
		list := append(lists[r.Job.Session], len(lists[r.Job.Session]))
		if !slices.Equal(got.List, list) {
			t.Fatalf("job %d of %s: the list is %v, want %v", r.Index, r.Job.Session, got.List, list)
		}
		lists[r.Job.Session] = list
	}
	if next != n {
		t.Fatalf("%d results, want %d", next, n)
	}
}
