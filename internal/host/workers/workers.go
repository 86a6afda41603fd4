// Package workers is what a host needs of its workers, and how a pool of Python processes meets it (package pyproc). Test modes
// have pools of their own (package mock).
package workers

import (
	"github.com/dspex/dspex/internal/fair"
	"github.com/dspex/dspex/internal/frame"
)

// Slot is one concurrent call in a worker, taken from a Pool.
type Slot interface {
	WorkerID() uint64 // unique for each process that ever was
	WorkerName() string
	Engine() string // name and version
	// Exclusive reports whether the worker runs nothing else beside the command.
	Exclusive(command string) bool
	// Send sends a frame that belongs to no call; a later Call finds it applied.
	Send(t frame.Type, body []byte) error
	// Call returns the RESULT or ERROR frame; partial gets the bodies of CHUNK frames before. The call is given up with the
	// error of wait.
	Call(body []byte, partial func(body []byte), wait Wait) (frame.Frame, error)
	Release()
}

// Wait waits on the caller's goroutine, which may have other things to do: it returns nil once ready is, or an error to give
// up with.
type Wait = func(ready <-chan struct{}) error

// Want is where a job should run.
type Want struct {
	Prefer uint64 // id of the worker that holds its session's state; 0: none
	Avoid  string // name of a worker to take only if no other has a slot; "": none
	Alone  bool   // a whole worker, once nothing else runs in it
	Turn   fair.Key
}

// Pool hands out slots.
type Pool interface {
	// Checkout takes the preferred worker, else the least loaded one; if none is free it waits with wait.
	Checkout(want Want, wait Wait) (Slot, error)
	// SendAll sends every worker a frame that belongs to no call.
	SendAll(t frame.Type, body []byte)
	// Free is the number of slots that are free now.
	Free() int
	// Room is the number of slots that are free now and, where there is none, of those that overflow workers would have that may
	// be started. changed is closed when there may be more.
	Room() (free, allowed int, changed <-chan struct{})
	Workers() Counts
}

// Counts are a pool's workers at one moment.
type Counts struct {
	Size      int // there should be
	Active    int // of Size, those that serve
	Available int // of Active, those with a free slot
	Overflow  int // that serve above Size
}
