package pyproc

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/dspex/dspex/internal/fair"
	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/pyproc/pace"
)

// Config is what to run and how patiently. Zero durations and a zero MaxFrame mean the documented default.
type Config struct {
	Command []string                                            // argv of a worker: any program that implements the frames
	Env     []string                                            // the whole environment of a worker; DSPEX_NONCE is added
	Dir     string                                              // working directory, "" is the host's
	Init    func(worker string) []byte                          // the config map of INIT in MessagePack; nil is the empty map
	Scratch string                                              // directory in which each worker may have one of its own, named by its number; "" is none. They go with their workers
	Channel func() (theirs *os.File, ours io.Closer, err error) // makes one more descriptor for each worker, 5 (contract/frame.md), and what is closed with it; nil: none
	Name    string                                              // host name: workers are "<Name>/<n>", n from 1
	Size    int                                                 // workers

	Overflow     int           // workers more while callers wait for a slot
	OverflowIdle time.Duration // how long they stay when one worker less would do: 50 s, so that they are gone within a minute
	Spares       int           // workers that wait in reserve for the death of another
	Zygote       bool          // Command can be a fork server (contract/frame.md): workers are forked from it. On Linux; elsewhere they are spawned
	Basic        bool          // no PING, no worker is preferred, warm or not: hangs are found by the calls' own deadlines
	Recycle      Recycle       // when a worker is replaced by a fresh one
	Weights      fair.Weights  // of the tenants of Turn

	StartTimeout time.Duration // start to READY: 60 s
	PingEvery    time.Duration // between two PINGs: 2 s
	PingLost     time.Duration // silence after an unanswered PING after which a worker counts as hung and is killed: 10 s
	StopGrace    time.Duration // SHUTDOWN to SIGTERM: 5 s

	MaxFrame int          // largest body in bytes, both ways: frame.DefaultMax
	Log      *slog.Logger // nil: nothing is logged
	OnEvent  func(Event)  // edges of the workers' states, in order, from one goroutine, never under a lock
}

// Recycle is when a worker is replaced by a fresh one.
type Recycle = pace.Recycle

// Times that are not configured (facts: the cancellation ladder and the stop ladder).
const (
	lookEvery        = 2 * time.Second        // between two looks at what only time shows: age, memory, silence, overflow that idles
	handshakeTimeout = 5 * time.Second        // start to HELLO, which comes before any import
	cancelGrace      = 2 * time.Second        // CANCEL to the end of the worker
	termGrace        = 2 * time.Second        // SIGTERM to SIGKILL
	exitGrace        = 3 * time.Second        // end of file to SIGKILL: a process that ends keeps its own exit code; on a starved machine its end is known late
	reapTimeout      = 5 * time.Second        // SIGKILL to giving up the wait: the supervisor starts another worker, a goroutine goes on waiting
	drainTimeout     = 250 * time.Millisecond // end of process to failing its calls, if a stray grandchild holds a pipe open
)

// maxSlots bounds what READY may claim.
const maxSlots = 1024

func (c Config) withDefaults() Config {
	for d, otherwise := range map[*time.Duration]time.Duration{
		&c.StartTimeout: 60 * time.Second, &c.PingEvery: 2 * time.Second, &c.PingLost: 10 * time.Second, &c.StopGrace: 5 * time.Second,
		&c.OverflowIdle: 50 * time.Second,
	} {
		if *d == 0 {
			*d = otherwise
		}
	}
	if c.MaxFrame == 0 {
		c.MaxFrame = frame.DefaultMax
	}
	c.Recycle = c.Recycle.WithDefaults()
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.OnEvent == nil {
		c.OnEvent = func(Event) {}
	}
	return c
}

// problems names everything that is wrong, at once.
func (c Config) problems() error {
	var all []error
	expect := func(ok bool, text string, got any) {
		if !ok {
			all = append(all, fmt.Errorf("pyproc: expected %s, got %v", text, got))
		}
	}
	expect(len(c.Command) > 0 && c.Command[0] != "", "Command to name a program", c.Command)
	expect(c.Name != "", "Name to be the host's name", `""`)
	expect(c.Size >= 1, "Size of at least 1 worker", c.Size)
	expect(c.Overflow >= 0, "Overflow of 0 or more workers", c.Overflow)
	expect(c.Spares >= 0, "Spares of 0 or more workers", c.Spares)
	expect(c.OverflowIdle > 0, "OverflowIdle above 0", c.OverflowIdle)
	expect(c.StartTimeout > 0, "StartTimeout above 0", c.StartTimeout)
	expect(c.PingEvery > 0, "PingEvery above 0", c.PingEvery)
	expect(c.PingLost > 0, "PingLost above 0", c.PingLost)
	expect(c.StopGrace > 0, "StopGrace above 0", c.StopGrace)
	expect(c.MaxFrame > 0 && c.MaxFrame <= frame.HardMax, fmt.Sprintf("MaxFrame of 1 to %d bytes", frame.HardMax), c.MaxFrame)
	return errors.Join(all...)
}
