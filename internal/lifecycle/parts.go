package lifecycle

// The parts of a core: the state of each, which it alone changes. What each does is in a file of its own, above this one.

import (
	"time"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/jobs"
)

// queue is the jobs behind the one at work, and the run token that lets the first of them go on.
type queue struct {
	jobs   []*Job     // by sequence; in AwaitToken the first has no task yet
	token  uint8      // the kind of the run token, 0: none
	fresh  bool       // the session had no work a moment before the job at the front came
	since  clock.Mono // since when the first job is at the front
	rested clock.Mono // since when there has been no job; 0: always
}

// cancellation is one that waits for its job.
type cancellation struct {
	job *Job
	op  uint32
}

// cancellations are those that wait.
type cancellations []cancellation

// preparation is what must be read before a job may run.
type preparation struct {
	strands *jobs.Outcome // whose result is stored first
	looked  bool          // no other job of its id has a result
	resumed bool          // what is known of its earlier attempts is taken up
}

// checkout is the wait for a slot of a worker, and the slot.
type checkout struct {
	slot    uint32 // operation of the Acquire whose slot this has, 0: none
	worker  Slot
	bounded bool // the wait is bounded by the checkout timeout
}

// attempt is one run of the job at work.
type attempt struct {
	missed string      // what the job waited for when its deadline seemed to pass
	sent   clock.Mono  // when the read of the partition's owner was sent
	gaveUp *jobs.Error // why the call was given up
	output *Output     // what it brought
	err    *jobs.Error // what the job ends with
}

// retry is a timer for the next attempt, and the redelivery that comes with it.
type retry struct {
	due   clock.Mono
	again bool // the redelivery has come, or none is waited for
}

// ending is a decided outcome on its way out: dead letter, result, reply, acknowledgement. Every step may be repeated.
type ending struct {
	deadLetter *jobs.DeadLetter // nil: none
	check      bool             // there may be one already
	result     *jobs.Result     // nil: none
	body       []byte           // of result
	ttl        time.Duration
	rev        uint64
	decided    bool // the record holds the outcome: the reply needs not wait for the result
	replied    bool
	doubt      bool // there may be a result
	reply      Address
	answer     []byte
}

// trouble is what blocks the job.
type trouble struct {
	failed  int // tries in a row while the broker was there
	blocked Step
	full    bool
}

// side is the duty that is being done.
type side struct {
	step    sideStep
	job     *Job      // nil: the record is renewed
	early   *earlyEnd // nil: likewise
	verdict uint32    // operation of the CancelRequested that it answers, 0: none
	awaits  uint32
	failed  int
	full    bool       // for lack of room: nothing else must start on this host
	away    bool       // the last write did not reach the broker
	quiet   clock.Mono // nothing before, after something failed
}

type sideStep uint8

const (
	sideIdle sideStep = iota
	sideComparing
	sideLooking
	sideOwning // whether the partition is still this epoch's
	sideFencing
	sideWriting // the early end
	sideJudging
	sideFetching
	sideChecking
	sideStoring
	renewLooking
	renewRecord
	renewAttemptRecord
)

// onRecord reports whether the step is about the record, which nobody else may write then.
func (s sideStep) onRecord() bool {
	switch s {
	case sideLooking, sideOwning, sideFencing, sideWriting, sideJudging, renewLooking, renewRecord, renewAttemptRecord:
		return true
	}
	return false
}

// waits reports whether nothing has been decided yet.
func (s sideStep) waits() bool {
	return s == sideComparing || s == sideLooking || s == sideOwning || s == renewLooking
}

// earlyEnd is the end of a job before its turn. The side does one at a time.
type earlyEnd struct {
	task   *Task
	kind   jobs.Kind
	next   *jobs.Record        // being written
	noted  *jobs.AttemptRecord // being written
	result *jobs.Result
}

// sessionBooks is where a session's jobs are written down.
type sessionBooks struct {
	record  record
	journal sessionJournal
	commit  commit
}

// record is the ledger of a session: what is known of its record and of the attempt record.
type record struct {
	attemptRecord
	home

	read   bool // record and attempt record were read
	bare   bool // the record's last outcome was dropped: it must be read again before the record is written
	rec    *jobs.Record
	rev    uint64
	loaded clock.Mono // of the last read or write of the record
	stamp  time.Time  // broker's clock: of the last write of the record
	sent   Moment     // of the look that is under way
	looked clock.Mono // then, too
	since  Moment     // jobs accepted later cannot have a result
	lost   bool       // a state is known to be lost
	saved  saved
}

// saved is the outcome of a lost stream whose result is known to be stored.
type saved struct {
	job      string
	sequence uint64
}

// The attempt record is about the session's latest attempt. It is written before each start, and is the fence between epochs. An attempt
// begins only after a write of it that expected what its epoch had read. So an epoch that has written it keeps all earlier ones from
// beginning anything. Who ends a job without an attempt of its own writes it, too (architecture, rule 12).
type attemptRecord struct {
	noted      *jobs.AttemptRecord // nil: none
	attemptRev uint64
}

// home is the worker that holds the session's state.
type home struct {
	worker  uint64 // 0: none
	version uint64 // of the state that it holds
	used    clock.Mono
}

// sessionJournal writes the attempt record, by compare-and-set.
type sessionJournal struct {
	hd      *jobs.AttemptRecord // being written
	sent    clock.Mono          // when
	delay   time.Duration       // of the retry in it, -1: it is about a start
	refused int                 // writes of the same thing, also of an outcome
	judging bool                // the look that was requested judges a write
	away    bool                // the last write did not reach the broker
}

// commit writes the outcome of a session's job into the record.
type commit struct {
	next *jobs.Record  // being written
	last *jobs.Outcome // the outcome, nil: not worded yet
}

// anonymousBooks is where an anonymous job is written down.
type anonymousBooks struct {
	results results
	journal resultsJournal
}

// results is the ledger of an anonymous job: the key of its result, which the first write decides, and one for attempts that
// have failed. The start of an attempt is not written down: the broker's count of deliveries shows crashes.
type results struct {
	since Moment // a job accepted later, and delivered once, is new to all hosts
}

// resultsJournal writes down the attempts that have failed.
type resultsJournal struct {
	held    clock.Mono          // since when it is known that no other host has been given the job
	hd      *jobs.AttemptRecord // being written
	rev     uint64
	delay   time.Duration
	refused int // writes of the same thing
}
