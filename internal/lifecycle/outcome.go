package lifecycle

import (
	"errors"

	"github.com/dspex/dspex/internal/jobs"
)

// finish carries the outcome that the record holds out.
func (e *ending) finish(c *Core, o *jobs.Outcome, again bool) {
	j := c.cur.Job
	*e = ending{decided: true, ttl: jobs.ResultTTL(o.Mode), answer: o.Body,
		reply:  Address{To: o.ReplyTo, Type: o.Type, Job: o.Job, Attempt: o.Attempt},
		result: o.Result(c.ref.ID, c.now())}
	if o.DeadLettered {
		e.deadLetter, e.check = e.deadLetterOf(c, j, o), again
	}
	e.carryOut(c)
}

func (e *ending) carryOut(c *Core) {
	if e.result != nil {
		e.body = e.result.Append(nil)
	}
	if e.deadLetter == nil {
		c.to(Storing)
		e.storeResult(c, nil)
		return
	}
	c.to(DeadLettering)
	e.writeDeadLetter(c, nil)
}

// deadLetterOf is the dead letter of a job with the outcome o.
func (e *ending) deadLetterOf(c *Core, j *Job, o *jobs.Outcome) *jobs.DeadLetter {
	return &jobs.DeadLetter{Session: c.ref, Job: o.Job, Sequence: j.Sequence, Stored: j.Stored, Mode: j.Env.Mode, Type: j.Env.Type, Deadline: j.Env.Deadline,
		Attempts: o.Attempt, Reason: jobs.ReplyReason(o.Body), Failures: o.Failures, Lane: j.Lane}
}

// refuseSession disposes of a job whose subject names no possible session: dead letter, reply, ack, no record.
func (e *ending) refuseSession(c *Core) {
	t := c.cur
	bad := jobs.Errorf(jobs.Session, jobs.CodeBadSession, "the session id is not allowed")
	bad.Expected = "1 to 64 of A-Z a-z 0-9 _ -"
	o := &jobs.Outcome{Job: t.Env.Job, Body: (&jobs.Reply{Job: t.Env.Job, Err: bad}).Append(nil)}
	*e = ending{deadLetter: e.deadLetterOf(c, t.Job, o), answer: o.Body, reply: Address{To: t.Env.ReplyTo, Type: t.Env.Type, Job: t.Env.Job}}
	e.deadLetter.Invalid = true
	e.carryOut(c)
}

// writeDeadLetter stores the dead letter. The broker stores one of two with the same id within its window. There may be an older one of a
// job that is older, too: its record can have expired after the dead letter and before the result.
func (e *ending) writeDeadLetter(c *Core, _ *Event) {
	if e.doubt { // an anonymous job: if it has an outcome already, that one counts
		c.request(Action{Kind: ReadResult, Job: c.cur.Job})
		return
	}
	// By whatever clock the broker measures its window.
	check := e.check || max(c.age(c.cur.Job), c.now().Sub(c.cur.Stored)) > c.cfg.DeadWindow
	c.request(Action{Kind: WriteDeadLetter, Job: c.cur.Job, DeadLetter: e.deadLetter, Check: check})
}

func (e *ending) deadLetterNeeded(c *Core, ev *Event) {
	switch {
	case ev.Fault != NoFault:
		c.prep.paused(c, ev)
	case ev.Result.Exists:
		c.to(Storing)
		e.resultFound(c, ev)
	default:
		e.doubt = false
		e.writeDeadLetter(c, ev)
	}
}

func (e *ending) deadLetterWritten(c *Core, ev *Event) {
	if ev.Fault != NoFault {
		c.trouble.fault(c, ev, StepDeadLetter)
		return
	}
	c.trouble.cleared(c)
	c.to(Storing)
	e.storeResult(c, ev)
}

// storeResult stores the result unless there is one. Nobody may see another one than that which counts.
func (e *ending) storeResult(c *Core, _ *Event) {
	switch {
	case e.result == nil:
		e.stored(c)
	case e.doubt:
		c.request(Action{Kind: ReadResult, Job: c.cur.Job})
	default:
		c.request(Action{Kind: CreateResult, Job: c.cur.Job, Body: e.body, Revision: e.rev, TTL: e.ttl})
	}
	if e.result != nil && e.decided {
		e.sendReply(c)
	}
}

func (e *ending) resultWritten(c *Core, ev *Event) {
	if ev.Fault == NoFault {
		e.stored(c)
		return
	}
	first := !e.doubt
	e.doubt = true
	if first && ev.Fault != NoSpace && ev.Fault != Failed { // it may be there
		e.storeResult(c, ev)
		return
	}
	c.trouble.fault(c, ev, StepResult)
}

func (e *ending) resultFound(c *Core, ev *Event) {
	if ev.Fault != NoFault {
		c.trouble.fault(c, ev, StepResult)
		return
	}
	if ev.Result.Exists {
		won, err := jobs.ReadResult(c.ref, e.result.Job, ev.Result.Value)
		newer := errors.Is(err, jobs.ErrNewer)
		switch {
		case e.decided && (err == nil || newer): // what is none of ours is written over
			e.stored(c)
			return
		case newer:
			ev.Err = err
			c.trouble.fault(c, ev, StepResult)
			return
		case err == nil:
			e.answer, e.reply.Attempt = won.Body, won.Attempt
			e.stored(c)
			return
		}
	}
	e.rev = ev.Result.Revision
	c.request(Action{Kind: CreateResult, Job: c.cur.Job, Body: e.body, Revision: e.rev, TTL: e.ttl})
}

func (e *ending) sendReply(c *Core) {
	if !e.replied {
		e.replied = true
		c.do(Action{Kind: Reply, Job: c.cur.Job, Reply: e.reply, Body: e.answer})
	}
}

// stored is the end: the message is acknowledged only now.
func (e *ending) stored(c *Core) {
	e.sendReply(c)
	c.ack()
}

// endedEarly completes a job that ended before its turn: the record holds only how. What is answered is what is stored.
func (e *ending) endedEarly(c *Core, kind jobs.Kind) {
	t := c.cur
	r := t.earlyResult(c, kind)
	*e = ending{result: r, ttl: jobs.ResultTTL(t.Env.Mode), answer: r.Body, reply: Address{To: t.Env.ReplyTo, Type: t.Env.Type, Job: t.Env.Job}}
	e.carryOut(c)
}

// earlyResult is what is stored of a job that ended before its turn.
func (t *Task) earlyResult(c *Core, kind jobs.Kind) *jobs.Result {
	e := jobs.DeadlinePassed("its turn")
	if kind == jobs.Cancelled {
		e = cancelled()
	}
	reply := jobs.Reply{Job: t.Env.Job, Session: c.ref.ID, Host: c.cfg.Host, State: c.ledger.label(), Err: e}
	return &jobs.Result{Session: c.ref.ID, Job: t.Env.Job, Sequence: t.Sequence, Hash: t.Req.Hash, Kind: kind, Body: reply.Append(nil), Stored: c.now(), Trace: t.Trace}
}
