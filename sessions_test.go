package dspex_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dspex/dspex"
)

func TestSessionsAreListedPageByPageUntilTheLimit(t *testing.T) {
	c, _ := start(t)
	list := func(f dspex.SessionFilter, most int) (ids []string) {
		for s, err := range c.Admin().Sessions(t.Context(), f) {
			if err != nil {
				t.Fatal(err)
			}
			if ids = append(ids, s.ID); len(ids) == most {
				break
			}
		}
		return ids
	}
	if got := list(dspex.SessionFilter{Prefix: "a_"}, 0); !slices.Equal(got, []string{"a_1", "a_2", "a_3", "a_4", "a_5"}) {
		t.Errorf("all: %v", got)
	}
	if got := list(dspex.SessionFilter{Prefix: "a_", Limit: 3}, 0); !slices.Equal(got, []string{"a_1", "a_2", "a_3"}) {
		t.Errorf("three: %v", got)
	}
	if got := list(dspex.SessionFilter{}, 1); len(got) != 1 {
		t.Errorf("left early: %v", got)
	}
	if got := list(dspex.SessionFilter{Host: "h9"}, 0); got != nil {
		t.Errorf("of another host: %v", got)
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	for _, err := range c.Admin().Sessions(gone, dspex.SessionFilter{}) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("with a context that has ended: %v", err)
		}
	}
}

func TestASessionIsTold(t *testing.T) {
	c, _ := start(t)
	s, err := c.Admin().GetSession(t.Context(), "a_1")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "id", s.ID, "a_1")
	equal(t, "worker", s.Worker, "h1/0")
	equal(t, "operations", s.Operations, 12)
	equal(t, "created", s.CreatedAt, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	equal(t, "idle", s.Idle, 90*time.Second)
	equal(t, "age", s.Age, 2*time.Hour)
	equal(t, "epoch", s.Epoch, 70)
	equal(t, "program", s.Programs[0].ID, "qa_bot")
	equal(t, "program created", s.Programs[0].CreatedAt, time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC))
	equal(t, "program executed", s.Programs[0].LastExecuted, time.Time{})
	equal(t, "language model", s.LM["model"], any("fast"))
	equal(t, "running", *s.Running, dspex.SessionJob{ID: "q34", Sequence: 34, Attempt: 2, Status: dspex.JobRetrying})
	equal(t, "waiting", s.WaitingJobs, 2)
	equal(t, "oldest waiting", s.OldestWaiting, 1500*time.Millisecond)
	if !strings.Contains(string(s.Raw), "epoch") {
		t.Errorf("raw: %s", s.Raw)
	}
	_, err = c.Admin().GetSession(t.Context(), "nobody")
	failsWith(t, "nobody", err, "session_unknown")
	is(t, "nobody", err, dspex.ErrSession)
	_, err = c.Admin().GetSession(t.Context(), "a b")
	failsWith(t, "a bad id", err, dspex.CodeBadSession)
}

func TestASessionGoesAndComes(t *testing.T) {
	c, _ := start(t)
	ctx := t.Context()
	document, err := c.Admin().ExportSession(ctx, "a_1")
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Admin().ImportSession(ctx, "a_2", document, false)
	failsWith(t, "into one that is there", err, "session_not_empty")
	r, err := c.Admin().ImportSession(ctx, "new", document, false, dspex.WithJobID("import-1"))
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "job", r.Job, dspex.JobRef{Session: "new", ID: "import-1"})
	equal(t, "status", r.Outputs()["status"], any("imported"))
	if r, err = c.Admin().CleanupSession(ctx, "new"); err != nil {
		t.Fatal(err)
	}
	equal(t, "status", r.Outputs()["status"], any("cleaned"))
	if r, err = c.Admin().EraseSession(ctx, "new"); err != nil {
		t.Fatal(err)
	}
	equal(t, "status", r.Outputs()["status"], any("erased"))
	_, err = c.Admin().ImportSession(ctx, "new", []byte("{"), false)
	failsWith(t, "no JSON", err, dspex.CodeBadRequest)
	_, err = c.Admin().EraseSession(ctx, "a b")
	failsWith(t, "a bad id", err, dspex.CodeBadSession)
}

func TestHostsAreListedDrainedAndResumed(t *testing.T) {
	c, _ := start(t)
	ctx := t.Context()
	if err := c.Admin().DrainHost(ctx, "h1"); err != nil {
		t.Fatal(err)
	}
	hosts, err := c.Admin().Hosts(ctx)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "hosts", len(hosts.Hosts), 2)
	equal(t, "leader", hosts.Leader, "d1")
	equal(t, "partitions", hosts.Partitions, 64)
	h1, h2 := hosts.Hosts[0], hosts.Hosts[1]
	equal(t, "state of h1", h1.State, dspex.HostDraining)
	equal(t, "drain of h1", h1.Drain, true)
	equal(t, "hits of h1", h1.AffinityHits, 990)
	equal(t, "free slots of h1", h1.Free, 120)
	equal(t, "state of h2", h2.State, dspex.HostGone)
	equal(t, "partitions of h2", h2.Partitions, 3)
	if err := c.Admin().ResumeHost(ctx, "h1"); err != nil {
		t.Error(err)
	}
	failsWith(t, "another host", c.Admin().DrainHost(ctx, "h9"), "host_unknown")
}
