package pyproc

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"
)

// spec is what a process is started from.
type spec struct {
	command []string
	env     []string // with the nonce in it
	dir     string
	nonce   string
	channel *os.File // one more descriptor of the worker, nil if there is none
}

// child is a started process as its owner sees it. Tests put goroutines in its place.
type child struct {
	pid            int
	toWorker       sink          // fd 3
	fromWorker     io.ReadCloser // fd 4
	stdout, stderr logPipe       // fds 1, 2

	// wait blocks until the process has ended and leaves it unreaped where the platform can: as long as it is, its
	// process group id cannot become another's.
	wait func()
	// signal goes to the process group. Only between start and reap.
	signal func(syscall.Signal)
	// askStacks makes the process write where each of its threads stands to stderr. Only between start and reap.
	askStacks func()
	// ownMemory returns the bytes that nobody else has, 0 if it cannot be told or all its memory is less than atLeast.
	ownMemory func(atLeast uint64) uint64
	// reap takes the status after wait.
	reap func() exitStatus
}

type exitStatus struct {
	code   int // -1 if a signal ended it
	signal syscall.Signal
	why    error // what else is known of it
}

// spawner starts all processes of a pool from one thread that lives as long as any of them: Linux sends the parent-death
// signal when the thread that forked ends, not the process.
type spawner struct {
	starts chan func()
}

func newSpawner() *spawner { return &spawner{starts: make(chan func())} }

// run ends when starts is closed, and the thread with it: it is never unlocked.
func (s *spawner) run() {
	runtime.LockOSThread()
	for start := range s.starts {
		start()
	}
}

// do starts something on the thread and waits for it.
func (s *spawner) do(start func()) {
	done := make(chan struct{})
	s.starts <- func() {
		defer close(done)
		start()
	}
	<-done
}

// spawn starts one process and waits for it to run its program.
func (s *spawner) spawn(_ context.Context, sp spec) (*child, error) {
	var c *child
	var err error
	s.do(func() { c, err = startProcess(sp) })
	if err != nil {
		return nil, fmt.Errorf("cannot start %q: %w", sp.command[0], err)
	}
	return c, nil
}
