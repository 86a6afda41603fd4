package lifecycle

import (
	"errors"

	"github.com/dspex/dspex/internal/jobs"
)

// prepare finds out what there is to know before a job may run, one thing after the other, and comes back with each answer. A
// job that has its outcome already is completed from what is known.
func (c *Core) prepare(*Event) {
	t := c.cur
	if c.side.job == t.Job { // it is ending early: then it is known how
		c.to(Loading)
		c.held = true
		return
	}
	if c.ledger.session() && !c.ref.Valid() {
		if c.parse() {
			c.refuseSession()
		}
		return
	}
	if !c.ledger.ready(c) || c.ledger.past(c) || !c.parse() {
		return
	}
	switch kind, ended := c.ledger.ended(t.Job); {
	case ended && t.answered:
		c.ack()
	case !t.looked && (ended || c.ledger.suspect(c)):
		c.to(Checking)
		c.ask(Action{Kind: ReadResult, Job: t.Job})
	case ended:
		c.endedEarly(kind)
	case t.bad != nil:
		c.settle(t.bad, nil)
	case t.resumed || c.ledger.resume(c):
		c.attempt(nil)
	}
}

// parse reads the request, and has it read again when it was not kept.
func (c *Core) parse() bool {
	t := c.cur
	if t.parsed {
		return true
	}
	if t.Data == nil && t.Size > 0 {
		c.to(Fetching)
		c.ask(Action{Kind: Fetch, Job: t.Job})
		return false
	}
	c.parseFrom(t.Data)
	return true
}

func (c *Core) parseFrom(body []byte) {
	t := c.cur
	t.bad = t.read(c.cfg, body)
	t.parsed, t.Job.bound, t.Job.weighed = true, t.total, true
}

func (c *Core) fetched(ev *Event) {
	if ev.Fault != NoFault {
		c.paused(ev)
		return
	}
	c.parseFrom(ev.Data)
	c.prepare(ev)
}

// paused starts over after a read that failed. A delivery that nothing is known of comes again by itself.
func (c *Core) paused(ev *Event) {
	c.do(Action{Kind: Log, Note: JobWaits, Job: c.cur.Job, Cause: ev.Err})
	if !c.ledger.session() {
		c.leave()
		return
	}
	c.ledger.doubt()
	c.to(Paused)
	c.stumble(ev, StepRecord)
	c.wait(brokerPause)
}

// newer leaves a record of a newer version alone.
func (c *Core) newer(err error) {
	c.ledger.doubt()
	c.yield()
	c.to(AwaitNewer)
	c.block(StepNewer, err)
	c.wait(newerPause)
}

// loaded has record and attempt record.
func (c *Core) loaded(ev *Event) {
	switch err := c.ledger.load(c, ev); {
	case errors.Is(err, jobs.ErrNewer):
		c.newer(err)
	case errors.Is(err, errFenced):
		c.fenced(ev.Owner)
	case errors.Is(err, errUnsure):
		c.ledger.(*record).lookSure(c)
	case err != nil:
		if ev.Err == nil {
			ev.Err = err
		}
		c.paused(ev)
	default:
		c.failed = 0
		if c.blocked == StepRecord || c.blocked == StepNewer {
			c.unblock()
		}
		c.prepare(ev)
	}
}

// checked knows whether the job's id has a result. If so that is the answer: the repeat of a job does not run.
func (c *Core) checked(ev *Event) {
	t := c.cur
	switch {
	case ev.Fault != NoFault:
		c.paused(ev)
	case !ev.Result.Exists:
		t.looked = true
		c.prepare(ev)
	default:
		reply, err := c.answer(t, ev.Result)
		if err != nil {
			ev.Err = err
			c.paused(ev)
			return
		}
		c.do(reply)
		c.ack()
	}
}

// answer is the reply to a job whose id has a result: same payload, same answer; another one is a conflict. A result that
// cannot be read is no reason to run the job again: it has had its effect.
func (c *Core) answer(t *Task, found Found) (Action, error) {
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
