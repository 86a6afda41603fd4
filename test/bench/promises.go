//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sys/unix"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/pyenv"
	"github.com/dspex/dspex/internal/pyproc"
	"github.com/dspex/dspex/test/bench/prober"
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
	g, nc, err := stubRig(ctx, o, 4, slots)
	if err != nil {
		return err
	}
	defer g.stop()
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

// placed is what the dispatcher's statistics report of the jobs of sessions.
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
	g, nc, err := stubRig(ctx, o, 8, 1)
	if err != nil {
		return err
	}
	defer g.stop()
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
	ctx, cancel := context.WithTimeout(ctx, prober.Timeout)
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

func stackHas(err error, place string) bool {
	hung, ok := errors.AsType[*pyproc.HungError](err)
	return ok && place != "" && strings.Contains(hung.Stack, place)
}

// staffWorkers are the workers of a host that is killed: one idle, one that waits, one that computes, one that holds the interpreter's lock.
const staffWorkers = 4

// playStaff is a host without broker: it starts workers, occupies them, reports which processes they are, and waits for its death.
func playStaff(ctx context.Context, modules string, zygote bool) error {
	env, err := pyenv.Ensure(ctx, pyenv.Config{Paths: []string{modules}})
	if err != nil {
		return err
	}
	s := hire(ctx, env, staffWorkers, zygote, nil)
	defer func() { _ = s.stop() }()
	if _, err := s.await(ctx, staffWorkers, isReady); err != nil {
		return err
	}
	for _, command := range []string{"in_sleep", "in_thread", "hold_gil"} {
		slot, err := s.Checkout(ctx, 0)
		if err != nil {
			return err
		}
		if _, err := begin(ctx, slot, command); err != nil {
			return err
		}
	}
	var pids []string
	for _, w := range s.Stats().Workers {
		pids = append(pids, strconv.Itoa(w.PID))
		if parent := parentOf(w.PID); zygote && parent != 0 {
			pids = append(pids, strconv.Itoa(parent))
		}
	}
	fmt.Println("pids", strings.Join(pids, " "))
	<-ctx.Done()
	return nil
}

// parentOf reads the parent's number from /proc.
func parentOf(pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	var state string
	var parent int
	if _, err := fmt.Sscan(rest, &state, &parent); err != nil {
		return 0
	}
	return parent
}

// measureOrphans kills hosts and times the end of the last of their workers.
func measureOrphans(ctx context.Context, o *options, r *report, _ pyenv.Env) error {
	for _, mode := range []string{"zygote", "spawn"} {
		var gone []float64
		for range max(10, 2*o.rounds) {
			took, err := killStaff(ctx, o, mode)
			if err != nil {
				return err
			}
			gone = append(gone, milliseconds(took))
		}
		name := fmt.Sprintf("host killed: last of its workers gone, most of %d (%s)", len(gone), mode)
		r.worker(name, "ms", "<=", gonePeak, []float64{p99(gone)})
	}
	return nil
}

func killStaff(ctx context.Context, o *options, mode string) (time.Duration, error) {
	p, err := start(o, -1, "staff", o.self, "role", "staff", "-modules", filepath.Join(o.dir, "modules"), "-start", mode)
	if err != nil {
		return 0, err
	}
	defer p.stop()
	line, err := p.await(ctx, p.lines, "pids ")
	if err != nil {
		return 0, err
	}
	var fds []unix.PollFd
	seen := map[string]bool{}
	for text := range strings.FieldsSeq(line) {
		if seen[text] {
			continue
		}
		seen[text] = true
		pid, err := strconv.Atoi(text)
		if err != nil {
			return 0, err
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			return 0, fmt.Errorf("process %d: %w", pid, err)
		}
		defer func() { _ = unix.Close(fd) }()
		fds = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	began := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		return 0, err
	}
	for i := range fds {
		for {
			n, err := unix.Poll(fds[i:i+1], int(stopTimeout.Milliseconds()))
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil || n == 0 {
				return 0, fmt.Errorf("a worker outlived its host by %v (%w)", stopTimeout, err)
			}
			break
		}
	}
	return time.Since(began), nil
}
