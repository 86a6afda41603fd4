package lifecycle

import (
	"github.com/dspex/dspex/internal/jobs"
)

// expire ends a job whose deadline seems to have passed while it waited for what. Only a clock that was compared since the job came
// may decide it: it may have stepped before, and an outcome cannot be taken back.
func (a *attempt) expire(c *Core, what string) {
	t := c.cur
	if c.sure(t.Job) {
		a.end(c, jobs.DeadlinePassed(what), nil)
		return
	}
	a.missed = what
	c.to(Comparing)
	c.request(Action{Kind: Compare, Job: t.Job})
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
		a.end(c, e, out)
		return
	}
	c.do(Action{Kind: Log, Note: JobRetries, Job: t.Job, Task: t, Delay: v.Delay, Err: e})
	c.journal.retry(c, v.Delay)
}

// end gives the job its outcome: e nil is success. out is what the last attempt brought, nil if none ran.
func (a *attempt) end(c *Core, e *jobs.Error, out *Output) {
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

// note adds a failed attempt to the history.
func (t *Task) note(c *Core, e *jobs.Error) {
	t.Failures = jobs.BoundHistory(append(t.Failures, jobs.NewFailure(t.Attempt, e, c.now())), c.cfg.MaxPayload/16)
}

// giveUp ends the running attempt; the first reason counts.
func (a *attempt) giveUp(c *Core, e *jobs.Error) {
	if a.gaveUp != nil {
		return
	}
	a.gaveUp, c.alarm = e, 0
	c.do(Action{Kind: CancelCall, Op: c.checkout.slot, Task: c.cur, Err: e})
}

// release gives the slot back. out is what the attempt brought, nil if none ran.
func (o *checkout) release(c *Core, out *Output, retries bool) {
	c.do(Action{Kind: Release, Op: o.slot, Task: c.cur, Output: out, Retries: retries})
	o.slot = 0
}

// withdraw stops waiting for a slot, a token or a breaker. e is what the job gets for it, nil if that is not the reason.
func (q *queue) withdraw(c *Core, e *jobs.Error) {
	switch c.state {
	case AwaitSlot:
		c.do(Action{Kind: Withdraw, Op: c.awaits, Task: c.cur, Err: e})
		c.awaits = 0
	case AwaitToken, AwaitBreaker:
		c.do(Action{Kind: StopWaiting})
	}
}

// paused starts over after a read that failed. A delivery that nothing is known of comes again by itself.
func (p *preparation) paused(c *Core, ev *Event) {
	c.do(Action{Kind: Log, Note: JobWaits, Job: c.cur.Job, Cause: ev.Err})
	if c.anonymous {
		c.leave()
		return
	}
	c.ledger.doubt()
	c.to(Paused)
	c.trouble.stumble(c, ev, StepRecord)
	c.wait(brokerPause)
}

// ack ends the work on a job that has its outcome.
func (c *Core) ack() {
	c.do(Action{Kind: Ack, Job: c.cur.Job})
	c.leave()
}

// leave ends the work on a job whose outcome is not for this core to decide, or is there.
func (c *Core) leave() {
	c.trouble.cleared(c)
	c.side.room(c)
	if c.cur != nil {
		if c.checkout.slot != 0 {
			c.checkout.release(c, nil, false)
		}
		c.do(Action{Kind: Forget, Job: c.cur.Job})
	}
	c.next()
}

// next turns to the next job.
func (c *Core) next() {
	c.to(Idle)
	c.cur, c.work = nil, nil
	c.queue.since, c.alive = c.mono, c.mono
	c.queue.next(c)
}

// void starts the job over from the record, which has moved on.
func (c *Core) void() {
	c.trouble.cleared(c)
	if c.checkout.slot != 0 {
		c.checkout.release(c, nil, false)
	}
	c.ledger.doubt()
	if c.over {
		c.leave()
		return
	}
	c.begin(c.cur.Job, c.cur.Fresh)
	c.prep.prepare(c, nil)
}

// fenced gives the partition up: it belongs to somebody else.
func (c *Core) fenced(o Owner) {
	c.do(Action{Kind: GiveUp, Owner: o})
	c.end(true)
}

// end is the end of the epoch: what has not started comes again in the next one, whose attempt record reports what has. With cut
// nothing is committed any more, and a running attempt is given up.
func (c *Core) end(cut bool) {
	c.over, c.cut = true, c.cut || cut
	c.queue.forget(c)
	c.side.room(c)
	c.cancellations.verdicts(c, jobs.CancelUnknown)
	c.side.end(c)
	switch {
	case c.state == Idle:
	case c.state == Running && c.cut:
		c.attempt.giveUp(c, cancelled()) // the worker answers, and then the job is left
	case c.cut && c.journal != nil && c.journal.handsBack(c):
	case c.cut || !c.state.started():
		c.queue.withdraw(c, nil)
		c.leave()
	}
}

// room reports that no duty waits for room: it has got it, or is tried again at its job's turn.
func (s *side) room(c *Core) {
	if s.full {
		s.full = false
		c.do(Action{Kind: Room})
	}
}

// end drops what is not decided yet, or all of it when nothing counts any more.
func (s *side) end(c *Core) {
	if !s.step.waits() && !c.cut {
		return
	}
	if s.verdict != 0 {
		c.do(Action{Kind: Verdict, Op: s.verdict, Verdict: jobs.CancelUnknown})
	}
	*s = side{}
}

// forget removes all of it: the next epoch gets it again.
func (q *queue) forget(c *Core) {
	for _, j := range q.jobs {
		c.do(Action{Kind: Forget, Job: j})
	}
	q.jobs = nil
}

// verdicts answers all cancellations that wait.
func (a *cancellations) verdicts(c *Core, v jobs.CancelVerdict) {
	for _, one := range *a {
		c.do(Action{Kind: Verdict, Op: one.op, Verdict: v})
	}
	*a = nil
}
