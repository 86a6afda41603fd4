//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/jobs"
)

// Bounds that are requested, and what is done to see whether they hold.
const (
	hitLeast     = 0.999
	stickyCount  = 1000 // sessions with a state, each called so often
	stickyRounds = 20
	lateMost     = 50.0 // ms, p99
	deadline     = 500 * time.Millisecond
)

// measureSticky counts how often a session's job runs where its state is, with free slots in every worker and no fault.
func measureSticky(ctx context.Context, o *options, r *report) error {
	g, _, err := wholeRig(ctx, o, 4, slots, "--engine", "stub", "--python", o.python)
	if err != nil {
		return err
	}
	defer g.stop()
	nc, err := nats.Connect(g.url)
	if err != nil {
		return err
	}
	defer nc.Close()
	var before placed
	for n := range 1 + stickyRounds {
		if n == 1 { // every session has a worker now
			if before, err = readAffinity(nc); err != nil {
				return err
			}
		}
		if _, err := g.agent.ask(ctx, order{Do: "call", Window: loadWindow / 2, Count: stickyCount, Fresh: "sticky_", Body: storingBody}); err != nil {
			return err
		}
	}
	after, err := readAffinity(nc)
	if err != nil {
		return err
	}
	hits, others := after.Hits-before.Hits, after.Misses-before.Misses+after.Moves-before.Moves
	if hits+others != stickyCount*stickyRounds {
		return fmt.Errorf("%d hits and %d others were counted, expected %d in all", hits, others, stickyCount*stickyRounds)
	}
	r.head("sticky: jobs that could run where their session is warm: four workers with free slots", "jobs", "hits", "others", "share asked", "share", "", "")
	r.line(append([]string{fmt.Sprint(hits + others), fmt.Sprint(hits), fmt.Sprint(others)},
		r.judge("sticky", "share of hits", "", ">=", hitLeast, []float64{float64(hits) / float64(hits+others)})...)...)
	r.tail()
	return nil
}

// placed is what the dispatcher's statistics say of the jobs of sessions.
type placed struct {
	Hits   int `json:"affinity_hits"`
	Misses int `json:"affinity_misses"`
	Moves  int `json:"affinity_moves"`
}

func readAffinity(nc *nats.Conn) (placed, error) {
	m, err := nc.Request(jobs.RPCStats, nil, 10*time.Second)
	if err != nil {
		return placed{}, err
	}
	var reply struct{ Result struct{ Extra placed } }
	return reply.Result.Extra, json.Unmarshal(m.Data, &reply)
}

// late is a way in which a job does not end by its deadline.
type late struct{ name, session, body string }

var lates = []late{
	{"runs, Python cannot be stopped", "", `{"command": "hold", "args": {"ms": 1500}, "options": {"deadline": "` + deadline.String() + `"}}`},
	{"waits behind a job of its session", "blocked", `{"command": "ping", "options": {"deadline": "` + deadline.String() + `"}}`},
}

// measureDeadline looks how long after its deadline a caller is answered.
func measureDeadline(ctx context.Context, o *options, r *report) error {
	g, _, err := wholeRig(ctx, o, 8, 1, "--engine", "stub", "--python", o.python)
	if err != nil {
		return err
	}
	defer g.stop()
	nc, err := nats.Connect(g.url)
	if err != nil {
		return err
	}
	defer nc.Close()
	if err := nc.Publish("dspex.session.blocked", []byte(`{"command": "sleep", "args": {"ms": 600000}, "options": {"timeout": "20m"}}`)); err != nil {
		return err
	}
	r.head("deadline: callers answered after their deadline has passed, ms", "job", "callers", "p50", "p99", "most", "asked", "p99", "", "")
	for _, l := range lates {
		var took []float64
		for n := range o.faults {
			ms, err := l.wait(ctx, nc, n)
			if err != nil {
				return fmt.Errorf("%s: %w", l.name, err)
			}
			took = append(took, ms)
		}
		r.line(append([]string{l.name, fmt.Sprint(len(took)), number(r.keep("deadline", l.name, "ms", took)), number(quantile(took, 0.99)), number(quantile(took, 1))},
			r.judge("deadline", l.name+", p99", "ms", "<=", lateMost, []float64{quantile(took, 0.99)})...)...)
	}
	r.tail()
	return nil
}

// wait calls and returns the milliseconds from the deadline to the answer.
func (l late) wait(ctx context.Context, nc *nats.Conn, n int) (float64, error) {
	subject := jobs.RPCSession + l.session
	if l.session == "" {
		subject += fmt.Sprintf("late_%d", n)
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	at := time.Now()
	m, err := nc.RequestWithContext(ctx, subject, []byte(l.body))
	after := float64(time.Since(at)-deadline) / float64(time.Millisecond)
	if err != nil {
		return 0, err
	}
	var reply struct {
		Error struct {
			Category string `json:"error_category"`
		}
	}
	if err := json.Unmarshal(m.Data, &reply); err != nil {
		return 0, err
	}
	if reply.Error.Category != "timeout" {
		return 0, fmt.Errorf("expected a timeout, answered %s", m.Data)
	}
	return after, nil
}
