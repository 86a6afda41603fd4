package pyproc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/programtest"
	"github.com/dspex/dspex/internal/pyproc/proc"
	"github.com/dspex/dspex/internal/wire"
)

const pythonBoot = `import sys
sys.path[:0] = sys.argv[1:]
from dspex_worker.__main__ import main
main()`

// pythonConfig runs the real worker: the stub engine and the modules of the Python tests.
func pythonConfig(t testing.TB, zygote bool, init map[string]any) Config {
	t.Helper()
	python := os.Getenv("DSPEX_TEST_PYTHON")
	if python == "" {
		var err error
		if python, err = exec.LookPath("python3"); err != nil {
			t.Fatalf("these tests need Python 3.11 or newer: %v", err)
		}
	}
	root, err := filepath.Abs("../../python")
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Command: []string{python, "-I", "-X", "utf8", "-u", "-c", pythonBoot, root, filepath.Join(root, "tests", "modules")},
		Env:     []string{"PYTHONDONTWRITEBYTECODE=1"}, Name: "h", Size: 1, Zygote: zygote, StopGrace: 100 * time.Millisecond,
		Init: func(worker string) []byte {
			config := map[string]any{"engine": "stub", "worker": worker, "imports": []string{"misbehaving"}}
			maps.Copy(config, init)
			b, err := wire.Encode(config)
			if err != nil {
				panic(err)
			}
			return b
		},
	}
}

// pyCall is a CALL of a session-less job that streams.
func pyCall(command string, args map[string]any) []byte {
	if args == nil {
		args = map[string]any{}
	}
	raw, err := wire.Encode(args)
	if err != nil {
		panic(err)
	}
	stream, err := wire.Encode(map[string]any{"stream": true})
	if err != nil {
		panic(err)
	}
	return frame.CallBody{Command: command, Job: "j", Attempt: 1, Args: raw, Options: stream}.AppendBody(nil)
}

// bothWays runs a test with spawned and with forked workers.
func bothWays(t *testing.T, test func(t *testing.T, cfg Config)) {
	t.Run("spawned", func(t *testing.T) { tidily(t, pythonConfig(t, false, nil), test) })
	t.Run("forked", func(t *testing.T) { forkedOnly(t, test) })
}

// forkedOnly runs a test with forked workers.
func forkedOnly(t *testing.T, test func(t *testing.T, cfg Config)) {
	tidily(t, pythonConfig(t, true, nil), test)
}

// tidily checks that a test leaves nothing behind.
func tidily(t *testing.T, cfg Config, test func(t *testing.T, cfg Config)) {
	before := runtime.NumGoroutine()
	test(t, cfg)
	ended(t, before)
	noChildren(t)
}

// serves checks that the pool is well: a fresh call is answered.
func serves(t *testing.T, p *Pool) {
	t.Helper()
	f, err := once(t, p, pyCall("echo", map[string]any{"x": 1}))
	if err != nil || f.Type != frame.Result {
		t.Errorf("afterwards: got %v, %v; want an answer", f.Type, err)
	}
}

func TestEveryDeathOfAWorkerIsToldAndRepaired(t *testing.T) {
	bothWays(t, func(t *testing.T, cfg Config) {
		cfg, exited := withExits(cfg)
		p, halt := runPool(t, cfg)
		for _, c := range []struct {
			command string
			args    map[string]any
			want    string
		}{
			{"exit", map[string]any{"code": 9}, "exited with status 9 while busy"},
			{"die", map[string]any{"with_signal": int(syscall.SIGSEGV)}, "died of signal SIGSEGV"},
			{"die", map[string]any{"with_signal": int(syscall.SIGABRT)}, "died of signal SIGABRT"},
			{"kill", map[string]any{"signal": int(syscall.SIGKILL)}, "out of memory"},
			{"garbage", nil, "broke the protocol"},
			{"half_a_frame_then_exit", nil, "exited with status 9"},
		} {
			_, err := once(t, p, pyCall(c.command, c.args))
			var exit *ExitError
			if !errors.As(err, &exit) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: got %v, want %q", c.command, err, c.want)
			}
			if c.command == "die" && !strings.Contains(exit.StderrTail, "last words\n") {
				t.Errorf("%s: got tail %q, want its last words", c.command, exit.StderrTail)
			}
			<-exited
			serves(t, p)
		}
		halt()
	})
}

func TestOutputOfAnyKindIsLoggedAndHarmsNothing(t *testing.T) {
	bothWays(t, func(t *testing.T, cfg Config) {
		h := &programtest.Lines{}
		cfg.Log = slog.New(h)
		p, halt := runPool(t, cfg)
		if _, err := once(t, p, pyCall("print_everywhere", nil)); err != nil {
			t.Error(err)
		}
		if _, err := once(t, p, pyCall("flood_stderr", map[string]any{"mb": 100})); err != nil {
			t.Error(err)
		}
		serves(t, p)
		if st := p.Stats().Workers[0]; st.Restarts != 0 {
			t.Errorf("got %+v, want the first worker", st)
		}
		halt()
		text := strings.Join(h.All(), "\n")
		for _, want := range []string{"from python stream=stdout", "from c stream=stdout", "from a program stream=stdout", "bytes_cut="} {
			if !strings.Contains(text, want) {
				t.Errorf("the log lacks %q", want)
			}
		}
	})
}

// watchful finds hangs soon, yet not so soon that a busy machine looks like one.
func watchful(cfg Config) Config {
	cfg.PingEvery, cfg.PingLost = 500*time.Millisecond, 4*time.Second
	return cfg
}

func TestHangIsFoundAndItsErrorSaysWhere(t *testing.T) {
	forkedOnly(t, func(t *testing.T, cfg Config) {
		p, halt := runPool(t, watchful(cfg))
		for command, where := range map[string]string{"hold_gil": " in hold_gil", "block_the_loop": " in block_the_loop"} {
			_, err := once(t, p, pyCall(command, nil))
			var hung *HungError
			if !errors.As(err, &hung) || hung.For != "PONG" || !strings.Contains(hung.Stack, where) {
				t.Errorf("%s: got %v with stack %q, want a lost PONG and the stack", command, err, hung.stackOf())
			}
			if !strings.Contains(err.Error(), "it is at ") {
				t.Errorf("%s: got %v, want the place", command, err)
			}
			serves(t, p)
		}
		halt()
	})
}

func (e *HungError) stackOf() string {
	if e == nil {
		return ""
	}
	return e.Stack
}

// allServe waits until n workers take calls and do nothing.
func allServe(t *testing.T, p *Pool, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // only so that a failure shows where
	defer cancel()
	var whole []*Slot
	for range n {
		s, err := p.Checkout(ctx, 0, Alone)
		if err != nil {
			t.Fatal(err)
		}
		whole = append(whole, s)
	}
	for _, s := range whole {
		s.Release()
	}
}

func TestCancelledCallEndsSoftlyOrWithItsWorkerAlone(t *testing.T) {
	forkedOnly(t, func(t *testing.T, cfg Config) {
		cfg, exited := withExits(cfg)
		cfg.Size = 2
		p, halt := runPool(t, cfg)
		for _, c := range []struct {
			command string
			args    map[string]any
			where   string // "": the worker lives
		}{
			{"sleep", map[string]any{"ms": 600_000}, ""},
			{"spin", map[string]any{"ms": 600_000}, ""}, // a synchronous function, in a thread
			{"deaf", nil, " in deaf"},
			{"nap", map[string]any{"ms": 600_000}, " in nap"},
		} {
			allServe(t, p, 2)
			s, other := checkout(t, p), checkout(t, p) // of the other worker: the least loaded
			cancelOne(t, s, c.command, c.args)
			if c.where != "" {
				var hung *HungError
				if e := <-exited; e.ID != s.WorkerID() || !errors.As(e.Err, &hung) || !strings.Contains(hung.Stack, c.where) {
					t.Errorf("%s: got %v with stack %q, want the worker ended for its hang", c.command, e.Err, hung.stackOf())
				}
			}
			if _, err := other.Call(t.Context(), pyCall("echo", nil), nil); err != nil {
				t.Errorf("%s: the other worker: %v", c.command, err)
			}
			other.Release()
			allServe(t, p, 2) // the slot has come back
			if st := p.Stats(); c.where == "" && st.Workers[0].Restarts+st.Workers[1].Restarts > 0 {
				t.Errorf("%s: got %+v, want the first workers", c.command, st)
			}
		}
		halt()
	})
}

// begun reports whether a call of the slot is in flight.
func (s *Slot) begun() bool {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return s.call != nil
}

// cancelOne calls, gives up once the worker has begun, and releases the slot.
func cancelOne(t *testing.T, s *Slot, command string, args map[string]any) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if command == "sleep" || command == "spin" { // they do not report that they run; a CANCEL that comes with the CALL is good, too
		go func() {
			for !s.begun() {
				runtime.Gosched()
			}
			cancel()
		}()
	}
	if _, err := s.Call(ctx, pyCall(command, args), func([]byte) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("%s: got %v, want the end of the context", command, err)
	}
	s.Release()
}

func TestNothingThatAWorkerForkedOutlivesIt(t *testing.T) {
	bothWays(t, func(t *testing.T, cfg Config) {
		p, halt := runPool(t, cfg)
		path, gone := fifo(t)
		keep, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := once(t, p, pyCall("fork_bomb", map[string]any{"count": 20, "fifo": path})); err != nil {
			t.Fatal(err)
		}
		keep.Close()
		if _, err := once(t, p, pyCall("exit", nil)); err == nil {
			t.Error("expected an error from a worker that exits")
		}
		gone(20)
		serves(t, p)
		halt()
	})
}

func TestWorkerThatIgnoresEverySignalItCanIsEndedAllTheSame(t *testing.T) {
	forkedOnly(t, func(t *testing.T, cfg Config) {
		p, halt := runPool(t, cfg)
		if _, err := once(t, p, pyCall("ignore_sigterm", nil)); err != nil {
			t.Error(err)
		}
		s := checkout(t, p)
		running := make(chan struct{}, 1)
		ended := make(chan error, 1)
		go func() {
			_, err := s.Call(t.Context(), pyCall("block_the_loop", nil), func([]byte) { running <- struct{}{} })
			ended <- err
		}()
		<-running
		halt()
		var exit *ExitError
		if err := <-ended; !errors.As(err, &exit) || exit.Signal != syscall.SIGKILL || !errors.Is(err, ErrStopped) {
			t.Errorf("got %v, want SIGKILL at the pool's end", err)
		}
	})
}

func TestLeakingWorkerIsReplacedOrKilledByItsOwnMemory(t *testing.T) {
	forkedOnly(t, func(t *testing.T, cfg Config) {
		cfg, exited := withExits(cfg)
		cfg.PingEvery = 20 * time.Millisecond
		cfg.Recycle = Recycle{Jobs: -1, Age: -1, Memory: 100 << 20, HardMemory: 300 << 20}
		p, halt := runPool(t, cfg)
		s := checkout(t, p)
		if _, err := s.Call(t.Context(), pyCall("leak", map[string]any{"mb": 120}), nil); err != nil {
			t.Error(err)
		}
		s.Release()
		if e := <-exited; e.ID != s.WorkerID() || e.Err != nil || e.From != Stopping {
			t.Errorf("soft limit: got %+v, want a planned end", e)
		}
		if st := p.Stats(); st.Recycled != 1 {
			t.Errorf("got %d replaced workers, want 1", st.Recycled)
		}
		s = checkout(t, p)
		_, err := s.Call(t.Context(), pyCall("leak_and_stay", map[string]any{"mb": 320}), nil)
		if _, ok := errors.AsType[*MemoryError](err); !ok {
			t.Errorf("hard limit: got %v, want it killed for its memory", err)
		}
		s.Release()
		serves(t, p)
		halt()
	})
}

func TestMemoryThatIsSharedWithTheZygoteIsNotCounted(t *testing.T) {
	cfg := pythonConfig(t, true, map[string]any{"imports": []string{"ballast"}})
	p, _ := runPool(t, cfg)
	serves(t, p)
	p.mu.Lock()
	own := p.supervisors[0].w.Child.OwnMemory(0)
	p.mu.Unlock()
	if own == 0 || own > 40<<20 {
		t.Errorf("got %d MiB of its own, want little", own>>20)
	}
	if all := p.Stats().Workers[0].RSS; all < 100<<20 {
		t.Errorf("got %d MiB in all, want much", all>>20)
	}
}

func TestRecyclingUnderLoadLosesNoCall(t *testing.T) {
	forkedOnly(t, func(t *testing.T, cfg Config) {
		cfg.Size, cfg.Spares, cfg.PingEvery = 2, 1, 10*time.Millisecond
		cfg.Recycle = Recycle{Jobs: -1, Age: -1, Memory: 1, HardMemory: -1} // always too much
		p, halt := runPool(t, cfg)
		calls := make(chan error)
		stop := make(chan struct{})
		for range 8 {
			go func() {
				for !proc.IsClosed(stop) {
					s, err := p.Checkout(t.Context(), 0)
					if err == nil {
						_, err = s.Call(t.Context(), pyCall("sleep", map[string]any{"ms": 3}), nil)
						s.Release()
					}
					calls <- err
				}
				calls <- errEnded
			}()
		}
		for n := 0; p.Stats().Recycled < 10; n++ {
			if err := <-calls; err != nil {
				t.Fatalf("call %d: %v", n, err)
			}
		}
		close(stop)
		for ended := 0; ended < 8; {
			if err := <-calls; errors.Is(err, errEnded) {
				ended++
			} else if err != nil {
				t.Error(err)
			}
		}
		halt()
	})
}

func TestModuleWithAThreadMakesThePoolSpawn(t *testing.T) {
	h := &programtest.Lines{}
	cfg := pythonConfig(t, true, map[string]any{"imports": []string{"threaded"}})
	cfg.Log = slog.New(h)
	p, halt := runPool(t, cfg)
	serves(t, p)
	halt()
	if text := strings.Join(h.All(), "\n"); !strings.Contains(text, "poller") || !strings.Contains(text, "workers_not_forked") {
		t.Errorf("got log %.2000q, want the thread named", text)
	}
}

func TestQuarantineTellsWhatPythonSaid(t *testing.T) {
	forkedOnly(t, func(t *testing.T, cfg Config) {
		cfg.Init = pythonConfig(t, false, map[string]any{"imports": []string{"broken_import"}}).Init
		quick.Failures = 2
		defer func() { quick.Failures = 1000 }()
		p, halt := runPool(t, cfg)
		_, err := p.Checkout(t.Context(), 0)
		var away *UnavailableError
		if !errors.As(err, &away) || !strings.Contains(err.Error(), "no such licence") {
			t.Errorf("got %v, want unavailable with the reason", err)
		}
		halt()
	})
}

func ExampleHungError() {
	err := &HungError{Worker: "h/1", Waited: 10 * time.Second, For: "PONG", Stack: "Current thread 0x1\n  tools.py:12 in search\n"}
	fmt.Println(err)
	// Output: pyproc: worker h/1 is hung: PONG did not come within 10s, it is at tools.py:12 in search
}

func TestFilesThatModulesKeepOpenAreNotTakenForPipes(t *testing.T) {
	bothWays(t, func(t *testing.T, cfg Config) {
		cfg.Init = pythonConfig(t, false, map[string]any{"imports": []string{"keeping_files"}}).Init
		p, halt := runPool(t, cfg)
		for range 3 {
			f, err := once(t, p, pyCall("read_kept", nil))
			if err != nil || f.Type != frame.Result {
				t.Fatalf("got %v, %v; want a result", f.Type, err)
			}
			body, err := frame.ParseResult(f.Body)
			if err != nil {
				t.Fatal(err)
			}
			text, err := wire.AppendJSON(nil, body.Value)
			if want := `"data":["data 0","data 1","data 2"]`; err != nil || !strings.Contains(string(text), want) {
				t.Errorf("got %s, %v; want %s", text, err, want)
			}
		}
		if st := p.Stats().Workers[0]; st.Restarts != 0 {
			t.Errorf("got %+v, want the first worker", st)
		}
		halt()
	})
}
