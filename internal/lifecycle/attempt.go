package lifecycle

import (
	"cmp"
	"time"

	"github.com/dspex/dspex/internal/jobs"
)

// start makes the next attempt, unless none must start any more.
func (a *attempt) start(c *Core, _ *Event) {
	t := c.cur
	if c.trouble.blocked == StepRoom {
		c.trouble.unblock(c)
	}
	switch {
	case t.cancelled:
		a.end(c, cancelled(), nil)
	case c.late(t.Job):
		a.expire(c, cmp.Or(a.missed, "its turn"))
	case t.crashedOut():
		t.dead = true
		a.end(c, crashed(t.Attempt), nil)
	default:
		a.missed = ""
		c.checkout.acquire(c)
	}
}

// checkRoom looks again whether there is room. Until then nothing is judged, because nothing could be written.
func (a *attempt) checkRoom(c *Core, _ *Event) { c.request(Action{Kind: CheckRoom}) }

func (a *attempt) roomLooked(c *Core, ev *Event) {
	if ev.Fault != NoFault {
		c.wait(brokerPause)
		return
	}
	a.start(c, ev)
}

// begun has the attempt written down: from here on it counts, also if this host ends.
func (a *attempt) begun(c *Core) {
	t := c.cur
	c.trouble.cleared(c)
	switch {
	case t.cancelled:
		c.checkout.release(c, nil, false)
		a.end(c, cancelled(), nil)
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
	a.budget(c)
	c.journal.equip(c, &call)
	a.gaveUp = nil
	c.to(Running)
	c.awaits = c.checkout.slot
	c.wait(t.Budget)
	c.do(call)
}

// budget is how long an attempt that starts now may take.
func (a *attempt) budget(c *Core) {
	t := c.cur
	t.Budget, t.late = t.Req.Timeout, false
	if left, has := c.left(t.Job); has && left < t.Budget {
		t.Budget, t.late = left, true
	}
}

// confirm finds out whether the partition is still this epoch's. A host that stood still (SIGSTOP, a paused machine) does not detect it.
// What it was about to start may have run and finished elsewhere meanwhile. Records are fenced; what a job does to the world is not.
func (a *attempt) confirm(c *Core, _ *Event) {
	a.sent = c.mono
	c.request(Action{Kind: Own})
}

func (a *attempt) owned(c *Core, ev *Event) {
	switch {
	case ev.Fault != NoFault:
		c.trouble.fault(c, ev, StepRecord)
	case ev.Owner != Mine:
		c.do(Action{Kind: Log, Note: NotStarted, Job: c.cur.Job, Task: c.cur})
		c.fenced(ev.Owner)
	default:
		c.cur.confirmed = a.sent
		a.begun(c)
	}
}

func (a *attempt) overran(c *Core, _ *Event) { a.giveUp(c, c.cur.overran()) }

func (a *attempt) answered(c *Core, ev *Event) {
	out := ev.Output
	c.alarm = 0
	switch {
	case c.cut:
		c.leave()
		return
	case out.Stale && a.gaveUp == nil:
		a.begun(c)
		return
	case out.Stale, out.GaveUp: // the time of one that did not start may be over, too: its slot serves no other call
		out.Err = a.gaveUp
	}
	if out.Err == nil {
		c.checkout.release(c, out, false)
		a.end(c, nil, out)
		return
	}
	v := a.judge(c, out.Err)
	c.checkout.release(c, out, v.Action == jobs.Retry)
	a.fail(c, out.Err, v, out)
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
