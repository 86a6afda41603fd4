package lifecycle

import (
	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/jobs"
)

// Step takes an event and returns what is to be done, in this order, added to out. A core that is at rest keeps nothing of either.
func (c *Core) Step(ev *Event, out []Action) []Action {
	c.mono, c.out = c.cfg.Clock.Mono(), out
	switch ev.Kind {
	case Delivered:
		c.queue.deliver(c, ev.Job)
	case CancelRequested:
		c.cancellations.cancel(c, ev)
	case Ticked:
		c.tick(ev)
	case EpochOver:
		c.end(false)
	case Cut:
		c.end(true)
	case KeptAlive:
		if c.journal != nil {
			c.journal.keptAlive(c)
		}
	default:
		c.dispatch(ev)
	}
	if c.held && c.side.recordFree(c) {
		c.held = false
		table[c.state].resume(c, ev)
	}
	c.side.attend(c)
	out, c.out = c.out, nil
	return out
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

// of has a part of the core take events.
func of[P any](part func(*Core) P, takes func(P, *Core, *Event)) handler {
	return func(c *Core, ev *Event) { takes(part(c), c, ev) }
}

func init() { //nolint:gochecknoinits // not a literal: the handlers refer to the table
	theQueue := func(c *Core) *queue { return &c.queue }
	thePreparation := func(c *Core) *preparation { return &c.prep }
	theCheckout := func(c *Core) *checkout { return &c.checkout }
	theAttempt := func(c *Core) *attempt { return &c.attempt }
	theJournal := func(c *Core) *sessionJournal { return &c.session.journal }
	theCommit := func(c *Core) *commit { return &c.session.commit }
	theEnding := func(c *Core) *ending { return &c.ending }

	prepare := of(thePreparation, (*preparation).prepare)
	writeAttempt := handler(func(c *Core, _ *Event) { c.journal.writeAttempt(c) })
	attemptWritten := handler(func(c *Core, ev *Event) { c.journal.attemptWritten(c, ev) })
	attemptLooked := of(theJournal, (*sessionJournal).attemptLooked)
	prepared := []State{Loading, Recovering, Fetching, Checking, Comparing, Confirming, Paused, AwaitNewer, AwaitRoom, AwaitBreaker, AwaitSlot, AwaitRetry, Fencing, Committing, DeadLettering, Storing, Running}
	attempts := []State{AwaitSlot, Comparing, Confirming, AwaitRoom, AwaitBreaker, Fencing, Committing, DeadLettering, Storing, Loading, Paused, AwaitNewer, AwaitRetry, Postponing, Fetching, Checking}
	table = [states]row{
		Idle:             {next: []State{AwaitPredecessor, AwaitToken, Loading, Recovering, Fetching, Checking, Comparing, Fencing, Committing, AwaitSlot, DeadLettering, Storing, AwaitRetry}},
		AwaitPredecessor: {on: [events]handler{PredecessorGone: of(theQueue, (*queue).start)}, next: []State{AwaitToken}},
		AwaitToken:       {on: [events]handler{TokenGranted: of(theQueue, (*queue).granted)}, next: prepared},
		Loading:          {resume: prepare, on: [events]handler{Looked: of(thePreparation, (*preparation).loaded), AttemptsRead: of(func(c *Core) *results { return c.ledger.(*results) }, (*results).attemptsRead)}, next: append(prepared, Postponing)},
		Recovering:       {resume: prepare, on: [events]handler{ResultRead: of(thePreparation, (*preparation).strandedRead), Wrote: of(thePreparation, (*preparation).strandedWritten)}, next: prepared},
		Fetching:         {resume: prepare, on: [events]handler{Fetched: of(thePreparation, (*preparation).fetched)}, next: prepared},
		Checking:         {resume: prepare, on: [events]handler{ResultRead: of(thePreparation, (*preparation).checked)}, next: prepared},
		Comparing:        {resume: prepare, on: [events]handler{Compared: of(thePreparation, (*preparation).compared)}, next: append(prepared, Postponing)},
		Paused:           {resume: prepare, next: prepared},
		AwaitNewer:       {resume: prepare, next: prepared},
		AwaitRoom:        {resume: of(theAttempt, (*attempt).checkRoom), on: [events]handler{RoomLooked: of(theAttempt, (*attempt).roomLooked)}, next: attempts},
		AwaitBreaker:     {resume: of(thePreparation, (*preparation).unparked), on: [events]handler{TokenGranted: of(thePreparation, (*preparation).admitted)}, next: append(attempts, prepared...)},
		AwaitSlot: {resume: of(theCheckout, (*checkout).outwaited), on: [events]handler{SlotGranted: of(theCheckout, (*checkout).granted), SlotRefused: of(theCheckout, (*checkout).refused)},
			next: append(attempts, Beginning, Running)},
		Beginning:     {resume: writeAttempt, on: [events]handler{Wrote: attemptWritten, Looked: attemptLooked}, next: append(attempts, Running)},
		Confirming:    {resume: of(theAttempt, (*attempt).confirm), on: [events]handler{Owned: of(theAttempt, (*attempt).owned)}, next: append(attempts, Running)},
		Running:       {resume: of(theAttempt, (*attempt).overran), on: [events]handler{Answered: of(theAttempt, (*attempt).answered)}, next: attempts},
		Postponing:    {resume: writeAttempt, on: [events]handler{Wrote: attemptWritten, Looked: attemptLooked, AttemptsRead: of(func(c *Core) *resultsJournal { return c.journal.(*resultsJournal) }, (*resultsJournal).attemptsCompared)}, next: attempts},
		AwaitRetry:    {resume: of(func(c *Core) *retry { return &c.retry }, (*retry).resume), next: attempts},
		Fencing:       {resume: of(theJournal, (*sessionJournal).writeFence), on: [events]handler{Wrote: attemptWritten, Looked: attemptLooked}, next: append(prepared, Committing)},
		Committing:    {resume: of(theCommit, (*commit).write), on: [events]handler{Wrote: of(theCommit, (*commit).written), Looked: of(theCommit, (*commit).looked)}, next: prepared},
		DeadLettering: {resume: of(theEnding, (*ending).writeDeadLetter), on: [events]handler{Wrote: of(theEnding, (*ending).deadLetterWritten), ResultRead: of(theEnding, (*ending).deadLetterNeeded)}, next: []State{Storing}},
		Storing:       {resume: of(theEnding, (*ending).storeResult), on: [events]handler{Wrote: of(theEnding, (*ending).resultWritten), ResultRead: of(theEnding, (*ending).resultFound)}, next: []State{Storing}},
	}
}
