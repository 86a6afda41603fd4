package pyproc

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func openFiles(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// noChildren fails if this process has a child, living or not reaped.
func noChildren(t *testing.T) {
	t.Helper()
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); !errors.Is(err, unix.ECHILD) {
		t.Errorf("got %v, want no child left", err)
	}
}

// ended waits until no more goroutines than before are left: one that has called Done needs a moment to be gone.
func ended(t *testing.T, before int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, were %d:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
	}
}

func TestTwoHundredCrashesLeaveNothingBehind(t *testing.T) {
	_, halt := runPool(t, testConfig("")) // what the runtime opens once for good
	halt()
	files, goroutines := openFiles(t), runtime.NumGoroutine()
	cfg := testConfig("")
	cfg.Size = 2
	p, halt := runPool(t, cfg)
	commands := []string{"exit", "half frame", "garbage", "die of", "bad value"}
	var all sync.WaitGroup
	for caller := range 2 {
		all.Go(func() {
			for i := range 100 {
				command, n := commands[(caller+i)%len(commands)], 1
				if command == "die of" {
					n = int(syscall.SIGKILL)
				}
				s, err := p.Checkout(t.Context(), 0, Alone)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err = s.Call(t.Context(), callBody(command, n), nil); err == nil {
					t.Errorf("%s: expected an error", command)
				}
				if command == "exit" && !strings.Contains(err.Error(), `"Traceback: last words"`) {
					t.Errorf("crash %d: the last line on stderr is lost: %v", i, err)
				}
				s.Release()
			}
		})
	}
	all.Wait()
	if _, err := once(t, p, callBody("echo", 0)); err != nil {
		t.Error(err)
	}
	st := p.Stats()
	if n := st.Workers[0].Restarts + st.Workers[1].Restarts; n < 150 {
		t.Errorf("%d restarts, want about 200", n)
	}
	halt()
	ended(t, goroutines)
	if got := openFiles(t); got != files {
		t.Errorf("%d files are open, were %d", got, files)
	}
	noChildren(t)
}

func TestKillInEveryStateOfTheStart(t *testing.T) {
	goroutines := runtime.NumGoroutine()
	for _, mode := range []string{"", "silent", "never ready", "stubborn", "exit at once", "init error"} {
		for _, at := range []State{Spawning, Handshake, Warming, Exited} {
			cfg := testConfig(mode)
			ctx, cancel := context.WithCancel(t.Context())
			if mode == "stubborn" && at > Warming {
				cancel()
				continue // costs the real 2 s of SIGTERM; another test has it
			}
			var once sync.Once
			cfg.OnEvent = func(e Event) {
				if e.To >= at {
					once.Do(cancel)
				}
			}
			p := New(cfg)
			p.rules = quick
			if mode != "exit at once" && mode != "init error" && at == Exited { // they never get there
				cancel()
			}
			if err := p.Run(ctx); err != nil {
				t.Errorf("%s at %s: %v", mode, at, err)
			}
			cancel()
			if p.illegal != 0 {
				t.Errorf("%s at %s: %d illegal edges", mode, at, p.illegal)
			}
		}
	}
	ended(t, goroutines)
	noChildren(t)
}
