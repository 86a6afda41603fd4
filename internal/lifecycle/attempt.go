package lifecycle

import (
	"cmp"
	"time"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/jobs"
)

// attempt is one run of the job at work.
type attempt struct {
	missed string      // what the job waited for when its deadline seemed to pass
	asked  clock.Mono  // when it was asked whose the partition is
	gaveUp *jobs.Error // why the call was given up
	output *Output     // what it brought
	err    *jobs.Error // what the job ends with
}

// start makes the next attempt, unless none must start any more.
func (a *attempt) start(c *Core, _ *Event) {
	t := c.cur
	if c.trouble.blocked == StepRoom {
		c.trouble.unblock(c)
	}
	switch {
	case t.cancelled:
		a.settle(c, cancelled(), nil)
	case c.late(t.Job):
		a.expire(c, cmp.Or(a.missed, "its turn"))
	case t.crashedOut():
		t.dead = true
		a.settle(c, crashed(t.Attempt), nil)
	default:
		a.missed = ""
		c.checkout.acquire(c)
	}
}

// expire ends a job whose deadline seems to have passed while it waited for what. Only a clock that was compared since the job came
// may decide it: it may have stepped before, and an outcome cannot be taken back.
func (a *attempt) expire(c *Core, what string) {
	t := c.cur
	if c.sure(t.Job) {
		a.settle(c, jobs.DeadlinePassed(what), nil)
		return
	}
	a.missed = what
	c.to(Comparing)
	c.ask(Action{Kind: Compare, Job: t.Job})
}

func (a *attempt) compared(c *Core, ev *Event) {
	if ev.Fault != NoFault {
		c.prep.paused(c, ev)
		return
	}
	c.prep.prepare(c, ev)
}

// begun has the attempt written down: from here on it counts, also if this host ends.
func (a *attempt) begun(c *Core) {
	t := c.cur
	c.trouble.settled(c)
	switch {
	case t.cancelled:
		c.checkout.release(c, nil, false)
		a.settle(c, cancelled(), nil)
	case c.late(t.Job): // the broker has let it wait
		c.checkout.release(c, nil, false)
		t.Attempt--
		a.expire(c, "the broker")
	case !c.journal.lease(c):
		c.journal.loose(c)
	default:
		a.call(c)
	}
}

func (a *attempt) call(c *Core) {
	t := c.cur
	call := Action{Kind: Call, Op: c.checkout.slot, Job: t.Job, Task: t}
	t.budget(c)
	c.journal.equip(c, &call)
	a.gaveUp = nil
	c.to(Running)
	c.awaits = c.checkout.slot
	c.wait(t.Budget)
	c.do(call)
}

// confirm finds out whether the partition is still this epoch's. A host that stood still (SIGSTOP, a paused machine) does not notice
// it, and what it was about to start may have been run and finished elsewhere meanwhile: records are fenced, what a job does to the
// world is not.
func (a *attempt) confirm(c *Core, _ *Event) {
	a.asked = c.mono
	c.ask(Action{Kind: Own})
}

func (a *attempt) owned(c *Core, ev *Event) {
	switch {
	case ev.Fault != NoFault:
		c.trouble.fault(c, ev, StepRecord)
	case ev.Owner != Mine:
		c.do(Action{Kind: Log, Note: NotStarted, Job: c.cur.Job, Task: c.cur})
		c.fenced(ev.Owner)
	default:
		c.cur.confirmed = a.asked
		a.begun(c)
	}
}

func (a *attempt) overran(c *Core, _ *Event) { a.giveUp(c, c.cur.overran()) }

// giveUp ends the running attempt; the first reason counts.
func (a *attempt) giveUp(c *Core, e *jobs.Error) {
	if a.gaveUp != nil {
		return
	}
	a.gaveUp, c.alarm = e, 0
	c.do(Action{Kind: CancelCall, Op: c.checkout.slot, Task: c.cur, Err: e})
}

func (a *attempt) answered(c *Core, ev *Event) {
	out := ev.Output
	c.alarm = 0
	switch {
	case c.cut:
		c.leave()
		return
	case out.Stale:
		a.begun(c)
		return
	case out.GaveUp:
		out.Err = a.gaveUp
	}
	if out.Err == nil {
		c.checkout.release(c, out, false)
		a.settle(c, nil, out)
		return
	}
	v := a.judge(c, out.Err)
	c.checkout.release(c, out, v.Action == jobs.Retry)
	a.fail(c, out.Err, v, out)
}

// judge decides what the failure of the latest attempt leads to.
func (a *attempt) judge(c *Core, e *jobs.Error) jobs.Verdict {
	left, has := c.left(c.cur.Job)
	return jobs.Settle(e, c.cur.Attempt, c.cur.Req.Policy, left, has, c.cfg.Chance)
}

// fail does what was decided about a job whose attempt has failed.
func (a *attempt) fail(c *Core, e *jobs.Error, v jobs.Verdict, out *Output) {
	t := c.cur
	c.cur.note(c, e)
	if v.Action != jobs.Retry {
		t.dead = v.Action == jobs.ToDeadLetter
		a.settle(c, e, out)
		return
	}
	c.do(Action{Kind: Log, Note: JobRetries, Job: t.Job, Task: t, Delay: v.Delay, Err: e})
	c.journal.retry(c, v.Delay)
}

// settle gives the job its outcome: e nil is success. out is what the last attempt brought, nil if none ran.
func (a *attempt) settle(c *Core, e *jobs.Error, out *Output) {
	if out == nil {
		out = &Output{Label: c.ledger.label()}
	}
	a.err, a.output = e, out
	c.journal.commit(c)
}

// reply is what the client gets.
func (a *attempt) reply(c *Core) []byte {
	t, out := c.cur, a.output
	r := jobs.Reply{Job: t.Env.Job, Attempt: t.Attempt, Session: c.ref.ID, Host: c.cfg.Host, Worker: out.Slot.Worker, State: out.Label,
		Engine: out.Slot.Engine, Queued: c.age(t.Job) - out.Ran, Run: out.Ran, Usage: out.Usage, Err: a.err, Result: out.Value, Object: out.Object}
	return r.Append(nil)
}

// cancel ends the job at work as soon as nothing of it is under way any more.
func (a *attempt) cancel(c *Core) {
	c.cur.cancelled = true
	switch c.state {
	case Running:
		a.giveUp(c, cancelled())
	case AwaitSlot, AwaitRetry, AwaitRoom:
		c.checkout.withdraw(c, cancelled())
		a.start(c, nil)
	case AwaitBreaker:
		c.checkout.withdraw(c, nil)
		c.prep.prepare(c, nil)
	}
}

// retry is a timer for the next attempt, and the redelivery that comes with it.
type retry struct {
	due   clock.Mono
	again bool // the redelivery has come, or none is waited for
}

// await waits, without a token, with the session's queue closed behind the job.
func (w *retry) await(c *Core, d time.Duration, again bool) {
	c.queue.yield(c)
	c.to(AwaitRetry)
	w.again, w.due = again, c.at(d)
	w.setAlarm(c)
}

// setAlarm has the retry start when it is due and its redelivery is here. One that is a second late is not waited for.
func (w *retry) setAlarm(c *Core) {
	c.alarm = w.due
	if !w.again {
		c.alarm = w.due + time.Second
	}
}

// resume starts the retry if its time has come. A redelivery that a reset brings before is no start, and none other follows.
func (w *retry) resume(c *Core, _ *Event) {
	if w.setAlarm(c); c.reached(c.alarm) {
		c.alarm = 0
		c.attempt.start(c, nil)
	}
}
