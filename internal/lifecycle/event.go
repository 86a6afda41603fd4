package lifecycle

import (
	"time"

	"github.com/dspex/dspex/internal/jobs"
)

// EventKind reports what has happened.
type EventKind uint8

// The events. Those with an operation (Op) are answers to the action of the same Op; each may be lost, late or repeated: who
// does not wait for it any more ignores it.
const (
	Delivered       EventKind = iota // Job: a delivery or a redelivery
	CancelRequested                  // ID, Op: a request to cancel the earliest outstanding job of the id
	Ticked                           // the time that Wake named has come
	EpochOver                        // nothing of this core starts any more; what has started goes on
	Cut                              // nothing is this core's business any more
	PredecessorGone                  // the earlier epoch's core has come to rest
	TokenGranted                     // the session may run
	Looked                           // Op: answers Look
	Owned                            // Op: answers Own
	Compared                         // Op: answers Compare
	KeptAlive                        // the broker was sent the job's progress
	AttemptsRead                     // Op: answers ReadAttempts
	Fetched                          // Op: answers Fetch
	ResultRead                       // Op: answers ReadResult
	RoomLooked                       // Op: answers CheckRoom; Fault is NoSpace if there is none
	SlotGranted                      // Op: answers Acquire
	SlotRefused                      // Op: answers Acquire
	Wrote                            // Op: answers every write
	Answered                         // Op: answers Call, always, even if it was given up
	events
)

// Event is one thing that has happened.
type Event struct {
	Kind EventKind
	Op   uint32

	Job           *Job   // Delivered
	Token         uint8  // TokenGranted: its kind, which is the driver's; not 0
	ID            string // CancelRequested
	Record        Found  // Looked
	AttemptRecord Found  // Looked: the attempt record; AttemptsRead
	Owner         Owner  // Looked, Owned
	Forgot        bool   // Looked: the session has no record, and may have had one that was lost with its bucket
	Result        Found  // ResultRead
	Data          []byte // Fetched

	Revision  uint64 // Wrote
	Fault     Fault  // of reads and writes
	Err       error  // what the fault was, for the log
	Connected bool   // with a fault: the broker was there

	Slot    Slot    // SlotGranted
	Refusal Refusal // SlotRefused
	Output  *Output // Answered
}

// Found is what a key holds.
type Found struct {
	Value    []byte
	Revision uint64 // also of a key that is absent behind a marker
	Stored   time.Time
	Exists   bool
}

// Owner is whom the partition belongs to.
type Owner uint8

// The owners, as in the assignment.
const (
	Mine    Owner = iota // this epoch's
	Another              // of another epoch of this host
	Foreign              // of another host
)

// Fault is how a read or a write has failed.
type Fault uint8

// The faults.
const (
	NoFault       Fault = iota
	WrongRevision       // the compare-and-set lost
	Unknown             // no answer: whether it was written is unknown
	NoSpace             // the store has no room
	Failed              // anything else
)

// Slot is a slot of a worker.
type Slot struct {
	WorkerID uint64
	Worker   string
	Engine   string
}

// Reason is why there is no slot.
type Reason uint8

// The reasons.
const (
	NoWorker    Reason = iota // none can be started
	NoRoom                    // what would run could not be committed
	BreakerOpen               // a circuit breaker keeps the job out
	Stopping                  // the pool takes no more jobs
	OtherHost                 // an anonymous job is left to another host, which may have room
)

// Refusal reports why there is no slot.
type Refusal struct {
	Reason     Reason
	Name       string        // BreakerOpen: the breaker
	Err        *jobs.Error   // NoWorker, BreakerOpen: what a call gets
	RetryAfter time.Duration // BreakerOpen
	Elsewhere  bool          // BreakerOpen: another host is likely to do better

	Changed <-chan struct{} // BreakerOpen: the driver's
}

// Output is what one attempt brought.
type Output struct {
	Value   []byte
	Object  *jobs.ObjectRef // where the value is stored, nil: it is Value
	Usage   []byte
	State   []byte // nil: unchanged
	Version uint64
	Err     *jobs.Error
	Slot    Slot
	Label   jobs.StateOf
	LM      []byte // the choice of language model, nil: none any more
	ChoseLM bool   // LM counts
	Ran     time.Duration
	GaveUp  bool // the call ended because of CancelCall
	Stale   bool // nothing was started: the lease was over
	Extra   any  // the driver's
}
