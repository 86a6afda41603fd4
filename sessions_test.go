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

func code(err error) string {
	if e, ok := errors.AsType[*dspex.Error](err); ok {
		return e.Code
	}
	return ""
}

func TestSessionsAreListedPageByPageUntilTheLimit(t *testing.T) {
	c, _ := start(t)
	list := func(f dspex.SessionFilter, most int) (ids []string) {
		for s, err := range c.Sessions(t.Context(), f) {
			if err != nil {
				t.Fatal(err)
			}
			if ids = append(ids, s.SessionID); len(ids) == most {
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
	for _, err := range c.Sessions(gone, dspex.SessionFilter{}) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("with a context that has ended: %v", err)
		}
	}
}

func TestASessionIsTold(t *testing.T) {
	c, _ := start(t)
	s, err := c.Session(t.Context(), "a_1")
	if err != nil {
		t.Fatal(err)
	}
	if s.SessionID != "a_1" || s.Operations != 12 || !s.CreatedAt.Equal(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) || s.Epoch != 70 || s.Programs[0].ID != "qa_bot" ||
		s.Programs[0].LastExecuted != "" || s.LM["model"] != "fast" || s.Running.Outcome != dspex.Retrying || s.WaitingJobs != 2 || !strings.Contains(string(s.Raw), "epoch") {
		t.Errorf("%+v", s)
	}
	if _, err := c.Session(t.Context(), "nobody"); code(err) != "session_unknown" || !errors.Is(err, dspex.ErrSession) {
		t.Errorf("nobody: %v", err)
	}
	if _, err := c.Session(t.Context(), "a b"); code(err) != dspex.CodeBadSession {
		t.Errorf("a bad id: %v", err)
	}
}

func TestASessionGoesAndComes(t *testing.T) {
	c, _ := start(t)
	ctx := t.Context()
	document, err := c.ExportSession(ctx, "a_1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.ImportSession(ctx, "a_2", document, false); code(err) != "session_not_empty" {
		t.Errorf("into one that is there: %v", err)
	}
	r, err := c.ImportSession(ctx, "new", document, false, dspex.WithJob("import-1"))
	if err != nil || r.Job != "import-1" || r.Outputs()["status"] != "imported" {
		t.Errorf("%s %v", r.Raw, err)
	}
	if r, err := c.CleanupSession(ctx, "new"); err != nil || r.Outputs()["status"] != "cleaned" {
		t.Errorf("%s %v", r.Raw, err)
	}
	if r, err := c.EraseSession(ctx, "new"); err != nil || r.Outputs()["status"] != "erased" {
		t.Errorf("%s %v", r.Raw, err)
	}
	if _, err := c.ImportSession(ctx, "new", []byte("{"), false); code(err) != dspex.CodeBadRequest {
		t.Errorf("no JSON: %v", err)
	}
	if _, err := c.CleanupSession(ctx, "new", dspex.WithMaxRetries(1)); code(err) != dspex.CodeBadOption {
		t.Errorf("an option without effect: %v", err)
	}
	if _, err := c.EraseSession(ctx, "a b"); code(err) != dspex.CodeBadSession {
		t.Errorf("a bad id: %v", err)
	}
}

func TestHostsAreListedDrainedAndResumed(t *testing.T) {
	c, _ := start(t)
	ctx := t.Context()
	if err := c.DrainHost(ctx, "h1"); err != nil {
		t.Fatal(err)
	}
	hosts, err := c.Hosts(ctx)
	if err != nil || len(hosts.Hosts) != 2 || hosts.Leader != "d1" || hosts.Partitions != 64 {
		t.Fatalf("%+v %v", hosts, err)
	}
	if h := hosts.Hosts[0]; h.State != dspex.HostDraining || !h.Drain || h.AffinityHits != 990 || h.Free != 120 {
		t.Errorf("%+v", h)
	}
	if h := hosts.Hosts[1]; h.State != dspex.HostGone || h.Partitions != 3 {
		t.Errorf("%+v", h)
	}
	if err := c.ResumeHost(ctx, "h1"); err != nil {
		t.Error(err)
	}
	if err := c.DrainHost(ctx, "h9"); code(err) != "host_unknown" {
		t.Errorf("another host: %v", err)
	}
}
