package proc

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"
)

// Spec is what a process is started from.
type Spec struct {
	Command []string
	Env     []string // with the nonce in it
	Dir     string
	Nonce   string
	Channel *os.File // one more descriptor of the worker, nil if there is none
}

// Child is a started process as its owner sees it. Tests put goroutines in its place.
type Child struct {
	PID            int
	ToWorker       Sink          // fd 3
	FromWorker     io.ReadCloser // fd 4
	Stdout, Stderr LogPipe       // fds 1, 2

	// Wait blocks until the process has ended and leaves it unreaped where the platform can: as long as it is, its
	// process group id cannot become another's.
	Wait func()
	// Signal goes to the process group. Only between start and reap.
	Signal func(syscall.Signal)
	// AskStacks makes the process write where each of its threads stands to stderr. Only between start and reap.
	AskStacks func()
	// OwnMemory returns the bytes that nobody else has, 0 if it cannot be told or all its memory is less than atLeast.
	OwnMemory func(atLeast uint64) uint64
	// Reap takes the status after Wait.
	Reap func() ExitStatus
}

// Sink is the host's end of a worker's fd 3.
type Sink interface {
	// Try takes what fits into the pipe now, in one system call, and does not wait. n may be short and 0.
	Try(head, body []byte) (n int, err error)
	io.WriteCloser // Write waits until everything is taken
}

// SmallFrame is the size up to which copying a body costs less than a vectored write, or a write of its own.
const SmallFrame = 8 << 10

// ExitStatus is how a process has ended.
type ExitStatus struct {
	Code   int // -1 if a signal ended it
	Signal syscall.Signal
	Why    error // what else is known of it
}

// Spawner starts all processes of a pool from one thread that lives as long as any of them: Linux sends the parent-death
// signal when the thread that forked ends, not the process.
type Spawner struct {
	starts chan func()
}

// NewSpawner makes a spawner, for which somebody must call Run.
func NewSpawner() *Spawner { return &Spawner{starts: make(chan func())} }

// Run ends with Close, and the thread with it: it is never unlocked.
func (s *Spawner) Run() {
	runtime.LockOSThread()
	for start := range s.starts {
		start()
	}
}

// Close ends Run, and with it all processes. Nothing may be started then.
func (s *Spawner) Close() { close(s.starts) }

// Do starts something on the thread and waits for it.
func (s *Spawner) Do(start func()) {
	done := make(chan struct{})
	s.starts <- func() {
		defer close(done)
		start()
	}
	<-done
}

// Spawn starts one process and waits for it to run its program.
func (s *Spawner) Spawn(_ context.Context, sp Spec) (*Child, error) {
	return s.start(sp, func() (*Child, error) { return Start(sp) })
}

func (s *Spawner) start(sp Spec, start func() (*Child, error)) (c *Child, err error) {
	s.Do(func() { c, err = start() })
	if err != nil {
		return nil, fmt.Errorf("cannot start %q: %w", sp.Command[0], err)
	}
	return c, nil
}
