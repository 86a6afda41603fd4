package procs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dspex/dspex"
)

// group is a job in each session, with its number as argument.
func group(n, sessions int) (jobs []dspex.NewJob) {
	for s := range sessions {
		jobs = append(jobs, dspex.NewJob{Session: fmt.Sprint("group_", s), Command: "append", Args: dspex.Args{"x": n},
			Options: []dspex.SubmitOption{dspex.WithJobID(fmt.Sprint("g-", n)), dspex.WithMaxRetries(20)}})
	}
	return jobs
}

// stored reports how many jobs of a group are known.
func stored(ctx context.Context, t *testing.T, c *dspex.Client, n, sessions int) (known int) {
	t.Helper()
	for s := range sessions {
		for {
			_, err := c.GetJob(ctx, dspex.JobRef{Session: fmt.Sprint("group_", s), ID: fmt.Sprint("g-", n)})
			e, is := errors.AsType[*dspex.Error](err)
			if err == nil {
				known++
			}
			if err == nil || is && e.Code == "job_unknown" {
				break
			}
			if ctx.Err() != nil {
				t.Fatal(err)
			}
		}
	}
	return known
}

// TestJobsTogetherAreStoredAllOrNoneWhoeverDies kills the broker and the dispatcher while jobs of six sessions are submitted together.
// Every second submission is given up when its answer does not come at once; the others are submitted again until it does. A job that ran
// twice, alone or out of order shows in its session's list.
func TestJobsTogetherAreStoredAllOrNoneWhoeverDies(t *testing.T) {
	const groups, sessions = 160, 6
	b, url := newBroker(t)
	d := &deployment{t: t, url: url}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	dispatcher, host := d.start("dispatcher", "d1"), d.host("h1")
	dispatcher.awaitReady()
	host.awaitReady()
	c := d.client()
	var striking sync.WaitGroup
	var accepted, unclear []int
	for n := range groups {
		switch n % 40 {
		case 15:
			striking.Wait()
			striking.Go(func() { b.kill(); b.start() })
		case 35:
			striking.Wait()
			dispatcher.signal(os.Kill)
			dispatcher = d.start("dispatcher", fmt.Sprint("d", n))
		}
		try, end := ctx, func() {}
		if n%2 == 1 {
			try, end = context.WithTimeout(ctx, 50*time.Millisecond)
		}
		_, err := c.SubmitAll(try, group(n, sessions))
		for err != nil && n%2 == 0 && ctx.Err() == nil {
			_, err = c.SubmitAll(ctx, group(n, sessions))
		}
		end()
		if err == nil {
			accepted = append(accepted, n)
		} else {
			unclear = append(unclear, n)
		}
	}
	striking.Wait()
	kept := 0
	for _, n := range unclear {
		switch known := stored(ctx, t, c, n, sessions); known {
		case 0:
		case sessions:
			accepted = append(accepted, n)
			kept++
		default:
			t.Errorf("of group %d %d jobs are stored, want all %d or none", n, known, sessions)
		}
	}
	t.Logf("of %d groups without an answer %d were stored", len(unclear), kept)
	slices.Sort(accepted)
	for s := range sessions {
		var got struct{ List []int }
		reply, err := c.Execute(ctx, fmt.Sprint("group_", s), "append", dspex.Args{"x": groups}, dspex.WithJobID("last"), dspex.WithMaxRetries(20), dspex.WithDeadline(time.Minute))
		if err == nil {
			err = reply.Decode(&got)
		}
		if err != nil {
			t.Fatal(err)
		}
		if want := append(slices.Clone(accepted), groups); !slices.Equal(got.List, want) {
			t.Errorf("session %d has run %v, want %v", s, got.List, want)
		}
	}
}
