package pyproc

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/pyproc/proc"
	"github.com/dspex/dspex/internal/wire"
)

// fake starts speakers as goroutines: in a synctest bubble every wait of the pool is then exact.
type fake struct {
	mu       sync.Mutex
	modes    []string // of the next starts; the last one stays
	starts   int
	signals  []string
	own      atomic.Uint64 // own memory of every worker
	immortal bool          // not even SIGKILL ends it, until release
	release  chan struct{}
}

// count returns the number of starts.
func (f *fake) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.starts
}

// set is the mode of all further starts.
func (f *fake) set(mode string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.modes = []string{mode}
}

// next takes the mode of one start and numbers it.
func (f *fake) next() (mode string, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.starts++
	if len(f.modes) > 0 {
		mode = f.modes[0]
	}
	if len(f.modes) > 1 {
		f.modes = f.modes[1:]
	}
	return mode, f.starts
}

// fakeSink takes nothing at once: every frame goes the slow way through the writer's goroutine.
type fakeSink struct{ net.Conn }

func (fakeSink) Try([]byte, []byte) (int, error) { return 0, nil }

func (f *fake) start(_ context.Context, sp proc.Spec) (*proc.Child, error) {
	mode, n := f.next()
	if mode == "cannot start" {
		return nil, syscall.ENOENT
	}
	nonce := ""
	for _, e := range sp.Env {
		nonce += strings.TrimPrefix(e, "DSPEX_NONCE=")
	}
	hostOut, workerIn := net.Pipe()
	hostIn, workerOut := net.Pipe()
	stdout, workerStdout := net.Pipe()
	stderr, workerStderr := net.Pipe()
	exited := make(chan struct{})
	var once sync.Once
	status := proc.ExitStatus{}
	end := func(st proc.ExitStatus) {
		once.Do(func() {
			status = st
			for _, c := range []net.Conn{workerIn, workerOut, workerStdout, workerStderr} {
				c.Close()
			}
			close(exited)
		})
	}
	s := &speaker{mode: mode, nonce: nonce, in: workerIn, out: workerOut, stdout: workerStdout, stderr: workerStderr, gone: exited,
		exit: func(code int) { end(proc.ExitStatus{Code: code}); runtime.Goexit() }}
	go s.run()
	return &proc.Child{
		PID: 1000 + n, ToWorker: fakeSink{hostOut}, FromWorker: hostIn, Stdout: stdout, Stderr: stderr,
		Wait:   func() { <-exited },
		Signal: func(sig syscall.Signal) { f.signal(sig, mode, proc.IsClosed(exited), end) },
		RequestStacks: func() {
			if mode != "no pong" {
				go fmt.Fprint(workerStderr, stacks)
			}
		},
		OwnMemory: func(atLeast uint64) uint64 {
			if own := f.own.Load(); own >= atLeast {
				return own
			}
			return 0
		},
		Reap: func() proc.ExitStatus { return status },
	}, nil
}

func (f *fake) signal(sig syscall.Signal, mode string, ended bool, end func(proc.ExitStatus)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if ended {
		return
	}
	f.signals = append(f.signals, sig.String())
	switch {
	case f.immortal:
		release := f.release
		go func() {
			<-release
			end(proc.ExitStatus{Code: -1, Signal: sig})
		}()
	case sig == syscall.SIGKILL || mode != "stubborn":
		end(proc.ExitStatus{Code: -1, Signal: sig})
	}
}

// bench is a pool that runs in a bubble until the test ends.
type bench struct {
	*Pool
	t      *testing.T
	fake   *fake
	stop   context.CancelFunc
	ended  chan struct{}
	mu     sync.Mutex
	events []Event
}

// setUp changes the pool of the next inBubble before it runs.
var setUp = func(*bench) {}

// inBubble runs do with a pool of fakes. modes are those of the starts in their order.
func inBubble(t *testing.T, cfg Config, modes []string, do func(t *testing.T, b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{t: t, fake: &fake{modes: modes, release: make(chan struct{})}, ended: make(chan struct{})}
		cfg.Command, cfg.Name = []string{"fake"}, "h"
		cfg.Size = max(1, cfg.Size)
		cfg.Recycle = cmp.Or(cfg.Recycle, Recycle{Jobs: -1, Age: -1})
		cfg.OnEvent = func(e Event) {
			b.mu.Lock()
			b.events = append(b.events, e)
			b.mu.Unlock()
		}
		b.Pool = New(cfg)
		b.Pool.start = b.fake.start
		setUp(b)
		ctx, stop := context.WithCancel(t.Context())
		b.stop = stop
		go func() {
			defer close(b.ended)
			if err := b.Run(ctx); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		do(t, b)
		b.halt()
		if b.illegal > 0 {
			t.Errorf("%d illegal edges: %v", b.illegal, b.seen(""))
		}
	})
}

// halt ends the pool and waits for it.
func (b *bench) halt() {
	b.stop()
	<-b.ended
}

// seen lists the edges of one worker (or all) as "from>to".
func (b *bench) seen(worker string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []string
	for _, e := range b.events {
		if worker == "" || e.Worker == worker {
			all = append(all, e.From.String()+">"+e.To.String())
		}
	}
	return all
}

func (b *bench) state(n int) State { return b.Stats().Workers[n].State }

// take checks out a slot that must be there.
func (b *bench) take(prefer uint64, opts ...Option) *Slot {
	b.t.Helper()
	s, err := b.Checkout(b.t.Context(), prefer, opts...)
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// callBody is a CALL; n travels as its budget.
func callBody(command string, n int) []byte {
	return frame.CallBody{Command: command, Job: "j", BudgetMS: uint64(n), Args: wire.AppendMap(nil, 0)}.AppendBody(nil)
}
