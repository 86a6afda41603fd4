//go:build linux || darwin

package pyproc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/programtest"
	"github.com/dspex/dspex/internal/pyproc/pace"
	"github.com/dspex/dspex/internal/pyproc/proc"
	"github.com/dspex/dspex/internal/wire"
)

// quick are the rules of tests that kill often.
var quick = pace.Rules{First: time.Millisecond, Most: time.Millisecond, Healthy: time.Minute, Failures: 1000, Within: time.Minute, Quarantine: time.Minute}

// testConfig runs this test binary as the worker.
func testConfig(mode string) Config {
	return Config{
		Command: []string{os.Args[0]}, Env: []string{"DSPEX_TEST=worker", "MODE=" + mode, "GORACE=atexit_sleep_ms=0"}, Name: "h", Size: 1,
		StopGrace: 50 * time.Millisecond,
	}
}

// runPool runs a pool of processes until the test ends, and checks that it ends clean.
func runPool(t testing.TB, cfg Config) (p *Pool, halt func()) {
	t.Helper()
	p = New(cfg)
	p.rules = quick
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	halt = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if p.illegal > 0 {
			t.Errorf("%d illegal edges", p.illegal)
		}
	})
	t.Cleanup(halt)
	return p, halt
}

func checkout(t testing.TB, p *Pool) *Slot {
	t.Helper()
	s, err := p.Checkout(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// withExits adds a channel with the end of every worker.
func withExits(cfg Config) (Config, <-chan Event) {
	exits := make(chan Event, 1000)
	cfg.OnEvent = func(e Event) {
		if e.To == Exited {
			exits <- e
		}
	}
	return cfg, exits
}

// once makes one call in a slot of its own.
func once(t testing.TB, p *Pool, body []byte) (frame.Frame, error) {
	t.Helper()
	s := checkout(t, p)
	defer s.Release()
	return s.Call(t.Context(), body, nil)
}

func TestManyCallersShareTwoProcesses(t *testing.T) {
	cfg := testConfig("slots 8")
	cfg.Size = 2
	p, _ := runPool(t, cfg)
	var all sync.WaitGroup
	for caller := range 32 {
		all.Go(func() {
			for i := range 50 {
				value := wire.AppendStr(wire.AppendStr(wire.AppendMap(nil, 1), "k"), strings.Repeat(fmt.Sprint(caller, i), 1+i*40))
				body := frame.CallBody{Command: "echo", Args: value, Job: "j"}.AppendBody(nil)
				f, err := once(t, p, body)
				if err != nil {
					t.Error(err)
					return
				}
				if r, err := frame.ParseResult(f.Body); err != nil || !bytes.Equal(r.Value, value) {
					t.Errorf("got another value, %v", err)
				}
			}
		})
	}
	all.Wait()
	st := p.Stats()
	switch {
	case st.Available != 16:
		t.Errorf("st.Available must be 16, got %v; got %+v", st.Available, st)
	case st.Active != 0:
		t.Errorf("st.Active must be 0, got %v; got %+v", st.Active, st)
	case st.Workers[0].Jobs == 0:
		t.Errorf("st.Workers[0].Jobs must not be 0; got %+v", st)
	case st.Workers[0].Jobs+st.Workers[1].Jobs != 32*50:
		t.Errorf("st.Workers[0].Jobs+st.Workers[1].Jobs must be 32*50, got %v; got %+v", st.Workers[0].Jobs+st.Workers[1].Jobs, st)
	}
}

func TestBodiesLargerThanThePipeCrossBothWays(t *testing.T) {
	p, _ := runPool(t, testConfig(""))
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			value := wire.AppendBin(wire.AppendStr(wire.AppendMap(nil, 1), "k"), bytes.Repeat([]byte("0123456789"), 700_000))
			f, err := once(t, p, frame.CallBody{Command: "echo", Args: value, Job: "j"}.AppendBody(nil))
			if err != nil {
				t.Error(err)
				return
			}
			if r, err := frame.ParseResult(f.Body); err != nil || !bytes.Equal(r.Value, value) {
				t.Errorf("got another value, %v", err)
			}
		})
	}
	all.Wait()
}

func TestTellArrivesBeforeTheNextCall(t *testing.T) {
	h := &programtest.Lines{}
	cfg := testConfig("")
	cfg.Log = slog.New(h)
	p, halt := runPool(t, cfg)
	s := checkout(t, p)
	for range 20 {
		if err := s.Send(frame.LM, frame.LMBody{Key: "k"}.AppendBody(nil)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Call(t.Context(), callBody("echo", 0), nil); err != nil {
			t.Fatal(err)
		}
	}
	s.Release()
	halt()
	if n := strings.Count(strings.Join(h.All(), "\n"), "got LM logger=speaker"); n != 20 {
		t.Errorf("got %d LOG frames in the log, want 20", n)
	}
}

func TestTellAllReachesEveryWorkerThatServes(t *testing.T) {
	h := &programtest.Lines{}
	cfg := testConfig("")
	cfg.Log, cfg.Size = slog.New(h), 3
	p, halt := runPool(t, cfg)
	held := []*Slot{}
	for range 3 { // all three have started
		s, err := p.Checkout(t.Context(), 0, Alone)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, s)
	}
	p.SendAll(frame.LM, frame.LMBody{Key: "k"}.AppendBody(nil))
	for _, s := range held {
		if _, err := s.Call(t.Context(), callBody("echo", 0), nil); err != nil {
			t.Fatal(err)
		}
		s.Release()
	}
	halt()
	if n := strings.Count(strings.Join(h.All(), "\n"), "got LM logger=speaker"); n != 3 {
		t.Errorf("%d workers were told, want 3", n)
	}
}

func TestDeathsAreToldToTheCall(t *testing.T) {
	p, _ := runPool(t, testConfig(""))
	for _, c := range []struct {
		command string
		n       int
		code    int
		signal  syscall.Signal
		tail    string
		cause   string
	}{
		{"exit", 7, 7, 0, "Traceback: last words\n", ""},
		{"exit", 0, 0, 0, "Traceback: last words\n", ""},
		{"die of", int(syscall.SIGKILL), -1, syscall.SIGKILL, "", ""},
		{"die of", int(syscall.SIGTERM), -1, syscall.SIGTERM, "", ""},
		{"half frame", 0, 5, 0, "", ""},
		{"garbage", 0, -1, syscall.SIGKILL, "", "magic"},
		{"unknown id", 0, -1, syscall.SIGKILL, "", "RESULT for a call that is not in flight"},
		{"close pipe", 0, -1, syscall.SIGKILL, "", "closed a pipe and did not end"},
	} {
		before := checkout(t, p)
		_, err := before.Call(t.Context(), callBody(c.command, c.n), nil)
		before.Release()
		var exit *ExitError
		if !errors.As(err, &exit) {
			t.Errorf("%s %d: must be an ExitError, got %v", c.command, c.n, err)
			continue
		}
		if exit.Code != c.code || exit.Signal != c.signal {
			t.Errorf("%s %d: must end with code %d and signal %v, got %+v", c.command, c.n, c.code, c.signal, exit)
		}
		if exit.StderrTail != c.tail {
			t.Errorf("%s %d: the tail of stderr must be %q, got %q", c.command, c.n, c.tail, exit.StderrTail)
		}
		if exit.PID == 0 || exit.Worker != "h/1" {
			t.Errorf("%s %d: must name worker h/1 and its process, got %+v", c.command, c.n, exit)
		}
		var protocol *ProtocolError
		if errors.As(err, &protocol) != (c.cause != "") || !strings.Contains(err.Error(), c.cause) {
			t.Errorf("%s: got cause %v, want %q", c.command, exit.Cause, c.cause)
		}
		if _, err := before.Call(t.Context(), callBody("echo", 0), nil); !errors.Is(err, ErrInUse) && !errors.As(err, &exit) {
			t.Errorf("%s: call after death: got %v", c.command, err)
		}
	}
}

func TestUnreadableAnswersKillTheWorker(t *testing.T) {
	cfg, exited := withExits(testConfig(""))
	p, _ := runPool(t, cfg)
	for _, command := range []string{"bad value", "bad chunk"} {
		s := checkout(t, p)
		_, err := s.Call(t.Context(), callBody(command, 0), func([]byte) { t.Error("an unchecked chunk was handed out") })
		s.Release()
		var protocol *ProtocolError
		if !errors.As(err, &protocol) {
			t.Errorf("%s: got %v, want a protocol error", command, err)
		}
		if e := <-exited; e.ID != s.WorkerID() || !errors.As(e.Err, &protocol) {
			t.Errorf("%s: got %+v, want the worker killed for it", command, e)
		}
	}
}

func TestAnswerWrittenBeforeDeathIsNotLost(t *testing.T) {
	cfg, exited := withExits(testConfig(""))
	p, _ := runPool(t, cfg)
	for range 30 {
		f, err := once(t, p, callBody("answer and exit", 1))
		if err != nil || f.Type != frame.Result {
			t.Fatalf("got %v, %v; want the RESULT", f.Type, err)
		}
		<-exited // else the next call may meet the same worker and die with it
	}
}

func TestFloodOfStderrNeitherBlocksNorFills(t *testing.T) {
	h := &programtest.Lines{}
	cfg := testConfig("")
	cfg.Log = slog.New(h)
	p, halt := runPool(t, cfg)
	if _, err := once(t, p, callBody("flood", 16)); err != nil { // warm
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := once(t, p, callBody("flood", 1600)); err != nil { // 100 MB, one line
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 8<<20 {
		t.Errorf("100 MB on stderr made the host allocate %d bytes", got)
	}
	_, err := once(t, p, callBody("exit", 1))
	var exit *ExitError
	if !errors.As(err, &exit) || len(exit.StderrTail) != proc.MaxTail || !strings.HasSuffix(exit.StderrTail, "\nend of flood\nTraceback: last words\n") {
		t.Errorf("got a tail of %d bytes, want the last %d", len(exit.StderrTail), proc.MaxTail)
	}
	halt()
	text := strings.Join(h.All(), "\n")
	if !strings.Contains(text, "end of flood stream=stderr") || !strings.Contains(text, "bytes_cut=104841216") {
		t.Errorf("got log %.300q", text)
	}
}

func TestPrintsBecomeLogLinesAndNeverFrames(t *testing.T) {
	h := &programtest.Lines{}
	cfg := testConfig("")
	cfg.Log = slog.New(h)
	p, halt := runPool(t, cfg)
	if _, err := once(t, p, callBody("lines", 50)); err != nil {
		t.Fatal(err)
	}
	halt()
	if text := strings.Join(h.All(), "\n"); !strings.Contains(text, "line 0 stream=stdout") || !strings.Contains(text, "line 49 stream=stdout") {
		t.Errorf("got log %.300q", text)
	}
}

func TestStubbornProcessIsKilledAtTheEnd(t *testing.T) {
	p, halt := runPool(t, testConfig("stubborn"))
	if err := p.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	pid := p.Stats().Workers[0].PID
	halt()
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d: got %v, want it gone", pid, err)
	}
}

func TestStoppedProcessIsFoundByItsSilence(t *testing.T) {
	cfg := testConfig("")
	cfg.PingEvery, cfg.PingLost = 20*time.Millisecond, 100*time.Millisecond
	p, _ := runPool(t, cfg)
	_, err := once(t, p, callBody("die of", int(syscall.SIGSTOP)))
	var hung *HungError
	if !errors.As(err, &hung) || hung.For != "PONG" || hung.Stack != "" {
		t.Errorf("got %v, want a lost PONG", err)
	}
}

func TestProcessesThatDoNotStartSayWhy(t *testing.T) {
	for mode, want := range map[string]string{
		"silent":       "HELLO did not come",
		"newer":        "has 2 to 3",
		"exit at once": "No module named 'dspy'",
		"init error":   "initialization (import_failed)",
		"chatter":      "magic",
	} {
		cfg := testConfig(mode)
		if mode == "silent" {
			cfg.StartTimeout = 200 * time.Millisecond
		}
		p, _ := runPool(t, cfg)
		if err := p.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", mode, err, want)
		}
	}
	cfg := testConfig("")
	cfg.Command = []string{"/no/such/program"}
	p, _ := runPool(t, cfg)
	if err := p.Ready(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want a program that does not exist", err)
	}
}

// fifo makes a named pipe and opens it for reading. gone waits until n processes have opened and all have closed it.
func fifo(t *testing.T) (path string, gone func(n int)) {
	path = filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return path, func(n int) {
		t.Helper()
		f.SetReadDeadline(time.Now().Add(30 * time.Second)) // only so that a failure shows where
		all, err := io.ReadAll(f)
		if err != nil {
			t.Fatalf("processes still live: %v", err)
		}
		if got := strings.Count(string(all), "here\n"); got != n {
			t.Fatalf("%d processes were there, want %d", got, n)
		}
	}
}

func TestGrandchildrenDieWithTheirWorker(t *testing.T) {
	path, gone := fifo(t)
	p, _ := runPool(t, testConfig(""))
	keep, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0) // no end of file before the grandchild is there
	if err != nil {
		t.Fatal(err)
	}
	body := frame.CallBody{Command: "grandchild", Job: path}.AppendBody(nil)
	if _, err := once(t, p, body); err != nil {
		t.Fatal(err)
	}
	awaitHolder(t, keep, path)
	if _, err := once(t, p, callBody("exit", 1)); err == nil {
		t.Fatal("expected an error from a worker that exits")
	}
	gone(0)
}

// awaitHolder waits for the line that a holder writes when it has the FIFO open, then lets go of it.
func awaitHolder(t *testing.T, keep *os.File, path string) {
	t.Helper()
	r, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	r.SetReadDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.ReadFull(r, make([]byte, len("here\n"))); err != nil {
		t.Fatalf("no grandchild: %v", err)
	}
	keep.Close()
}

func TestStrayGrandchildThatHoldsStderrDelaysNobodyForLong(t *testing.T) {
	path, _ := fifo(t)
	p, _ := runPool(t, testConfig(""))
	keep, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	body := frame.CallBody{Command: "grandchild", BudgetMS: 1, Job: path}.AppendBody(nil) // in a group of its own
	if _, err := once(t, p, body); err != nil {
		t.Fatal(err)
	}
	awaitHolder(t, keep, path)
	_, err = once(t, p, callBody("exit", 3))
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Code != 3 || exit.StderrTail != "Traceback: last words\n" {
		t.Errorf("got %v, want exit status 3 with the tail", err)
	}
	if _, err := once(t, p, callBody("echo", 0)); err != nil {
		t.Errorf("the place was not filled again: %v", err)
	}
}

func TestSignalsAreNamedAndAForeignKillIsCalledOutOfMemory(t *testing.T) {
	text := (&ExitError{Worker: "h/1", Code: -1, Signal: syscall.SIGSEGV}).Error()
	if !strings.Contains(text, "SIGSEGV (segmentation fault)") || strings.Contains(text, "memory") {
		t.Errorf("got %q", text)
	}
	killed := &ExitError{Worker: "h/1", Code: -1, Signal: syscall.SIGKILL, RSS: 812 << 20}
	if text := killed.Error(); !killed.OutOfMemory() || !strings.Contains(text, "out of memory (it had 812 MiB)") {
		t.Errorf("got %q", text)
	}
	killed.Cause = &HungError{Worker: "h/1"}
	if text := killed.Error(); killed.OutOfMemory() || strings.Contains(text, "memory") {
		t.Errorf("got %q", text)
	}
}
