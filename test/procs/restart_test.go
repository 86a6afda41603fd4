package procs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/affinity"
)

// load keeps sessions busy: each appends to its list, turn after turn, and checks that nothing is lost, repeated or reset. No
// job of it is retried unless withRetries allows it: an attempt that is cut short fails the test.
type load struct {
	t     *testing.T
	c     *dspex.Client
	ctx   context.Context
	stop  context.CancelFunc
	wg    sync.WaitGroup
	calls atomic.Int64
	seen  sync.Map // host -> *atomic.Int64: jobs that it ran

	retries int // that each job may use
}

// withRetries lets a job be tried again, for faults that cut attempts short.
func withRetries(l *load) { l.retries = 10 }

func startLoad(t *testing.T, c *dspex.Client, sessions int, options ...func(*load)) *load {
	l := &load{t: t, c: c}
	for _, set := range options {
		set(l)
	}
	l.ctx, l.stop = context.WithCancel(t.Context())
	for n := range sessions {
		l.wg.Go(func() { l.converse(fmt.Sprintf("load_%d", n), n%2 == 0) })
	}
	return l
}

// converse makes one session's jobs, one after the other: calls, or stored jobs whose outcome is awaited.
func (l *load) converse(session string, call bool) {
	for turn := 0; l.ctx.Err() == nil; turn++ {
		r, err := l.turn(session, turn, call)
		if err != nil {
			l.t.Errorf("%s, turn %d: %v", session, turn, err)
			return
		}
		l.calls.Add(1)
		l.count(r.Host)
		var got struct{ List []int }
		if err := r.Decode(&got); err != nil || len(got.List) != turn+1 || got.List[turn] != turn {
			l.t.Errorf("%s, turn %d: %s %v", session, turn, r.Result, err)
			return
		}
		if s := r.SessionState; turn > 0 && s != dspex.SessionWarm && s != dspex.SessionRestored {
			l.t.Errorf("%s, turn %d: state %s", session, turn, s)
			return
		}
	}
}

func (l *load) turn(session string, turn int, call bool) (dspex.Reply, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.ctx), patience)
	defer cancel()
	retries := dspex.WithMaxRetries(l.retries)
	if _, err := l.c.Execute(ctx, session, "sleep", dspex.Args{"ms": 20}, retries); err != nil {
		return dspex.Reply{}, err
	}
	args := dspex.Args{"x": turn}
	if call {
		return l.c.Execute(ctx, session, "append", args, retries)
	}
	receipt, err := l.c.Submit(ctx, session, "append", args, retries)
	if err != nil {
		return dspex.Reply{}, err
	}
	return l.c.Wait(ctx, receipt.Job)
}

func (l *load) count(host string) {
	n, _ := l.seen.LoadOrStore(host, new(atomic.Int64))
	n.(*atomic.Int64).Add(1)
}

// awaitJobs waits until the host has run n more jobs.
func (l *load) awaitJobs(host string, n int64) {
	l.t.Helper()
	v, _ := l.seen.LoadOrStore(host, new(atomic.Int64))
	ran := v.(*atomic.Int64)
	until := ran.Load() + n
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for ran.Load() < until && !l.t.Failed() {
		select {
		case <-tick.C:
		case <-deadline:
			l.t.Fatalf("%s runs no jobs", host)
		}
	}
}

func (l *load) end() {
	l.stop()
	l.wg.Wait()
}

func TestARollingRestartOfTheHostsUnderLoadFailsNoJobAndResetsNoSession(t *testing.T) {
	d := deploy(t)
	d.start("dispatcher", "d1", "--partitions", "8") // so that each has load: idle ones move first
	hosts := map[string]*process{"h1": d.host("h1"), "h2": d.host("h2")}
	for _, h := range hosts {
		h.awaitReady()
	}
	c := d.client()
	l := startLoad(t, c, 32)
	defer l.end()
	for round := range 2 {
		for _, name := range []string{"h1", "h2"} {
			l.awaitJobs(name, 50)
			hosts[name].stop()
			hosts[name] = d.host(name).awaitReady()
		}
		t.Logf("round %d: %d jobs", round+1, 2*l.calls.Load())
	}
	l.awaitJobs("h1", 50)
	l.awaitJobs("h2", 50)
	l.end()
	t.Logf("%d jobs in 32 sessions, 4 restarts", 2*l.calls.Load())
}

func TestARollingRestartOfTheDispatchersUnderLoadFailsNoJob(t *testing.T) {
	d := deploy(t)
	dispatchers := map[string]*process{"d1": d.start("dispatcher", "d1")}
	d.host("h1").awaitReady()
	dispatchers["d2"] = d.start("dispatcher", "d2").awaitReady()
	l := startLoad(t, d.client(), 32)
	defer l.end()
	for range 2 {
		for _, name := range []string{"d1", "d2"} {
			l.awaitJobs("h1", 100)
			dispatchers[name].stop()
			dispatchers[name] = d.start("dispatcher", name).awaitReady()
		}
	}
	l.awaitJobs("h1", 100)
	l.end()
	t.Logf("%d jobs in 32 sessions, 4 restarts", 2*l.calls.Load())
}

func TestTheSecondHostOfANameRefusesToStartAndTheFirstGoesOn(t *testing.T) {
	d := deploy(t)
	d.start("dispatcher", "d1")
	d.host("h1").awaitReady()
	c := d.client()
	if _, err := c.Execute(t.Context(), "s", "append", dspex.Args{"x": 1}); err != nil {
		t.Fatal(err)
	}
	duplicate := d.host("h1")
	if err := duplicate.awaitEnd(); err == nil || !strings.Contains(duplicate.said(), `a host named "h1" is running already`) {
		t.Errorf("the duplicate ended with %v:\n%s", err, duplicate.said())
	}
	select {
	case <-duplicate.ready:
		t.Error("the duplicate said that it is ready")
	default:
	}
	r, err := c.Execute(t.Context(), "s", "append", dspex.Args{"x": 2})
	if err != nil || r.SessionState != dspex.SessionWarm {
		t.Errorf("state %s, %v", r.SessionState, err)
	}
}

func TestASecondSIGTERMEndsTheGrace(t *testing.T) {
	d := deploy(t)
	d.start("dispatcher", "d1")
	h1 := d.host("h1", "--grace", "1h").awaitReady()
	c := d.client()
	ended := make(chan error, 1)
	go func() {
		_, err := c.Execute(context.WithoutCancel(t.Context()), "s", "sleep", dspex.Args{"ms": 3_600_000}, dspex.WithTimeout(2*time.Hour),
			dspex.WithMaxRetries(0), dspex.WithJobID("long"))
		ended <- err
	}()
	awaitRunning(t, c, "s", "long")
	d.host("h2").awaitReady() // the job's partition is left alone: its attempt may outlast the grace
	h1.signal(syscall.SIGTERM)
	awaitServedBy(t, c, "h2", affinity.Partition("s", 64))
	select {
	case err := <-ended:
		t.Fatalf("the job ended: %v", err)
	case <-h1.done:
		t.Fatal("the host did not wait for its job")
	default:
	}
	h1.signal(syscall.SIGTERM)
	if err := h1.awaitEnd(); err != nil {
		t.Errorf("the host ended: %v", err)
	}
	var e *dspex.Error
	if err := <-ended; !errors.As(err, &e) || e.Code != "attempt_crashed" {
		t.Errorf("the job: %v", err)
	}
}

// awaitRunning waits until the job runs.
func awaitRunning(t *testing.T, c *dspex.Client, session, job string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		info, err := c.GetJob(t.Context(), dspex.JobRef{Session: session, ID: job})
		if err == nil && info.Status == dspex.JobRunning {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s does not run: %+v %v", job, info, err)
		}
	}
}

// awaitServedBy calls sessions of all other partitions than one until the host has answered 100 times in a row.
func awaitServedBy(t *testing.T, c *dspex.Client, host string, except int) {
	t.Helper()
	row, end := 0, time.Now().Add(patience)
	for n := 0; row < 100; n++ {
		id := fmt.Sprint("t", n)
		if affinity.Partition(id, 64) == except {
			continue
		}
		r, err := c.Execute(t.Context(), id, "append", dspex.Args{"x": 1})
		if err != nil || time.Now().After(end) {
			t.Fatalf("%s: served by %s, %v", id, r.Host, err)
		}
		if row++; r.Host != host {
			row = 0
		}
	}
}
