package lifecycle

import (
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
	refusals    = 3                      // a job counts as blocked after this many failed tries while the broker was there
)

// Core decides for one session during one epoch, or for one anonymous job. It is not safe for concurrent use.
//
// It holds the state, and the parts that a job passes: each has what it alone changes, and takes the events of its own states
// (state.go). A part is given the core with each call, and changes the state through it.
type Core struct {
	common

	state  State
	cur    *Task      // the job at work
	awaits uint32     // the operation whose answer the state waits for, 0: none
	held   bool       // the state waits for the record, which an early end or a renewal has
	alarm  clock.Mono // the state resumes then, 0: it waits for something else
	alive  clock.Mono // when the redelivery of the first job was held off last
	over   bool       // nothing starts any more
	cut    bool       // nothing counts any more
	early  bool       // an earlier epoch's core has to come to rest first

	ledger  ledger
	journal journal
	session *sessionBooks // of which both are, nil: an anonymous job

	queue    queue
	prep     preparation
	checkout checkout
	attempt  attempt
	retry    retry
	ending   ending
	trouble  trouble
	side     side
	asks     asks
}

// common is what all parts need in a step.
type common struct {
	cfg    *Config
	ref    jobs.SessionRef
	epoch  uint64
	stream int64 // identity of the stream that sequences count in

	mono   clock.Mono // of the event at hand
	out    []Action
	lastOp uint32
}

// NewSession makes the core of a session in an epoch of its partition. stream is the identity of the stream that its sequences
// count in. waits reports that an earlier epoch's core has not come to rest yet: PredecessorGone reports when it has.
func NewSession(cfg *Config, ref jobs.SessionRef, epoch uint64, stream int64, waits bool) *Core {
	s := &sessionBooks{}
	return &Core{common: common{cfg: cfg, ref: ref, epoch: epoch, stream: stream}, early: waits, ledger: &s.record, journal: &s.journal, session: s}
}

// NewAnonymous makes the core of an anonymous job. A job that was accepted after since and is delivered once is new to all hosts;
// asked is when the broker was queried.
func NewAnonymous(cfg *Config, of jobs.SessionRef, since Moment, asked clock.Mono) *Core {
	b := &anonymousBooks{results: results{since: since}, journal: resultsJournal{held: asked}}
	return &Core{common: common{cfg: cfg, ref: of}, queue: queue{token: 1}, ledger: &b.results, journal: &b.journal}
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
func (c *Core) Known() bool { return c.ledger.known() }

// Step takes an event and returns what is to be done, in this order. The actions are valid until the next Step.
func (c *Core) Step(ev *Event) []Action {
	c.mono, c.out = c.cfg.Clock.Mono(), c.out[:0]
	switch ev.Kind {
	case Delivered:
		c.queue.deliver(c, ev.Job)
	case CancelAsked:
		c.asks.cancel(c, ev)
	case Ticked:
		c.tick(ev)
	case EpochOver:
		c.end(false)
	case Cut:
		c.end(true)
	case KeptAlive:
		c.journal.keptAlive(c)
	default:
		c.dispatch(ev)
	}
	if c.held && c.side.recordFree(c) {
		c.held = false
		table[c.state].resume(c, ev)
	}
	c.side.attend(c)
	return c.out
}

// dispatch gives an answer to whoever waits for it.
func (c *Core) dispatch(ev *Event) {
	switch on := table[c.state].on[ev.Kind]; {
	case ev.Op != 0 && ev.Op == c.side.awaits:
		c.side.awaits = 0
		c.side.answer(c, ev)
	case on != nil && ev.Op == c.awaits:
		c.awaits = 0
		on(c, ev)
	case ev.Kind == SlotGranted:
		c.do(Action{Kind: Release, Op: ev.Op})
	case ev.Kind == TokenGranted:
		c.do(Action{Kind: ReturnToken, Token: ev.Token})
	}
}

// ask does what is answered by an event.
func (c *Core) ask(a Action) {
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

// reset drops what was known of the job that was at work.
func (c *Core) reset() {
	c.prep, c.checkout, c.attempt, c.retry = preparation{}, checkout{}, attempt{}, retry{}
}

// next turns to the next job.
func (c *Core) next() {
	c.to(Idle)
	c.cur, c.ending = nil, ending{}
	c.reset()
	c.queue.since, c.alive = c.mono, c.mono
	c.queue.next(c)
}

// leave ends the work on a job whose outcome is not for this core to decide, or is there.
func (c *Core) leave() {
	c.trouble.settled(c)
	c.side.room(c)
	if c.checkout.slot != 0 {
		c.checkout.release(c, nil, false)
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

// end is the end of the epoch: what has not started comes again in the next one, whose attempt record reports what has. With cut
// nothing is committed any more, and a running attempt is given up.
func (c *Core) end(cut bool) {
	c.over, c.cut = true, c.cut || cut
	c.queue.forget(c)
	c.side.room(c)
	c.asks.verdicts(c, jobs.CancelUnknown)
	c.side.end(c)
	switch {
	case c.state == Idle:
	case c.state == Running && c.cut:
		c.attempt.giveUp(c, cancelled()) // the worker answers, and then the job is left
	case c.cut && c.journal.handsBack(c):
	case c.cut || !c.state.started():
		c.checkout.withdraw(c, nil)
		c.leave()
	}
}

// fenced gives the partition up: it belongs to somebody else.
func (c *Core) fenced(o Owner) {
	c.do(Action{Kind: GiveUp, Owner: o})
	c.end(true)
}

// void starts the job over from the record, which has moved on.
func (c *Core) void() {
	c.trouble.settled(c)
	if c.checkout.slot != 0 {
		c.checkout.release(c, nil, false)
	}
	c.ledger.doubt()
	if c.over {
		c.leave()
		return
	}
	c.reset()
	c.cur = &Task{Job: c.cur.Job, Session: c.ref, Fresh: c.cur.Fresh}
	c.prep.prepare(c, nil)
}

// Wake is when Ticked is due, by the machine's clock; 0: never.
func (c *Core) Wake() clock.Mono {
	at := c.alarm
	sooner := func(m clock.Mono) {
		if at == 0 || m < at {
			at = max(m, 1)
		}
	}
	next := func(m clock.Mono) { // of what each step looks at: if the time has come, something else is waited for
		if m = max(m, c.side.quiet); c.mono < m {
			sooner(m)
		}
	}
	due := func(j *Job) clock.Mono {
		left, _ := c.left(j)
		return c.at(left)
	}
	if c.state == Idle {
		return at
	}
	if c.cur != nil {
		sooner(c.alive + c.journal.alive())
		if c.trouble.pends(c, c.cur.Job) {
			sooner(due(c.cur.Job))
		}
	}
	for i, j := range c.queue.jobs {
		switch {
		case !j.weighed:
			sooner(j.Came + weighPause)
		case c.trouble.pends(c, j) && (i > 0 || c.trouble.blocked != StepPredecessor):
			sooner(due(j))
		case j.expires() && c.side.attends(c):
			next(due(j))
		}
		if i == 0 && c.state == AwaitToken && j.Env.Mode == jobs.ModeCall {
			sooner(c.queue.since + c.cfg.CheckoutTimeout)
		}
	}
	if c.side.attends(c) {
		if in, ok := c.side.renewIn(c); ok {
			next(c.at(in))
		}
	}
	return at
}

// tick does what the time has come for.
func (c *Core) tick(ev *Event) {
	c.queue.weigh(c)
	if c.cur != nil && c.state != Idle && c.reached(c.alive+c.journal.alive()) {
		c.alive = c.mono
		c.do(Action{Kind: KeepAlive, Job: c.cur.Job})
	}
	if c.state == AwaitToken {
		c.queue.outwait(c)
	}
	if c.reached(c.alarm) {
		c.alarm = 0
		table[c.state].resume(c, ev)
	}
	c.trouble.pend(c)
}
