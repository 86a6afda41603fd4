package lifecycle

import (
	"time"

	"github.com/dspex/dspex/internal/jobs"
)

// acquire requests a slot: a call waits for the checkout timeout, a queued job until its deadline.
func (o *checkout) acquire(c *Core) {
	t := c.cur
	bound := time.Duration(0)
	if left, has := c.left(t.Job); has {
		bound = max(left, 1)
	}
	waited := time.Duration(0)
	if t.Attempt == 0 {
		waited = c.journal.waited(c)
	}
	o.bounded = false
	if patience := max(c.cfg.CheckoutTimeout-waited, 1); t.Env.Mode == jobs.ModeCall && (bound == 0 || patience < bound) {
		bound, o.bounded = patience, true
	}
	t.LM, t.Prefer, t.Avoid = c.ledger.lm(), c.ledger.prefers(c), t.avoids()
	c.to(AwaitSlot)
	if bound > 0 {
		c.wait(bound)
	}
	c.request(Action{Kind: Acquire, Job: t.Job, Task: t})
}

// outwaited ends the wait for a slot.
func (o *checkout) outwaited(c *Core, _ *Event) {
	if o.bounded {
		e := jobs.NoWorkerFree(c.cfg.CheckoutTimeout)
		c.queue.withdraw(c, e)
		o.notStarted(c, e)
		return
	}
	c.queue.withdraw(c, jobs.DeadlinePassed("a worker"))
	c.attempt.expire(c, "a worker")
}

func (o *checkout) refused(c *Core, ev *Event) {
	t, r := c.cur, ev.Refusal
	c.alarm = 0
	switch {
	case r.Reason == Stopping && !c.journal.handsBack(c): // the host is about to leave; the job is not to blame
		c.to(AwaitRoom)
		c.wait(brokerPause)
	case r.Reason == Stopping:
	case r.Reason == NoRoom:
		c.queue.yield(c)
		c.to(AwaitRoom)
		c.trouble.block(c, StepRoom, ev.Err)
		c.wait(brokerPause)
	case r.Reason == OtherHost:
		c.journal.retry(c, 0)
	case r.Reason == BreakerOpen && t.Env.Mode != jobs.ModeCall:
		c.journal.awaitBreaker(c, r)
	case r.Reason == BreakerOpen && r.Elsewhere && c.anonymous:
		c.journal.retry(c, 0) // it was requested before the breaker opened
	default:
		o.notStarted(c, r.Err)
	}
}

// notStarted decides about a job that got no slot. That no worker can be started counts as a failed attempt, unless somebody
// waits: then it is the answer.
func (o *checkout) notStarted(c *Core, e *jobs.Error) {
	t := c.cur
	if e.Category == jobs.Initialization && t.Env.Mode == jobs.ModeQueue {
		t.Attempt++
		c.attempt.fail(c, e, c.attempt.judge(c, e), nil)
		return
	}
	t.dead = t.Attempt > 0 && e.Retryable
	c.attempt.end(c, e, nil)
}

func (o *checkout) granted(c *Core, ev *Event) {
	t := c.cur
	o.slot, o.worker = ev.Op, ev.Slot
	if c.late(t.Job) {
		o.release(c, nil, false)
		c.attempt.expire(c, "a worker")
		return
	}
	t.Attempt++
	c.journal.begin(c)
}
