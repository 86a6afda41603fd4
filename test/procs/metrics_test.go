package procs

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/natstest"
	"github.com/dspex/dspex/internal/programtest"
)

// gauge reads one number of a page of metrics.
func gauge(t *testing.T, page, name string) float64 {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindStringSubmatch(page)
	if m == nil {
		t.Fatalf("the page does not have %s:\n%s", name, page)
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestTheNumbersThatAutoscalingNeedsMove: one slot that is busy for long, a job that waits in each lane, and more calls than a session
// may have.
func TestTheNumbersThatAutoscalingNeedsMove(t *testing.T) {
	d := deploy(t)
	dispatcher := d.start("dispatcher", "d1", "--partitions", "4", "--metrics", "127.0.0.1:0")
	d.start("worker-host", "h1", "--engine", "stub", "--workers", "1", "--slots", "1", "--overflow", "0").awaitReady()
	dispatcher.awaitReady()
	url := regexp.MustCompile(`http://\S+/metrics`).FindString(dispatcher.said())
	c := d.client()
	reaches := func(what string, want func(page string) bool) {
		t.Helper()
		eventually(t, what, func(context.Context) error {
			if page := programtest.Scrape(t, url); !want(page) {
				return fmt.Errorf("%s", page)
			}
			return nil
		})
	}
	const sessions, interactive, batch = `dspex_backlog_jobs{lane="session"}`, `dspex_backlog_jobs{lane="interactive"}`, `dspex_backlog_jobs{lane="batch"}`
	const used, oldest, waiting = `dspex_slots{state="used"}`, `dspex_oldest_job_seconds{lane="session"}`, `dspex_waiting_for_slot{mode="queue"}`
	reaches("nothing waits", func(page string) bool {
		return gauge(t, page, sessions)+gauge(t, page, interactive)+gauge(t, page, batch)+gauge(t, page, used)+gauge(t, page, oldest) == 0
	})
	hour := dspex.WithTimeout(time.Hour)
	long, err := c.Submit(t.Context(), "busy", "sleep", dspex.Args{"ms": 3_600_000}, hour)
	if err != nil {
		t.Fatal(err)
	}
	reaches("the slot is used", func(page string) bool { return gauge(t, page, used) == 1 && gauge(t, page, sessions) == 1 })
	if _, err := c.Submit(t.Context(), "next", "sleep", dspex.Args{"ms": 1}, hour); err != nil {
		t.Fatal(err)
	}
	for _, lane := range []dspex.Lane{dspex.LaneInteractive, dspex.LaneBatch} {
		if _, err := c.SubmitAnonymous(t.Context(), lane, "sleep", dspex.Args{"ms": 1}, hour); err != nil {
			t.Fatal(err)
		}
	}
	reaches("a job waits in each lane", func(page string) bool {
		return gauge(t, page, sessions) == 2 && gauge(t, page, interactive) == 1 && gauge(t, page, batch) == 1 && gauge(t, page, waiting) == 1
	})
	age := gauge(t, programtest.Scrape(t, url), oldest)
	reaches("the oldest job grows older", func(page string) bool { return gauge(t, page, oldest) > age })

	nc := natstest.Connect(t, d.broker)
	for range 300 {
		if err := nc.PublishRequest("dspex.rpc.session.busy", nc.NewInbox(), []byte(`{"command": "sleep", "args": {"ms": 1}}`)); err != nil {
			t.Fatal(err)
		}
	}
	reaches("calls are refused", func(page string) bool {
		return gauge(t, page, `dspex_refused_calls_total{code="session_queue_full"}`)+gauge(t, page, `dspex_refused_calls_total{code="overloaded"}`) > 0
	})
	if _, err := c.Cancel(t.Context(), long.Job); err != nil {
		t.Fatal(err)
	}
	reaches("all is done", func(page string) bool {
		return gauge(t, page, sessions)+gauge(t, page, interactive)+gauge(t, page, batch)+gauge(t, page, used)+gauge(t, page, oldest)+gauge(t, page, waiting) == 0
	})
}
