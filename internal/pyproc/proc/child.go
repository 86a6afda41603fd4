package proc

import (
	"io"
	"os"
	"syscall"
	"time"
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
	// RequestStacks makes the process write where each of its threads stands to stderr. Only between start and reap.
	RequestStacks func()
	// OwnMemory returns the bytes that no other process has, 0 if it cannot be measured or all its memory is less than atLeast.
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

// LogPipe is the host's end of fd 1 or 2 of a worker.
type LogPipe interface {
	io.ReadCloser
	SetReadDeadline(time.Time) error
}

// SmallFrame is the size up to which copying a body costs less than a vectored write, or a write of its own.
const SmallFrame = 8 << 10

// ExitStatus is how a process has ended.
type ExitStatus struct {
	Code   int // -1 if a signal ended it
	Signal syscall.Signal
	Why    error // what else is known of it
}
