package lifecycle

import (
	"errors"
	"time"

	"github.com/dspex/dspex/internal/jobs"
)

// ending is a decided outcome on its way out: dead letter, result, reply, acknowledgement. Every step may be repeated.
type ending struct {
	letter  *jobs.DeadLetter // nil: none
	check   bool             // there may be one already
	result  *jobs.Result     // nil: none
	body    []byte           // of result
	ttl     time.Duration
	rev     uint64
	decided bool // the record holds the outcome: the reply needs not wait for the result
	replied bool
	doubt   bool // there may be a result
	reply   Address
	answer  []byte
}

// finish carries the outcome that the record holds out.
func (c *Core) finish(o *jobs.Outcome, again bool) {
	j := c.cur.Job
	c.ending = ending{decided: true, ttl: jobs.ResultTTL(o.Mode), answer: o.Body,
		reply:  Address{To: o.ReplyTo, Type: o.Type, Job: o.Job, Attempt: o.Attempt},
		result: &jobs.Result{Session: c.ref.ID, Job: o.Job, Sequence: o.Sequence, Attempt: o.Attempt, Hash: o.Hash, Kind: o.Kind, Body: o.Body, Stored: c.now()}}
	if o.Buried {
		c.ending.letter, c.ending.check = c.letter(j, o), again
	}
	c.carryOut()
}

func (c *Core) carryOut() {
	if c.ending.result != nil {
		c.ending.body = c.ending.result.Append(nil)
	}
	if c.ending.letter == nil {
		c.to(Storing)
		c.storeResult(nil)
		return
	}
	c.to(DeadLettering)
	c.writeLetter(nil)
}

// letter is the dead letter of a job with the outcome o.
func (c *Core) letter(j *Job, o *jobs.Outcome) *jobs.DeadLetter {
	return &jobs.DeadLetter{Session: c.ref, Job: o.Job, Sequence: j.Sequence, Stored: j.Stored, Mode: j.Env.Mode, Type: j.Env.Type, Deadline: j.Env.Deadline,
		Attempts: o.Attempt, Reason: jobs.ReplyReason(o.Body), Failures: o.Failures, Lane: j.Lane}
}

// refuseSession disposes of a job whose subject names no possible session: dead letter, reply, ack, no record.
func (c *Core) refuseSession() {
	t := c.cur
	e := jobs.Errorf(jobs.Session, jobs.CodeBadSession, "the session id is not allowed")
	e.Expected = "1 to 64 of A-Z a-z 0-9 _ -"
	o := &jobs.Outcome{Job: t.Env.Job, Body: (&jobs.Reply{Job: t.Env.Job, Err: e}).Append(nil)}
	c.ending = ending{letter: c.letter(t.Job, o), answer: o.Body, reply: Address{To: t.Env.ReplyTo, Type: t.Env.Type, Job: t.Env.Job}}
	c.ending.letter.Invalid = true
	c.carryOut()
}

// writeLetter stores the dead letter. The broker stores one of two with the same id within its window; there may be an older
// one of a job that is older, too: its record can have expired after the letter and before the result.
func (c *Core) writeLetter(*Event) {
	if c.ending.doubt { // an anonymous job: if it has an outcome already, that one counts
		c.ask(Action{Kind: ReadResult, Job: c.cur.Job})
		return
	}
	// By whatever clock the broker measures its window.
	check := c.ending.check || max(c.age(c.cur.Job), c.now().Sub(c.cur.Stored)) > c.cfg.DeadWindow
	c.ask(Action{Kind: WriteLetter, Job: c.cur.Job, Letter: c.ending.letter, Check: check})
}

func (c *Core) letterNeeded(ev *Event) {
	switch {
	case ev.Fault != NoFault:
		c.paused(ev)
	case ev.Result.Exists:
		c.to(Storing)
		c.resultFound(ev)
	default:
		c.ending.doubt = false
		c.writeLetter(ev)
	}
}

func (c *Core) letterWritten(ev *Event) {
	if ev.Fault != NoFault {
		c.fault(ev, StepLetter)
		return
	}
	c.settled()
	c.to(Storing)
	c.storeResult(ev)
}

// storeResult stores the result unless there is one. Nobody may see another one than that which counts.
func (c *Core) storeResult(*Event) {
	e := &c.ending
	switch {
	case e.result == nil:
		c.stored()
	case e.doubt:
		c.ask(Action{Kind: ReadResult, Job: c.cur.Job})
	default:
		c.ask(Action{Kind: CreateResult, Job: c.cur.Job, Body: e.body, Revision: e.rev, TTL: e.ttl})
	}
	if e.result != nil && e.decided {
		c.sendReply()
	}
}

func (c *Core) resultWritten(ev *Event) {
	e := &c.ending
	if ev.Fault == NoFault {
		c.stored()
		return
	}
	first := !e.doubt
	e.doubt = true
	if first && ev.Fault != NoSpace && ev.Fault != Failed { // it may be there
		c.storeResult(ev)
		return
	}
	c.fault(ev, StepResult)
}

func (c *Core) resultFound(ev *Event) {
	e := &c.ending
	if ev.Fault != NoFault {
		c.fault(ev, StepResult)
		return
	}
	if ev.Result.Exists {
		won, err := jobs.ReadResult(c.ref, e.result.Job, ev.Result.Value)
		newer := errors.Is(err, jobs.ErrNewer)
		switch {
		case e.decided && (err == nil || newer): // what is none of ours is written over
			c.stored()
			return
		case newer:
			ev.Err = err
			c.fault(ev, StepResult)
			return
		case err == nil:
			e.answer, e.reply.Attempt = won.Body, won.Attempt
			c.stored()
			return
		}
	}
	e.rev = ev.Result.Revision
	c.ask(Action{Kind: CreateResult, Job: c.cur.Job, Body: e.body, Revision: e.rev, TTL: e.ttl})
}

func (c *Core) sendReply() {
	if e := &c.ending; !e.replied {
		e.replied = true
		c.do(Action{Kind: Reply, Job: c.cur.Job, Reply: e.reply, Body: e.answer})
	}
}

// stored is the end: the message is acknowledged only now.
func (c *Core) stored() {
	c.sendReply()
	c.ack()
}

// endedEarly completes a job that ended before its turn: the record holds only how. What is answered is what is stored.
func (c *Core) endedEarly(kind jobs.Kind) {
	t := c.cur
	r := c.earlyResult(t, kind)
	c.ending = ending{result: r, ttl: jobs.ResultTTL(t.Env.Mode), answer: r.Body, reply: Address{To: t.Env.ReplyTo, Type: t.Env.Type, Job: t.Env.Job}}
	c.carryOut()
}

func (c *Core) earlyResult(t *Task, kind jobs.Kind) *jobs.Result {
	e := jobs.DeadlinePassed("its turn")
	if kind == jobs.Cancelled {
		e = cancelled()
	}
	reply := jobs.Reply{Job: t.Env.Job, Session: c.ref.ID, Host: c.cfg.Host, State: c.ledger.label(), Err: e}
	return &jobs.Result{Session: c.ref.ID, Job: t.Env.Job, Sequence: t.Sequence, Hash: t.Req.Hash, Kind: kind, Body: reply.Append(nil), Stored: c.now()}
}
