package lifecycle

import (
	"errors"

	"github.com/dspex/dspex/internal/jobs"
)

// prepare reads what is needed before a job may run, one thing after the other, and comes back with each answer. A
// job that has its outcome already is completed from what is known.
func (p *preparation) prepare(c *Core, _ *Event) {
	t := c.cur
	if c.side.job == t.Job { // it is ending early: then it is known how
		c.to(Loading)
		c.held = true
		return
	}
	if !c.anonymous && !c.ref.Valid() {
		if p.parse(c) {
			c.ending.refuseSession(c)
		}
		return
	}
	if !c.ledger.ready(c) || c.ledger.past(c) || c.ledger.strands(c) || !p.parse(c) {
		return
	}
	switch kind, ended := c.ledger.ended(t.Job); {
	case ended && t.answered:
		c.ack()
	case !p.looked && (ended || c.ledger.suspect(c)):
		c.to(Checking)
		c.request(Action{Kind: ReadResult, Job: t.Job})
	case ended:
		c.ending.endedEarly(c, kind)
	case t.bad != nil:
		c.attempt.end(c, t.bad, nil)
	case p.resumed || c.ledger.resume(c):
		c.attempt.start(c, nil)
	}
}

// parse reads the request, and has it read again when it was not kept.
func (p *preparation) parse(c *Core) bool {
	t := c.cur
	if t.parsed {
		return true
	}
	if t.Data == nil && t.Size > 0 {
		c.to(Fetching)
		c.request(Action{Kind: Fetch, Job: t.Job})
		return false
	}
	p.parseFrom(c, t.Data)
	return true
}

func (p *preparation) parseFrom(c *Core, body []byte) {
	t := c.cur
	t.bad = t.read(c.cfg, body)
	t.parsed, t.Job.bound, t.Job.weighed = true, t.total, true
}

func (p *preparation) fetched(c *Core, ev *Event) {
	if ev.Fault != NoFault {
		p.paused(c, ev)
		return
	}
	p.parseFrom(c, ev.Data)
	p.prepare(c, ev)
}

// loaded has record and attempt record.
func (p *preparation) loaded(c *Core, ev *Event) {
	switch err := c.ledger.load(c, ev); {
	case errors.Is(err, jobs.ErrNewer):
		p.newer(c, err)
	case errors.Is(err, errFenced):
		c.fenced(ev.Owner)
	case errors.Is(err, errUnsure):
		c.session.record.look(c, true)
	case err != nil:
		if ev.Err == nil {
			ev.Err = err
		}
		p.paused(c, ev)
	default:
		c.trouble.failed = 0
		if c.trouble.blocked == StepRecord || c.trouble.blocked == StepNewer {
			c.trouble.unblock(c)
		}
		p.prepare(c, ev)
	}
}

// newer leaves a record of a newer version alone.
func (p *preparation) newer(c *Core, err error) {
	c.ledger.doubt()
	c.queue.yield(c)
	c.to(AwaitNewer)
	c.trouble.block(c, StepNewer, err)
	c.wait(newerPause)
}

// checked has read whether the job's id has a result. If so that is the answer: the repeat of a job does not run.
func (p *preparation) checked(c *Core, ev *Event) {
	t := c.cur
	switch {
	case ev.Fault != NoFault:
		p.paused(c, ev)
	case !ev.Result.Exists:
		p.looked = true
		p.prepare(c, ev)
	default:
		reply, err := c.answer(t, ev.Result)
		if err != nil {
			ev.Err = err
			p.paused(c, ev)
			return
		}
		c.do(reply)
		c.ack()
	}
}

// answer is the reply to a job whose id has a result: same payload, same answer; another one is a conflict. A result that
// cannot be read is no reason to run the job again: it has had its effect.
func (c *common) answer(t *Task, found Found) (Action, error) {
	to := Address{To: t.Env.ReplyTo, Type: t.Env.Type, Job: t.Env.Job}
	r, err := jobs.ReadResult(c.ref, t.Env.Job, found.Value)
	var bad *jobs.Error
	switch {
	case errors.Is(err, jobs.ErrNewer):
		return Action{}, err
	case err != nil:
		c.do(Action{Kind: Log, Note: ResultUnreadable, Job: t.Job, Cause: err})
		bad = jobs.Errorf(jobs.Session, jobs.CodeRecordUnreadable, "the job id %s has an outcome that cannot be read", t.Env.Job).
			WithHint("the job is not run again; a new id makes a new job")
	case r.Hash != t.Req.Hash:
		bad = jobs.Errorf(jobs.Session, jobs.CodeConflict, "the job id %s was used with another payload", t.Env.Job).
			WithHint("choose a new id for a new request; the first outcome stays")
	default:
		to.Job, to.Attempt = r.Job, r.Attempt
		return Action{Kind: Reply, Job: t.Job, Reply: to, Body: r.Body}, nil
	}
	reply := jobs.Reply{Job: t.Env.Job, Session: c.ref.ID, Host: c.cfg.Host, State: jobs.None, Err: bad}
	return Action{Kind: Reply, Job: t.Job, Reply: to, Body: reply.Append(nil)}, nil
}

func (p *preparation) compared(c *Core, ev *Event) {
	if ev.Fault != NoFault {
		p.paused(c, ev)
		return
	}
	p.prepare(c, ev)
}

// unparked does not wait for the breaker any longer: the deadline has come.
func (p *preparation) unparked(c *Core, ev *Event) {
	c.queue.withdraw(c, nil)
	p.prepare(c, ev)
}

// admitted has a run token again: the breaker lets the session through.
func (p *preparation) admitted(c *Core, ev *Event) {
	c.queue.token = ev.Token
	p.prepare(c, ev)
}

// The stream of jobs can be lost before the result of a job is stored that its record has: the store was full, or the host cut off. No
// message brings that job again, and the next commit would overwrite its outcome. So its result is stored first (architecture, rule 2).

// stranded is such an outcome, nil if there is none. Its sequence is one of the lost stream, which the last sequence of the record is not.
func (r *record) stranded(c *Core) *jobs.Outcome {
	o := r.rec.Last
	if o == nil || o.Sequence == r.rec.LastSequence || r.saved == (saved{o.Job, o.Sequence}) || r.rec.Outlived(c.now()) {
		return nil
	}
	return o
}

func (r *record) strands(c *Core) bool {
	o := r.stranded(c)
	if o == nil {
		return false
	}
	c.prep.strands = o // the record may be read again meanwhile, for another job
	c.to(Recovering)
	c.request(Action{Kind: ReadResult, Job: jobOf(o)})
	return true
}

// jobOf is as much of its job as the key of a result needs.
func jobOf(o *jobs.Outcome) *Job {
	return &Job{Sequence: o.Sequence, Env: jobs.Envelope{Job: o.Job, Mode: o.Mode}}
}

func (p *preparation) strandedRead(c *Core, ev *Event) {
	o := p.strands
	switch {
	case ev.Fault != NoFault:
		p.paused(c, ev)
	case ev.Result.Exists:
		p.strandedSaved(c, ev)
	default:
		body := o.Result(c.ref.ID, c.now()).Append(nil)
		c.request(Action{Kind: CreateResult, Job: jobOf(o), Body: body, Revision: ev.Result.Revision, TTL: jobs.ResultTTL(o.Mode)})
	}
}

func (p *preparation) strandedWritten(c *Core, ev *Event) {
	c.trouble.noteRoom(c, ev, StepResult)
	if ev.Fault != NoFault { // it may be there: the next try looks
		p.paused(c, ev)
		return
	}
	p.strandedSaved(c, ev)
}

func (p *preparation) strandedSaved(c *Core, ev *Event) {
	c.session.record.saved = saved{p.strands.Job, p.strands.Sequence}
	p.prepare(c, ev)
}
