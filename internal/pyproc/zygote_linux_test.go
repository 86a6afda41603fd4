package pyproc

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dspex/dspex/internal/programtest"
	"github.com/dspex/dspex/internal/pyproc/proc"
)

// zygoteConfig runs this test binary as a zygote of the given mode, whose workers have another.
func zygoteConfig(mode, workers string) Config {
	cfg := testConfig(workers)
	cfg.Env = append(cfg.Env, "ZYGOTE_MODE="+mode)
	cfg.Zygote = true
	return cfg
}

// zygotePID returns the process id of the pool's zygote.
func zygotePID(p *Pool) int {
	p.zygotes.mu.Lock()
	defer p.zygotes.mu.Unlock()
	return p.zygotes.current.(*zygote).Child.PID
}

func TestForkedWorkersServeDieAndAreReaped(t *testing.T) {
	goroutines := runtime.NumGoroutine()
	cfg, exited := withExits(zygoteConfig("", ""))
	cfg.Size = 2
	p, halt := runPool(t, cfg)
	for i, c := range []struct {
		command string
		n, code int
		signal  syscall.Signal
	}{{"exit", 7, 7, 0}, {"die of", int(syscall.SIGTERM), -1, syscall.SIGTERM}, {"garbage", 0, -1, syscall.SIGKILL}} {
		s := checkout(t, p)
		pid := p.Stats().Workers[slices.IndexFunc(p.Stats().Workers, func(w WorkerStats) bool { return w.ID == s.WorkerID() })].PID
		_, err := s.Call(t.Context(), callBody(c.command, c.n), nil)
		s.Release()
		var exit *ExitError
		switch {
		case !errors.As(err, &exit):
			t.Errorf("must hold: errors.As(err, &exit); %s: got %v, want status %d, signal %v of process %d", c.command, err, c.code, c.signal, pid)
		case exit.Code != c.code:
			t.Errorf("exit.Code: got %v, want %v; %s: got %v, want status %d, signal %v of process %d", exit.Code, c.code, c.command, err, c.code, c.signal, pid)
		case exit.Signal != c.signal:
			t.Errorf("exit.Signal: got %v, want %v; %s: got %v, want status %d, signal %v of process %d", exit.Signal, c.signal, c.command, err, c.code, c.signal, pid)
		case exit.PID != pid:
			t.Errorf("exit.PID must be pid, got %v; %s: got %v, want status %d, signal %v of process %d", exit.PID, c.command, err, c.code, c.signal, pid)
		}
		<-exited
		if _, err := once(t, p, callBody("echo", i)); err != nil {
			t.Error(err)
		}
		if !p.zygotes.forking() {
			t.Fatal("workers are spawned")
		}
		awaitReaped(t, p, pid)
	}
	halt()
	ended(t, goroutines)
	noChildren(t)
}

// awaitReaped starts workers until the zygote has come to the permission to reap: it takes one order after the other.
func awaitReaped(t *testing.T, p *Pool, pid int) {
	t.Helper()
	c, err := p.zygotes.start(t.Context(), proc.Spec{Nonce: "n"})
	if err != nil {
		t.Fatal(err)
	}
	closeChild(c)
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("process %d: got %v, want it reaped", pid, err)
	}
}

func TestKilledZygoteTakesItsWorkersAlongAndBothComeBack(t *testing.T) {
	cfg := zygoteConfig("", "")
	cfg.Size = 3
	p, _ := runPool(t, cfg)
	s := checkout(t, p)
	first := zygotePID(p)
	syscall.Kill(first, syscall.SIGKILL)
	_, err := s.Call(t.Context(), callBody("hold", 0), nil)
	var exit *ExitError
	switch {
	case !errors.As(err, &exit):
		t.Errorf("must hold: errors.As(err, &exit); got %v, want the zygote named", err)
	case exit.Signal != syscall.SIGKILL:
		t.Errorf("exit.Signal must be syscall.SIGKILL, got %v; got %v, want the zygote named", exit.Signal, err)
	case !errors.Is(err, errZygoteGone):
		t.Errorf("must hold: errors.Is(err, errZygoteGone); got %v, want the zygote named", err)
	case exit.OutOfMemory():
		t.Errorf("must not hold: exit.OutOfMemory(); got %v, want the zygote named", err)
	}
	s.Release()
	for n := 0; n < 3; { // every supervisor has a new worker
		slot := checkout(t, p)
		if _, err := slot.Call(t.Context(), callBody("echo", 0), nil); err == nil {
			n++
		}
		slot.Release()
	}
	if second := zygotePID(p); second == first {
		t.Error("expected a new zygote")
	}
}

func TestZygotesThatFailAreReportedOrDoneWithout(t *testing.T) {
	for _, c := range []struct {
		mode, workers, want, warn string
		limit                     time.Duration
	}{
		{"init error", "", "h/zygote did not start (warming): initialization (import_failed): no module named dspy", "", 0},
		{"newer", "", "h/zygote (runtime \"0.1\", hash \"abc\") has 2 to 3", "", 0},
		{"die on init", "", "", "out of luck", 0},
		{"silent", "", "", "HELLO did not come", 2 * time.Second},
		{"never ready", "", "", "READY did not come", 2 * time.Second},
		{"refuse", "", "", "the zygote has 2 threads", 0},
		{"", "die on init", "", "3 forked workers in a row", 0}, // spawned, they go on dying
	} {
		t.Run(c.mode+c.workers, func(t *testing.T) {
			h := &programtest.Lines{}
			cfg := zygoteConfig(c.mode, c.workers)
			cfg.Log, cfg.StartTimeout = slog.New(h), c.limit
			cfg, exited := withExits(cfg)
			p, halt := runPool(t, cfg)
			err := p.Ready(t.Context())
			for n := 0; c.workers != "" && n <= maxBarren; n++ {
				<-exited
			}
			forking := p.zygotes.forking()
			halt()
			if c.want != "" && !strings.Contains(fmt.Sprint(err), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if c.want != "" && !forking {
				t.Error("the pool fell back to spawned workers")
			}
			if c.warn == "" {
				return
			}
			if err != nil && c.workers == "" {
				t.Errorf("got %v, want spawned workers", err)
			}
			if forking {
				t.Error("the pool forks, want spawned workers")
			}
			if text := strings.Join(h.All(), "\n"); !strings.Contains(text, c.warn) {
				t.Errorf("got log %q, want %q", text, c.warn)
			}
		})
	}
	noChildren(t)
}

func TestZygoteThatSpeaksGarbageIsKilled(t *testing.T) {
	p, _ := runPool(t, zygoteConfig("garbage", ""))
	if err := p.Ready(t.Context()); !errors.Is(err, errZygoteGone) {
		t.Errorf("got %v, want the zygote's end", err)
	}
}
