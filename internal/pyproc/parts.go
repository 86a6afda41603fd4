// Package pyproc runs the worker processes of a host and lends out their slots. It starts each worker with two private pipes for frames
// (contract/frame.md) and two log pipes, and shakes hands. A worker has several calls in flight. It is probed with PING and replaced when
// it dies; it is ended by a request first and by SIGKILL last. Whatever a worker does (crash, hang, flood, speak garbage), its calls end
// with an error and the host goes on.
//
// Below it, proc is a process as the operating system has it, and pace decides when a worker is probed, replaced and started again.
//
// It is independent of jobs, sessions and Python: bytes in, bytes out, to any program that implements the frames. It never sends a
// call twice. Linux is the platform it is made for; macOS works without the guarantee that a worker dies with its host.
package pyproc

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dspex/dspex/internal/fair"
	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/pyproc/pace"
	"github.com/dspex/dspex/internal/pyproc/proc"
)

// Pool keeps workers alive, Limits.Size of them and more under load, and lends out their slots. All methods may be called from any goroutine.
type Pool struct {
	cfg     Config // as New got it: what may change is in limits
	rules   pace.Rules
	start   func(context.Context, proc.Spec) (*proc.Child, error) // tests: goroutines instead of processes
	zygotes *zygotes                                              // nil: workers are spawned

	lingering sync.WaitGroup // workers that outlived SIGKILL: Run waits, their supervisors do not

	eventKick chan struct{} // capacity 1: events is not empty

	mu          sync.Mutex
	running     bool
	stopping    bool
	limits      Limits
	employ      func(*supervisor) // starts one's goroutine; nil before Run
	supervisors []*supervisor
	burst       int       // workers above Limits.Size that there should be
	pressed     time.Time // when everything that serves was needed last, if there is a burst
	full        bool      // as many as there should be have served at once
	slots       int       // of one worker, as reported by the last one that became ready
	recycled    int       // workers replaced because they were due
	edges       [numStates][numStates]uint64
	waiters     fair.Queue[*waiter]
	turned      []*waiter     // whose turn has come, and who wait for a whole worker
	changed     chan struct{} // closed and renewed when Ready must look again
	roomChanged chan struct{} // closed and renewed when Room may report more
	roomWatched bool          // somebody has roomChanged
	events      []Event       // not yet reported
	illegal     int           // edges that the table does not have: a bug
}

// supervisor keeps one worker of the pool running: its goroutine starts one after another for as long as the plan needs it.
type supervisor struct {
	pool   *Pool
	name   string
	memory pace.Restarts // of the goroutine
	kick   chan struct{} // capacity 1: wanted has changed

	// under Pool.mu
	wanted      bool // the plan counts on it; never while a worker leaves it permanently
	state       State
	w           *worker // nil while there is none
	starts      int
	startErr    error // why the last start failed, nil since READY
	lastErr     error // the last thing that went wrong, nil since READY
	quarantined bool  // until READY, also while a start is tried
	until       time.Time
}

// worker is one incarnation: a process and what runs for it. Its supervisor's goroutine owns it; a reader goroutine takes
// what it sends; callers use it through slots.
type worker struct {
	peer
	pool       *Pool
	supervisor *supervisor
	id         uint64
	nonce      string
	startedAt  time.Time
	spread     float64 // its share of the limits of Recycle, 0.9 to 1.1
	out        *writer
	channel    io.Closer // its end of Config.Channel, nil if there is none

	control chan frame.Frame // what is not about a call; the reader never waits for room in it
	look    chan struct{}    // capacity 1: something changed that the owner must see
	read    chan struct{}    // closed when the reader has ended, with readErr
	readErr error            // nil at end of file

	// Set by the handshake, under pool.mu, and not changed after.
	hello     frame.HelloBody
	ready     frame.ReadyBody
	exclusive map[string]bool

	received atomic.Bool // a frame has come since the last PING
	rss      atomic.Uint64
	jobs     atomic.Uint64
	dropped  atomic.Uint64 // partials

	mu       sync.Mutex // never held while taking another lock or doing I/O
	calls    map[uint64]*call
	lastCall uint64
	broken   error // why the host must kill it
	death    error // set once: no new calls

	// under pool.mu
	open       bool // takes calls
	readyAt    time.Time
	due        string // why it is to be replaced, "" if it is not
	dueAt      time.Time
	slots      int
	used       int
	published  int // of used, those that published jobs have
	cancelling int
	reserved   *waiter
}

// Slot is one concurrent call in one worker, or the whole worker if it was requested with Alone (also then one
// call at a time). It belongs to the goroutine that checked it out.
type Slot struct {
	w     *worker
	n     int // slots of the worker that it stands for
	class fair.Class

	// under worker.mu
	call     *call // in flight
	released bool
}

// call is one CALL until its RESULT or ERROR.
type call struct {
	id   uint64
	slot *Slot
	wake chan struct{} // capacity 1: something changed below

	// under worker.mu
	wants     bool // partial output
	partials  [][]byte
	bytes     int // of partials
	dropped   int
	done      bool
	final     frame.Frame
	err       error // of the worker's death
	abandoned bool
	due       time.Time // when the worker is ended if an abandoned call has not ended
	mark      int64     // place in stderr when it was abandoned
}

// waiter is a Checkout that waits.
type waiter struct {
	prefer uint64
	avoid  string
	alone  bool
	class  fair.Class
	ready  chan struct{} // closed after slot or err is set

	// under Pool.mu
	at       *fair.Entry[*waiter]
	slot     *Slot
	err      error
	turned   bool    // its turn has come: it waits for its worker to be idle
	reserved *worker // takes nobody else until it is this waiter's
}

// peer is a process that implements the frames.
type peer struct{ *proc.Process }

// freeLocked counts what a Checkout could take now.
func (s *supervisor) freeLocked() int {
	if s.w == nil || !s.w.open || s.w.reserved != nil {
		return 0
	}
	return s.w.slots - s.w.used
}
