package lifecycle

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/jobs"
)

// Config is what all cores of a host have in common.
type Config struct {
	Host            string
	Clock           Clock
	MaxPayload      int // bytes, of the broker
	SessionIdle     time.Duration
	CheckoutTimeout time.Duration
	DeadWindow      time.Duration // for so long the broker stores one of two dead letters with the same id
	Defaults        jobs.Defaults
	Chance          func() float64 // 0 to 1, for jitter
}

// Pauses.
const (
	brokerPause = time.Second            // between tries when the broker does not answer
	newerPause  = 30 * time.Second       // between looks at a record that a newer version wrote
	weighPause  = 250 * time.Millisecond // a job that waits longer has its deadline read
	tries       = 8                      // a write that is refused more often starts over from the record
	freshAfter  = time.Second            // a session that was without work for so long counts as one that was idle
	refusals    = 3                      // a job counts as blocked after so many failed tries while the broker was there
)

// Core decides for one session during one epoch, or for one anonymous job. It is not safe for concurrent use.
type Core struct {
	cfg    *Config
	ref    jobs.SessionRef
	epoch  uint64
	stream int64 // creation time of the stream that sequences count in
	ledger ledger

	mono   clock.Mono // of the event at hand
	out    []Action
	lastOp uint32

	state  State
	cur    *Task      // the job at work
	queue  []*Job     // those behind it, by sequence; in AwaitToken its first has no task yet
	awaits uint32     // the operation whose answer the state waits for, 0: none
	held   bool       // the state waits for the record, which an early end or a renewal has
	alarm  clock.Mono // the state resumes then, 0: it waits for something else
	since  clock.Mono // since when the first job is at the head
	alive  clock.Mono // when its redelivery was held off last
	token  uint8      // the kind of the run token, 0: none
	fresh  bool       // the session had no work a moment before the job at the head came
	rested clock.Mono // since when it has had none; 0: always
	over   bool       // nothing starts any more
	cut    bool       // nothing counts any more
	early  bool       // an earlier epoch's core has to come to rest first

	attemptState
	ending ending
	trouble
	side side
	asks []ask
}

// attemptState is what there is to know while an attempt is made.
type attemptState struct {
	slot      uint32 // operation of the Acquire whose slot is held, 0: none
	worker    Slot
	impatient bool   // the wait for a slot is bound by the checkout timeout
	missed    string // what the job waited for when its deadline seemed to pass
	asked     clock.Mono
	gaveUp    *jobs.Error
	delay     time.Duration
	due       clock.Mono // of the retry
	again     bool       // its redelivery has come, or none is waited for
	refused   int        // writes of the same thing
	judging   bool       // the look that was asked for judges a write
	output    *Output
	err       *jobs.Error
}

// trouble is what holds the job up.
type trouble struct {
	failed  int // tries in a row while the broker was there
	blocked Step
	full    bool
}

// NewSession makes the core of a session in an epoch of its partition. stream is the creation time of the stream that its sequences
// count in. waits says that an earlier epoch's core has not come to rest yet: PredecessorGone tells when it has.
func NewSession(cfg *Config, ref jobs.SessionRef, epoch uint64, stream int64, waits bool) *Core {
	return &Core{cfg: cfg, ref: ref, epoch: epoch, stream: stream, early: waits, ledger: &record{}}
}

// NewAnonymous makes the core of an anonymous job. A job that was accepted after since and is delivered once is new to all hosts;
// asked is when the broker was asked for it.
func NewAnonymous(cfg *Config, of jobs.SessionRef, since Moment, asked clock.Mono) *Core {
	return &Core{cfg: cfg, ref: of, token: 1, ledger: &results{since: since, held: asked}}
}

// State is what the job at the head is at.
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
		return len(c.queue) + 1
	}
	return len(c.queue)
}

// CallsDepth is how many jobs wait behind the one at work if a call is among them, else 0.
func (c *Core) CallsDepth() int {
	for _, j := range c.queue {
		if j.Env.Mode == jobs.ModeCall {
			return len(c.queue)
		}
	}
	return 0
}

// Known reports whether the core remembers anything that is worth keeping while it is quiet.
func (c *Core) Known() bool { return c.ledger.known() }

// Step takes an event and returns what is to be done, in this order. The actions are valid until the next Step.
func (c *Core) Step(ev *Event) []Action {
	c.mono, c.out = c.cfg.Clock.Mono(), c.out[:0]
	switch ev.Kind {
	case Delivered:
		c.deliver(ev.Job)
	case CancelAsked:
		c.cancel(ev)
	case Ticked:
		c.tick(ev)
	case EpochOver:
		c.end(false)
	case Cut:
		c.end(true)
	case KeptAlive:
		c.ledger.keptAlive(c)
	default:
		c.dispatch(ev)
	}
	if c.held && c.recordFree() {
		c.held = false
		table[c.state].resume(c, ev)
	}
	c.attend()
	return c.out
}

// dispatch gives an answer to whoever waits for it.
func (c *Core) dispatch(ev *Event) {
	switch on := table[c.state].on[ev.Kind]; {
	case ev.Op != 0 && ev.Op == c.side.awaits:
		c.side.awaits = 0
		c.sideAnswer(ev)
	case on != nil && ev.Op == c.awaits:
		c.awaits = 0
		on(c, ev)
	case ev.Kind == SlotGranted:
		c.do(Action{Kind: Release, Op: ev.Op})
	case ev.Kind == TokenGranted:
		c.do(Action{Kind: ReturnToken, Token: ev.Token})
	}
}

func (c *Core) do(a Action) { c.out = append(c.out, a) }

// ask does what is answered by an event.
func (c *Core) ask(a Action) {
	a.Op = c.op()
	c.awaits = a.Op
	c.do(a)
}

func (c *Core) op() uint32 {
	c.lastOp = max(c.lastOp+1, 1)
	return c.lastOp
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

// deliver files a job. Of a job that is here only the acknowledgement of the latest delivery counts.
func (c *Core) deliver(j *Job) {
	if c.over {
		c.do(Action{Kind: Forget, Job: j})
		return
	}
	if c.cur != nil && c.cur.Sequence == j.Sequence {
		c.cur.Delivery = j.Delivery
		c.do(Action{Kind: Forget, Job: j})
		if c.state == AwaitRetry {
			c.again = true
			c.retryDue(nil)
		}
		return
	}
	i, found := slices.BinarySearchFunc(c.queue, j.Sequence, func(q *Job, seq uint64) int { return cmp.Compare(q.Sequence, seq) })
	if found {
		c.queue[i].Delivery = j.Delivery
		c.do(Action{Kind: Forget, Job: j})
		return
	}
	same := func(q *Job) bool { return q.Env.Job == j.Env.Job }
	j.repeat = c.cur != nil && same(c.cur.Job) || slices.ContainsFunc(c.queue[:i], same)
	c.queue = slices.Insert(c.queue, i, j)
	if c.state == Idle {
		c.fresh = c.rested == 0 || c.mono-c.rested >= freshAfter
		c.start(nil)
	}
}

// start begins with the queue.
func (c *Core) start(ev *Event) {
	if ev != nil && ev.Kind == PredecessorGone {
		c.early = false
		c.unblock()
	}
	if c.early {
		c.to(AwaitPredecessor)
		c.block(StepPredecessor, nil)
		return
	}
	c.next()
}

// next turns to the next job.
func (c *Core) next() {
	c.to(Idle)
	c.cur, c.attemptState, c.ending = nil, attemptState{}, ending{}
	c.since, c.alive = c.mono, c.mono
	switch {
	case c.over || len(c.queue) == 0:
		c.rest()
	case !c.ledger.session():
		c.take()
	default: // after each job somebody else may have the token
		c.yield()
		c.to(AwaitToken)
		c.do(Action{Kind: AskToken, Job: c.queue[0], Fresh: c.fresh})
	}
}

func (c *Core) rest() {
	c.queue, c.rested = nil, max(c.mono, 1)
	c.yield()
	if c.side.step == sideIdle {
		c.ledger.strip()
	}
}

// yield gives the run token back, to a session that waits for one.
func (c *Core) yield() {
	if c.token != 0 && c.ledger.session() {
		c.do(Action{Kind: ReturnToken, Token: c.token})
		c.token = 0
	}
}

func (c *Core) tokenGranted(ev *Event) {
	c.token = ev.Token
	c.take()
}

// take makes the first of the queue the job at work.
func (c *Core) take() {
	c.cur = &Task{Job: c.queue[0], Session: c.ref, Fresh: c.fresh}
	c.queue, c.fresh = slices.Delete(c.queue, 0, 1), false
	c.turned(c.cur.Job)
	c.prepare(nil)
}

// takeAtOnce does not wait for a run token any longer.
func (c *Core) takeAtOnce() {
	c.do(Action{Kind: StopWaiting})
	c.take()
}

// leave ends the work on a job whose outcome is not for this core to decide, or is there.
func (c *Core) leave() {
	c.settled()
	c.sideRoom()
	if c.slot != 0 {
		c.release(nil, false)
	}
	if c.cur != nil {
		c.do(Action{Kind: Forget, Job: c.cur.Job})
	}
	c.next()
}

// ack ends the work on a job that has its outcome.
func (c *Core) ack() {
	c.do(Action{Kind: Ack, Job: c.cur.Job})
	c.leave()
}

// release gives the slot back. out is what the attempt brought, nil if none ran.
func (c *Core) release(out *Output, retries bool) {
	c.do(Action{Kind: Release, Op: c.slot, Task: c.cur, Output: out, Retries: retries})
	c.slot = 0
}

// end is the end of the epoch: what has not started comes again in the next one, whose attempt record tells what has. With cut
// nothing is committed any more, and a running attempt is given up.
func (c *Core) end(cut bool) {
	c.over, c.cut = true, c.cut || cut
	for _, j := range c.queue {
		c.do(Action{Kind: Forget, Job: j})
	}
	c.queue = nil
	c.sideRoom()
	c.verdicts(jobs.CancelUnknown)
	if c.side.step.waits() || c.cut {
		if c.side.ask != 0 {
			c.do(Action{Kind: Verdict, Op: c.side.ask, Verdict: jobs.CancelUnknown})
		}
		c.side = side{}
	}
	switch {
	case c.state == Idle:
	case c.state == Running && c.cut:
		c.giveUpCall(cancelled()) // the worker answers, and then the job is left
	case c.cut && c.ledger.handsBack(c):
	case c.cut || !c.state.started():
		c.withdraw(nil)
		c.leave()
	}
}

// withdraw stops waiting for a slot, a token or a breaker. e is what the job gets for it, nil if that is not the reason.
func (c *Core) withdraw(e *jobs.Error) {
	switch c.state {
	case AwaitSlot:
		c.do(Action{Kind: Withdraw, Op: c.awaits, Task: c.cur, Err: e})
		c.awaits = 0
	case AwaitToken, AwaitBreaker:
		c.do(Action{Kind: StopWaiting})
	}
}

// fenced gives the partition up: it belongs to somebody else.
func (c *Core) fenced(o Owner) {
	c.do(Action{Kind: GiveUp, Owner: o})
	c.end(true)
}

// void starts the job over from the record, which has moved on.
func (c *Core) void() {
	c.settled()
	if c.slot != 0 {
		c.release(nil, false)
	}
	c.attemptState = attemptState{}
	c.ledger.doubt()
	if c.over {
		c.leave()
		return
	}
	c.cur = &Task{Job: c.cur.Job, Session: c.ref, Fresh: c.cur.Fresh}
	c.prepare(nil)
}
