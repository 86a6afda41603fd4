package procs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dspex/dspex"
)

// movable are the programs over a time package whose wall clock can be set while they run.
type movable struct {
	t   *testing.T
	dir string
}

// buildMovable builds them: the toolchain's own time.go, and one line in Now.
func buildMovable(t *testing.T, programs ...string) *movable {
	t.Helper()
	m := &movable{t, t.TempDir()}
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	text, err := os.ReadFile(filepath.Join(source, "time.go"))
	if err != nil {
		t.Fatal(err)
	}
	const read = "\tsec, nsec, mono := runtimeNow()\n"
	if n := strings.Count(string(text), read); n != 1 {
		t.Fatalf("time.go of %s reads the clock at %d places, expected at one: %q", source, n, read)
	}
	more, err := os.ReadFile("testdata/clock.go.txt")
	if err != nil {
		t.Fatal(err)
	}
	replace := map[string]string{
		filepath.Join(source, "time.go"):  m.write("time.go", strings.Replace(string(text), read, read+"\tsec += moved.Load()\n", 1)),
		filepath.Join(source, "moved.go"): m.write("moved.go", string(more)),
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	argv := append([]string{"build", "-overlay", m.write("overlay.json", string(list)), "-o", m.dir + "/"}, programs...)
	if out, err := exec.Command("go", argv...).CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return m
}

func (m *movable) write(name, text string) (path string) {
	m.t.Helper()
	path = filepath.Join(m.dir, name)
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		m.t.Fatal(err)
	}
	return path
}

// set moves the clock that the processes of a program read.
func (m *movable) set(program string, by time.Duration) {
	m.t.Helper()
	m.write(program+".clock", strconv.FormatInt(int64(by/time.Second), 10))
}

func (m *movable) start(machine, program string, args ...string) *process {
	m.t.Helper()
	return launch(m.t, program+" "+machine, exec.Command(filepath.Join(m.dir, program), args...))
}

// broker starts a nats-server on a port of its choice and returns its address.
func (m *movable) broker() (url string) {
	m.t.Helper()
	ports := m.t.TempDir()
	p := m.start("broker", "nats-server", "-a", "127.0.0.1", "-p", "-1", "-js", "-sd", m.t.TempDir(), "--ports_file_dir", ports)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		text, err := os.ReadFile(filepath.Join(ports, fmt.Sprintf("nats-server_%d.ports", p.cmd.Process.Pid)))
		var told struct{ Nats []string }
		if err == nil && json.Unmarshal(text, &told) == nil && len(told.Nats) > 0 {
			return told.Nats[0]
		}
		if time.Now().After(end) {
			m.t.Fatalf("the broker does not tell its port: %v\n%s", err, p.said())
		}
	}
}

// notes are sessions that append numbers, each its own way, and may neither lose one nor fail.
type notes struct {
	t     *testing.T
	c     *dspex.Client
	lists [6]atomic.Int64 // how long each is
}

// add appends one number: by a call with a deadline, or a published job with one.
func (n *notes) add(ctx context.Context, i int) error {
	session, at := fmt.Sprint("notes_", i), int(n.lists[i].Load())
	args, once := dspex.Args{"x": at}, dspex.WithMaxRetries(0)
	var r dspex.Reply
	var err error
	if i%2 == 0 {
		r, err = n.c.Execute(ctx, session, "append", args, once, dspex.WithDeadline(30*time.Second))
	} else {
		var receipt dspex.Receipt
		if receipt, err = n.c.Submit(ctx, session, "append", args, once, dspex.WithDeadline(10*time.Minute)); err == nil {
			r, err = n.c.Wait(ctx, receipt.Job)
		}
	}
	if err != nil {
		return fmt.Errorf("number %d of %s: %w", at, session, err)
	}
	var got struct{ List []int }
	if err := r.Decode(&got); err != nil || len(got.List) != at+1 || got.List[at] != at || r.SessionState == dspex.SessionReset {
		return fmt.Errorf("number %d of %s: state %s, %s (%v)", at, session, r.SessionState, r.Result, err)
	}
	n.lists[i].Add(1)
	return nil
}

// during appends to all but the last session while f runs, and 20 times more.
func (n *notes) during(what string, f func()) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), 2*patience)
	defer cancel()
	var wg sync.WaitGroup
	var over atomic.Bool
	for i := range len(n.lists) - 1 {
		wg.Go(func() {
			for more := 20; more > 0 && !n.t.Failed(); {
				if err := n.add(ctx, i); err != nil {
					n.t.Errorf("%s: %v", what, err)
					return
				}
				if over.Load() {
					more--
				}
			}
		})
	}
	f()
	over.Store(true)
	wg.Wait()
	if err := n.add(ctx, len(n.lists)-1); err != nil { // it has rested
		n.t.Errorf("%s: %v", what, err)
	}
	if n.t.Failed() {
		n.t.FailNow()
	}
}

// awaitHealth waits until the health is healthy, or degraded with a reason that begins so.
func awaitHealth(t *testing.T, c *dspex.Client, reason string) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		h, err := c.Health(t.Context())
		if err != nil {
			if _, ok := errors.AsType[*dspex.Error](err); !ok {
				t.Fatal(err)
			}
		}
		if reason == "" && err == nil && len(h.Reasons) == 0 || slices.ContainsFunc(h.Reasons, func(s string) bool { return reason != "" && strings.HasPrefix(s, reason) }) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("health says %q (%v), want %q", h.Reasons, err, reason)
		}
	}
}

// TestNoClockThatStepsLosesASessionOrFailsACall sets the wall clocks of a host and of the broker under load: no note is lost, no job
// fails, and the health names the machine.
func TestNoClockThatStepsLosesASessionOrFailsACall(t *testing.T) {
	m := buildMovable(t, "../../cmd/worker-host", "github.com/nats-io/nats-server/v2")
	d := &deployment{t: t, url: m.broker()}
	d.start("dispatcher", "d1", "--partitions", "8")
	host := func() *process {
		return m.start("h1", "worker-host", "--server", d.url, "--name", "h1", "--engine", "stub", "--workers", "2", "--slots", "8").awaitReady()
	}
	h1 := host()
	c := d.client()
	n := &notes{t: t, c: c}
	n.during("all clocks are right", func() {})
	for _, step := range []struct {
		program string
		by      time.Duration
		names   string
	}{
		{"worker-host", -time.Hour, "the clock of host h1 is off by -1h0m"},
		{"worker-host", -25 * time.Hour, "the clock of host h1 is off by -25h0m"},
		{"worker-host", 25 * time.Hour, "the clock of host h1 is off by 25h0m"},
		{"worker-host", 30 * time.Minute, "the clock of host h1 is off by 30m0"},
		{"worker-host", 0, ""},
		{"nats-server", -30 * time.Minute, "the clock of the broker is off by -30m0"},
		{"nats-server", 0, ""},
		{"nats-server", 90 * time.Minute, "the clock of the broker is off by 1h30m"}, // longer than a session may be idle
		{"nats-server", 0, ""},
	} {
		what := fmt.Sprintf("the clock of %s is moved to %v", step.program, step.by)
		n.during(what, func() {
			m.set(step.program, step.by)
			awaitHealth(t, c, step.names)
		})
	}
	m.set("worker-host", -time.Hour)
	h1.stop()
	h1 = host()
	n.during("a host that starts with a wrong clock", func() {})
	m.set("worker-host", 0)
	h1.stop()
	host()
	n.during("a host that took over from one with a wrong clock", func() {})
	for i := range n.lists {
		t.Logf("notes_%d: %d numbers", i, n.lists[i].Load())
	}
}

// TestClocksThatStepTogetherLoseNothing sets the clock of the dispatcher, those of all hosts, and all clocks at once, in a deployment of
// two hosts: nobody is left whose clock is right.
func TestClocksThatStepTogetherLoseNothing(t *testing.T) {
	m := buildMovable(t, "../../cmd/worker-host", "../../cmd/dispatcher", "github.com/nats-io/nats-server/v2")
	d := &deployment{t: t, url: m.broker()}
	m.start("d1", "dispatcher", "--server", d.url, "--name", "d1", "--partitions", "8")
	for _, name := range []string{"h1", "h2"} {
		m.start(name, "worker-host", "--server", d.url, "--name", name, "--engine", "stub", "--workers", "2", "--slots", "8").awaitReady()
	}
	n := &notes{t: t, c: d.client()}
	awaitHealth(t, n.c, "")
	everybody := []string{"worker-host", "dispatcher", "nats-server"}
	for _, step := range []struct {
		programs []string
		by       time.Duration
		names    string
	}{
		{[]string{"dispatcher"}, -time.Hour, "the clock of dispatcher d1 is off by -1h0m"},
		{[]string{"dispatcher"}, 25 * time.Hour, "the clock of dispatcher d1 is off by 25h0m"},
		{[]string{"dispatcher"}, 0, ""},
		{[]string{"worker-host"}, 30 * time.Minute, "the clock of host h1 is off by 30m0"},
		{[]string{"worker-host"}, -25 * time.Hour, "the clock of host h1 is off by -25h0m"},
		{[]string{"worker-host"}, 0, ""},
		{everybody, -25 * time.Hour, ""},
		{everybody, 30 * time.Minute, ""},
		{everybody, 0, ""},
	} {
		n.during(fmt.Sprintf("%v are moved to %v", step.programs, step.by), func() {
			for _, program := range step.programs {
				m.set(program, step.by)
			}
			awaitHealth(t, n.c, step.names)
		})
	}
}
