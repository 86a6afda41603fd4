package lifecycle

import (
	"cmp"
	"time"

	"github.com/dspex/dspex/internal/jobs"
)

// attempt makes the next attempt, unless none must start any more.
func (c *Core) attempt(*Event) {
	t := c.cur
	if c.blocked == StepRoom {
		c.unblock()
	}
	switch {
	case t.cancelled:
		c.settle(cancelled(), nil)
	case c.late(t.Job):
		c.expire(cmp.Or(c.missed, "its turn"))
	case t.crashedOut():
		t.dead = true
		c.settle(crashed(t.Attempt), nil)
	default:
		c.missed = ""
		c.acquire()
	}
}

// expire ends a job whose deadline seems to have passed while it waited for what. Only a clock that was compared since the job came
// may say so: it may have stepped before, and what it says then cannot be taken back.
func (c *Core) expire(what string) {
	t := c.cur
	if c.sure(t.Job) {
		c.settle(jobs.DeadlinePassed(what), nil)
		return
	}
	c.missed = what
	c.to(Comparing)
	c.ask(Action{Kind: Compare, Job: t.Job})
}

func (c *Core) compared(ev *Event) {
	if ev.Fault != NoFault {
		c.paused(ev)
		return
	}
	c.prepare(ev)
}

// askRoom looks again whether there is room. Until then nothing is judged, because nothing could be written.
func (c *Core) askRoom(*Event) { c.ask(Action{Kind: AskRoom}) }

func (c *Core) roomLooked(ev *Event) {
	if ev.Fault != NoFault {
		c.wait(brokerPause)
		return
	}
	c.attempt(ev)
}

// acquire asks for a slot: a call waits for the checkout timeout, a queued job until its deadline.
func (c *Core) acquire() {
	t := c.cur
	bound := time.Duration(0)
	if left, has := c.left(t.Job); has {
		bound = max(left, 1)
	}
	waited := time.Duration(0)
	if t.Attempt == 0 {
		waited = c.ledger.waited(c)
	}
	c.impatient = false
	if patience := max(c.cfg.CheckoutTimeout-waited, 1); t.Env.Mode == jobs.ModeCall && (bound == 0 || patience < bound) {
		bound, c.impatient = patience, true
	}
	t.LM, t.Prefer, t.Avoid = c.ledger.lm(), c.ledger.prefers(c), t.avoids()
	c.to(AwaitSlot)
	if bound > 0 {
		c.wait(bound)
	}
	c.ask(Action{Kind: Acquire, Job: t.Job, Task: t})
}

// outwaited ends the wait for a slot.
func (c *Core) outwaited(*Event) {
	if c.impatient {
		e := jobs.NoWorkerFree(c.cfg.CheckoutTimeout)
		c.withdraw(e)
		c.notStarted(e)
		return
	}
	c.withdraw(jobs.DeadlinePassed("a worker"))
	c.expire("a worker")
}

func (c *Core) slotRefused(ev *Event) {
	t, r := c.cur, ev.Refusal
	c.alarm = 0
	switch {
	case r.Reason == Stopping && !c.ledger.handsBack(c): // the host is about to leave; the job is not to blame
		c.to(AwaitRoom)
		c.wait(brokerPause)
	case r.Reason == Stopping:
	case r.Reason == NoRoom:
		c.yield()
		c.to(AwaitRoom)
		c.block(StepRoom, ev.Err)
		c.wait(brokerPause)
	case r.Reason == OtherHost:
		c.ledger.retry(c, 0)
	case r.Reason == BreakerOpen && t.Env.Mode != jobs.ModeCall:
		c.ledger.hold(c, r)
	case r.Reason == BreakerOpen && r.Elsewhere && !c.ledger.session():
		c.ledger.retry(c, 0) // it was asked for before the breaker opened
	default:
		c.notStarted(r.Err)
	}
}

// notStarted decides about a job that got no slot. That no worker can be started counts as a failed attempt, unless somebody
// waits: then it is the answer.
func (c *Core) notStarted(e *jobs.Error) {
	t := c.cur
	if e.Category == jobs.Initialization && t.Env.Mode == jobs.ModeQueue {
		t.Attempt++
		c.fail(e, c.judge(e), nil)
		return
	}
	t.dead = t.Attempt > 0 && e.Retryable
	c.settle(e, nil)
}

// unheld does not wait for the breaker any longer: the deadline has come.
func (c *Core) unheld(ev *Event) {
	c.withdraw(nil)
	c.prepare(ev)
}

// admitted has a run token again: the breaker lets the session through.
func (c *Core) admitted(ev *Event) {
	c.token = ev.Token
	c.prepare(ev)
}

func (c *Core) slotGranted(ev *Event) {
	t := c.cur
	c.slot, c.worker = ev.Op, ev.Slot
	if c.late(t.Job) {
		c.release(nil, false)
		c.expire("a worker")
		return
	}
	t.Attempt++
	c.ledger.begin(c)
}

// begun has the attempt written down: from here on it counts, also if this host ends.
func (c *Core) begun() {
	t := c.cur
	c.settled()
	switch {
	case t.cancelled:
		c.release(nil, false)
		c.settle(cancelled(), nil)
	case c.late(t.Job): // the broker has let it wait
		c.release(nil, false)
		t.Attempt--
		c.expire("the broker")
	case !c.ledger.lease(c):
		c.ledger.loose(c)
	default:
		c.call()
	}
}

func (c *Core) call() {
	t := c.cur
	call := Action{Kind: Call, Op: c.slot, Job: t.Job, Task: t}
	c.budget(t)
	c.ledger.equip(c, &call)
	c.gaveUp = nil
	c.to(Running)
	c.awaits = c.slot
	c.wait(t.Budget)
	c.do(call)
}

// confirm finds out whether the partition is still this epoch's. A host that stood still (SIGSTOP, a paused machine) does not notice
// it, and what it was about to start may have been run and finished elsewhere meanwhile: records are fenced, what a job does to the
// world is not.
func (c *Core) confirm(*Event) {
	c.asked = c.mono
	c.ask(Action{Kind: Own})
}

func (c *Core) owned(ev *Event) {
	switch {
	case ev.Fault != NoFault:
		c.fault(ev, StepRecord)
	case ev.Owner != Mine:
		c.do(Action{Kind: Log, Note: NotStarted, Job: c.cur.Job, Task: c.cur})
		c.fenced(ev.Owner)
	default:
		c.cur.confirmed = c.asked
		c.begun()
	}
}

func (c *Core) overran(*Event) { c.giveUpCall(c.cur.overran()) }

// giveUpCall ends the running attempt; the first reason counts.
func (c *Core) giveUpCall(e *jobs.Error) {
	if c.gaveUp != nil {
		return
	}
	c.gaveUp, c.alarm = e, 0
	c.do(Action{Kind: CancelCall, Op: c.slot, Task: c.cur, Err: e})
}

func (c *Core) answered(ev *Event) {
	out := ev.Output
	c.alarm = 0
	switch {
	case c.cut:
		c.leave()
		return
	case out.Stale:
		c.begun()
		return
	case out.GaveUp:
		out.Err = c.gaveUp
	}
	if out.Err == nil {
		c.release(out, false)
		c.settle(nil, out)
		return
	}
	v := c.judge(out.Err)
	c.release(out, v.Action == jobs.Retry)
	c.fail(out.Err, v, out)
}

// judge decides what the failure of the latest attempt leads to.
func (c *Core) judge(e *jobs.Error) jobs.Verdict {
	left, has := c.left(c.cur.Job)
	return jobs.Settle(e, c.cur.Attempt, c.cur.Req.Policy, left, has, c.cfg.Chance)
}

// fail does what was decided about a job whose attempt has failed.
func (c *Core) fail(e *jobs.Error, v jobs.Verdict, out *Output) {
	t := c.cur
	c.note(e)
	if v.Action != jobs.Retry {
		t.dead = v.Action == jobs.Bury
		c.settle(e, out)
		return
	}
	c.do(Action{Kind: Log, Note: JobRetries, Job: t.Job, Task: t, Delay: v.Delay, Err: e})
	c.ledger.retry(c, v.Delay)
}

// awaitRetry waits, without a token, with the session's queue closed behind the job.
func (c *Core) awaitRetry(d time.Duration, again bool) {
	c.yield()
	c.to(AwaitRetry)
	c.again, c.due = again, c.at(d)
	c.setRetryAlarm()
}

// setRetryAlarm has the retry start when it is due and its redelivery is here. One that is a second late is not waited for.
func (c *Core) setRetryAlarm() {
	c.alarm = c.due
	if !c.again {
		c.alarm = c.due + time.Second
	}
}

// retryDue starts the retry if its time has come. A redelivery that a reset brings before is no start, and none other follows.
func (c *Core) retryDue(*Event) {
	if c.setRetryAlarm(); c.reached(c.alarm) {
		c.alarm = 0
		c.attempt(nil)
	}
}

// settle gives the job its outcome: e nil is success. out is what the last attempt brought, nil if none ran.
func (c *Core) settle(e *jobs.Error, out *Output) {
	if out == nil {
		out = &Output{Label: c.ledger.label()}
	}
	c.err, c.output = e, out
	c.ledger.commit(c)
}

// replyOf is what the client gets.
func (c *Core) replyOf() []byte {
	t, out := c.cur, c.output
	r := jobs.Reply{Job: t.Env.Job, Attempt: t.Attempt, Session: c.ref.ID, Host: c.cfg.Host, Worker: out.Slot.Worker, State: out.Label,
		Engine: out.Slot.Engine, Queued: c.age(t.Job) - out.Ran, Run: out.Ran, Usage: out.Usage, Err: c.err, Result: out.Value}
	return r.Append(nil)
}
