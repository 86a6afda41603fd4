package pyproc

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/pyproc/proc"
	"github.com/dspex/dspex/internal/wire"
)

// ErrStopped is the error of Checkout, Ready and calls once the pool's Run is ending.
var ErrStopped = errors.New("pyproc: the pool is stopping")

// ErrInUse is the error of a Call on a slot whose last call has not been answered yet, or that was released.
var ErrInUse = errors.New("pyproc: the slot must be checked out and have no call in flight")

// ExitError reports that a worker is gone, and with it every call it had in flight. Whether such a call had an effect is
// not known.
type ExitError struct {
	Worker     string
	PID        int
	Stage      State          // the state that it was in
	Code       int            // exit status, -1 if a signal ended it or it is not reaped yet
	Signal     syscall.Signal // 0 if it exited
	RSS        uint64         // resident bytes when it was last measured, 0 if never
	StderrTail string         // the last 64 KiB at most
	Cause      error          // why it was ended: by the host, or with its zygote; nil if it ended by itself
}

// OutOfMemory reports a SIGKILL that the host did not send: the kernel's for lack of memory, unless somebody sent one.
func (e *ExitError) OutOfMemory() bool { return e.Signal == syscall.SIGKILL && e.Cause == nil }

// Error reports how the worker ended and the last line it wrote.
func (e *ExitError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "pyproc: worker %s (pid %d) %s while %s", e.Worker, e.PID, e.how(), e.Stage)
	if e.OutOfMemory() {
		fmt.Fprintf(&b, ", which the host did not send: out of memory (it had %d MiB), or killed by hand", e.RSS>>20)
	}
	if e.Cause != nil {
		fmt.Fprintf(&b, ": %v", e.Cause)
	}
	if line := lastLine(e.StderrTail); line != "" {
		fmt.Fprintf(&b, "; last line on stderr: %q", line)
	}
	return b.String()
}

func (e *ExitError) how() string {
	switch {
	case e.Signal != 0:
		return fmt.Sprintf("died of signal %s (%s)", proc.SignalName(e.Signal), e.Signal)
	case e.Code >= 0:
		return fmt.Sprintf("exited with status %d", e.Code)
	}
	return "does not die"
}

// Unwrap returns Cause.
func (e *ExitError) Unwrap() error { return e.Cause }

// lastLine is the last line that is not empty, at most 300 bytes of it.
func lastLine(text string) string {
	text = strings.TrimRight(text, " \t\r\n")
	if i := strings.LastIndexAny(text, "\r\n"); i >= 0 {
		text = text[i+1:]
	}
	if len(text) > 300 {
		text = strings.ToValidUTF8(text[:300], "") + "..."
	}
	return text
}

// ProtocolError reports that a worker broke the contract of frames. The host kills it.
type ProtocolError struct {
	Worker  string
	Problem string
	Err     error // a *frame.ProtocolError if the bytes are the problem, else nil
}

func (e *ProtocolError) Error() string {
	text := "pyproc: worker " + e.Worker + " broke the protocol: " + e.Problem
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns Err.
func (e *ProtocolError) Unwrap() error { return e.Err }

// HungError reports that a worker was killed because it did not answer in time.
type HungError struct {
	Worker string
	Waited time.Duration
	For    string // "PONG", "the end of a cancelled call", "HELLO", "READY"
	// Stack is where its threads stood, the innermost frame first, one frame a line, without values. Empty if it could not
	// say, as before HELLO or when it is stopped; at most 32 KiB.
	Stack string
}

// Error names the innermost frame; Stack has the others.
func (e *HungError) Error() string {
	text := fmt.Sprintf("pyproc: worker %s is hung: %s did not come within %v", e.Worker, e.For, e.Waited)
	if at := proc.Innermost(e.Stack); at != "" {
		text += ", it is at " + at
	}
	return text
}

// MemoryError reports that a worker was killed because its own memory passed the hard limit.
type MemoryError struct {
	Worker   string
	Own, Max uint64 // bytes
}

func (e *MemoryError) Error() string {
	return fmt.Sprintf("pyproc: worker %s has %d MiB of its own memory, at most %d are allowed", e.Worker, e.Own>>20, e.Max>>20)
}

// StartError reports that a worker did not reach READY.
type StartError struct {
	Worker    string
	Stage     State  // Spawning, Handshake or Warming
	Category  string // the worker's own words in its ERROR frame, "" if it sent none
	Code      string
	Message   string
	Hint      string // what to do about it, "" if it did not report it
	Traceback string // of the operator's module that cannot be imported: names and lines, no values
	Err       error  // *ExitError, *ProtocolError, *VersionError or the error of the operating system
}

// say takes over what the worker itself reported.
func (e *StartError) say(own *reported) {
	e.Category, e.Code, e.Message = own.Category, own.Code, own.Message
	var detail struct {
		Hint      string `msgpack:"hint"`
		Traceback string `msgpack:"traceback"`
	}
	if wire.Decode(own.Detail, &detail) == nil {
		e.Hint, e.Traceback = detail.Hint, detail.Traceback
	}
}

func (e *StartError) Error() string {
	text := fmt.Sprintf("pyproc: worker %s did not start (%s)", e.Worker, e.Stage)
	if e.Message != "" {
		text += fmt.Sprintf(": %s (%s): %s", e.Category, e.Code, e.Message)
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns Err.
func (e *StartError) Unwrap() error { return e.Err }

// VersionError reports that host and worker share no version of the protocol. Starting again does not help.
type VersionError struct {
	Worker                      string
	HostVersion                 uint64
	WorkerMin, WorkerMax        uint64
	RuntimeVersion, RuntimeHash string
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("pyproc: the host has frame protocol %d, worker %s (runtime %q, hash %q) has %d to %d",
		e.HostVersion, e.Worker, e.RuntimeVersion, e.RuntimeHash, e.WorkerMin, e.WorkerMax)
}

// UnavailableError reports that no worker can be started and that waiting would be in vain. Err is the last start's.
type UnavailableError struct {
	RetryAfter time.Duration // until the next start is tried
	Err        error
}

func (e *UnavailableError) Error() string {
	return fmt.Sprintf("pyproc: every worker is quarantined after failed starts, next try in %v: %v", e.RetryAfter.Round(time.Millisecond), e.Err)
}

// Unwrap returns Err.
func (e *UnavailableError) Unwrap() error { return e.Err }

// TooLargeError reports that a body is larger than a frame may be. Nothing was sent.
type TooLargeError struct{ Size, Max int }

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("pyproc: a body must have at most %d bytes, got %d", e.Max, e.Size)
}

// reported is the content of an ERROR frame of the connection.
type reported struct{ frame.ErrorBody }

func (r *reported) Error() string { return fmt.Sprintf("%s (%s): %s", r.Category, r.Code, r.Message) }

func isVersion(err error) bool {
	var version *VersionError
	return errors.As(err, &version)
}
