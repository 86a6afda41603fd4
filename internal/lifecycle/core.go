package lifecycle

import (
	"fmt"
	"slices"
	"time"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/jobs"
)

// Pauses.
const (
	brokerPause = time.Second            // between tries when the broker does not answer
	newerPause  = 30 * time.Second       // between looks at a record that a newer version wrote
	weighPause  = 250 * time.Millisecond // a job that waits longer has its deadline read
	tries       = 8                      // a write that is refused more often starts over from the record
	freshAfter  = time.Second            // a session that was without work for so long counts as one that was idle
	refusals    = 3                      // a job counts as blocked after this many failed tries while the broker was there
)

// State is what the job at the front of the queue is at. Only that job has one; those behind it wait, and can end early (early.go).
type State uint8

// The states. In those that wait a core needs nothing but memory and a timer: new reasons to wait (a person's approval, a rate
// limit, a budget) belong beside AwaitBreaker.
const (
	Idle             State = iota // no job
	AwaitPredecessor              // an earlier epoch still works on the session
	AwaitToken                    // for a run token, of which a host has a bounded number
	Loading                       // record and attempt record are being read
	Recovering                    // the record has the last outcome of a lost stream: its result is being stored
	Fetching                      // the request is being read again
	Checking                      // whether the job's id has a result already
	Comparing                     // the clock is being compared with the broker's, before a deadline is judged
	Paused                        // the broker could not be read: again in a second
	AwaitNewer                    // the record was written by a newer version, which goes on with the session
	AwaitRoom                     // for room in the broker's store
	AwaitBreaker                  // for a circuit breaker
	AwaitSlot                     // for a slot of a worker
	Beginning                     // the attempt is being written down
	Confirming                    // whether the partition is still this epoch's, right before a start
	Running                       // a worker has the job
	Postponing                    // the retry is being written down
	AwaitRetry                    // for the retry's time
	Fencing                       // the job ends without an attempt of this epoch: no other epoch must begin one any more
	Committing                    // the outcome is being written into the record
	DeadLettering                 // the dead letter is being stored
	Storing                       // the result is being stored
	states
)

var stateNames = [states]string{"idle", "await_predecessor", "await_token", "loading", "recovering", "fetching", "checking", "comparing", "paused", "await_newer", "await_room",
	"await_breaker", "await_slot", "beginning", "confirming", "running", "postponing", "await_retry", "fencing", "committing", "dead_lettering", "storing"}

func (s State) String() string { return stateNames[s] }

// started reports whether the end of an epoch lets the job go on: its attempt is written down, or it is decided. The record
// judges what becomes of it.
func (s State) started() bool {
	switch s {
	case Beginning, Confirming, Running, Postponing, Fencing, Committing, DeadLettering, Storing:
		return true
	}
	return false
}

// Core decides for one session during one epoch, or for one anonymous job. It is not safe for concurrent use.
//
// It holds the state, and the parts that a job passes (parts.go): each has what it alone changes, and takes the events of its own
// states (step.go). A part is given the core with each call, and changes the state through it.
type Core struct {
	common

	state     State
	cur       *Task      // the job at work
	awaits    uint32     // the operation whose answer the state waits for, 0: none
	held      bool       // the state waits for the record, which an early end or a renewal has
	alarm     clock.Mono // the state resumes then, 0: it waits for something else
	alive     clock.Mono // when the redelivery of the first job was delayed last
	over      bool       // nothing starts any more
	cut       bool       // nothing counts any more
	early     bool       // an earlier epoch's core has to come to rest first
	anonymous bool

	ledger  ledger        // nil: nothing of the session is known yet
	journal journal       // likewise
	session *sessionBooks // of which both are, nil: likewise, or an anonymous job

	*work // nil while no job is at work: a host can have 100,000 sessions that wait

	queue         queue
	trouble       trouble
	side          side
	cancellations cancellations
}

// work is the parts that the job at work passes.
type work struct {
	prep     preparation
	checkout checkout
	attempt  attempt
	retry    retry
	ending   ending
}

// NewSession makes the core of a session in an epoch of its partition. stream is the identity of the stream that its sequences
// count in. waits reports that an earlier epoch's core has not come to rest yet: PredecessorGone reports when it has.
func NewSession(cfg *Config, ref jobs.SessionRef, epoch uint64, stream int64, waits bool) *Core {
	return &Core{common: common{cfg: cfg, ref: ref, epoch: epoch, stream: stream}, early: waits}
}

// open makes the books of a session, when it first has use for them: not while it only waits for its first run token.
func open(c *Core) {
	if c.ledger == nil {
		c.session = &sessionBooks{}
		c.ledger, c.journal = &c.session.record, &c.session.journal
	}
}

// strip drops what is hardly needed without work.
func strip(c *Core) {
	if c.ledger != nil {
		c.ledger.strip(c)
	}
}

// NewAnonymous makes the core of an anonymous job. A job that was accepted after since and is delivered once is new to all hosts;
// sent is when the broker was queried.
func NewAnonymous(cfg *Config, of jobs.SessionRef, since Moment, sent clock.Mono) *Core {
	b := &anonymousBooks{results: results{since: since}, journal: resultsJournal{held: sent}}
	return &Core{common: common{cfg: cfg, ref: of}, queue: queue{token: 1}, ledger: &b.results, journal: &b.journal, anonymous: true}
}

// ledger is what is recorded of a job's progress, as far as it is known. All that can be requested comes back as an event.
type ledger interface {
	known() bool   // there is something in memory that is worth keeping without work
	strip(c *Core) // drops of it what is hardly needed without work
	doubt()        // has it read again before it counts

	ready(c *Core) bool // what is written down is known; else it has been requested
	load(c *Core, ev *Event) error
	past(c *Core) bool    // the job has its outcome, and is being completed
	strands(c *Core) bool // an outcome would be lost by the next commit; its result is being stored first
	suspect(c *Core) bool // the job's id may have a result
	ended(j *Job) (jobs.Kind, bool)
	resume(c *Core) bool // takes the earlier attempts up; false: something is waited for first

	lm() []byte
	prefers(c *Core) uint64
	label() jobs.StateOf // of the state, if nothing ran
}

// journal is how a job's progress is recorded, and what follows from that.
type journal interface {
	begin(c *Core)                // writes the attempt down, then calls
	waited(c *Core) time.Duration // for a slot, before it was requested
	lease(c *Core) (held bool)    // the job is known to be this host's, for as long as the action Call states
	loose(c *Core)                // it is not: finds out, or lets the job go
	keptAlive(c *Core)
	alive() time.Duration            // between two signs of life for the job at work
	equip(c *Core, a *Action)        // gives the task what a call needs
	awaitBreaker(c *Core, r Refusal) // waits for a circuit breaker
	handsBack(c *Core) bool          // leaves the job to another host
	retry(c *Core, d time.Duration)
	writeAttempt(c *Core) // Beginning and Postponing
	attemptWritten(c *Core, ev *Event)
	commit(c *Core)
}

// handler takes an event.
type handler func(*Core, *Event)

// row is what a state makes of the events that are its own. Deliveries, cancellations, the end of the epoch and the deadlines
// of waiting jobs are the same in all states (step.go).
type row struct {
	resume handler         // does what the state is about: on entering, after a pause, when the record is free again
	on     [events]handler // nil: the event comes too late, or is not for this state
	next   []State         // legal next states, Idle always
}

// table has a row for each state; it is written at the end of step.go, above the parts that it names.
var table [states]row

// State is what the job at the front is at.
func (c *Core) State() State { return c.state }

// Quiet reports whether there is nothing to do and nothing is waited for.
func (c *Core) Quiet() bool { return c.state == Idle && c.side.step == sideIdle }

// RunsUntil is how long the running attempt may last, 0 if none runs.
func (c *Core) RunsUntil() clock.Mono {
	if c.state != Running {
		return 0
	}
	return c.alarm
}

// Jobs is how many jobs wait and run.
func (c *Core) Jobs() int {
	if c.cur != nil {
		return len(c.queue.jobs) + 1
	}
	return len(c.queue.jobs)
}

// CallsDepth is how many jobs wait behind the one at work if a call is among them, else 0.
func (c *Core) CallsDepth() int {
	for _, j := range c.queue.jobs {
		if j.Env.Mode == jobs.ModeCall {
			return len(c.queue.jobs)
		}
	}
	return 0
}

// Known reports whether the core holds anything that is worth keeping while it is quiet.
func (c *Core) Known() bool { return c.ledger != nil && c.ledger.known() }

// request does what is answered by an event.
func (c *Core) request(a Action) {
	a.Op = c.op()
	c.awaits = a.Op
	c.do(a)
}

// to changes the state. What the old one waited for counts no more.
func (c *Core) to(s State) {
	if s != Idle && s != c.state && !slices.Contains(table[c.state].next, s) {
		panic(fmt.Sprintf("lifecycle: %v to %v", c.state, s)) // a bug, which the tests of the package find
	}
	c.state, c.awaits, c.held, c.alarm = s, 0, false, 0
}

// wait has the state resume after d.
func (c *Core) wait(d time.Duration) { c.alarm = c.at(d) }

// begin makes a job the one at work, from its start.
func (c *Core) begin(j *Job, fresh bool) {
	open(c)
	c.cur, c.work = &Task{Job: j, Session: c.ref, Fresh: fresh}, &work{}
}

// first is the job at the front: the one at work, else the first of the queue, nil if there is none.
func (q *queue) first(c *Core) *Job {
	switch {
	case c.cur != nil:
		return c.cur.Job
	case len(q.jobs) > 0:
		return q.jobs[0]
	}
	return nil
}

// yield gives the run token back, to a session that waits for one.
func (q *queue) yield(c *Core) {
	if q.token != 0 && !c.anonymous {
		c.do(Action{Kind: ReturnToken, Token: q.token})
		q.token = 0
	}
}

// recordFree reports whether the job at the front may read and write the record.
func (s *side) recordFree(c *Core) bool {
	return !s.step.onRecord() && (c.cur == nil || s.job != c.cur.Job)
}
