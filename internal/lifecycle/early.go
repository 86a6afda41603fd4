package lifecycle

import (
	"maps"

	"github.com/dspex/dspex/internal/jobs"
)

// write has the early end in the record.
func (e *earlyEnd) write(c *Core) {
	r, s := &c.session.record, &c.side
	if !r.fresh(c) || r.bare {
		c.side.look(c, false)
		return
	}
	if s.job.Sequence <= r.rec.LastSequence {
		c.side.over(c, jobs.CancelUnderway) // it has its outcome
		return
	}
	if have, ended := r.rec.Ended[s.job.Sequence]; ended {
		e.kind = have
		e.finish(c)
		return
	}
	if s.away { // as with the writes of the job at work
		s.request(c, sideOwning, Action{Kind: Own})
		return
	}
	if !r.fences(c) {
		e.noted = r.fence(c)
		c.side.request(c, sideFencing, Action{Kind: WriteAttemptRecord, Body: e.noted.Append(nil), Revision: r.attemptRev, TTL: c.cfg.lifetime(attemptRecordLifetime)})
		return
	}
	next := *r.rec
	next.Ended = maps.Clone(r.rec.Ended)
	if next.Ended == nil {
		next.Ended = map[uint64]jobs.Kind{}
	}
	next.Ended[s.job.Sequence] = e.kind
	e.next = &next
	c.side.request(c, sideWriting, Action{Kind: WriteRecord, Body: r.lossKept(next).Append(nil), Revision: r.rev, TTL: c.cfg.lifetime(0)})
}

func (e *earlyEnd) owned(c *Core, ev *Event) {
	switch {
	case ev.Fault != NoFault:
		c.side.postpone(c, ev, StepRecord)
	case ev.Owner != Mine:
		c.fenced(ev.Owner)
	default:
		c.side.away = false
		e.write(c)
	}
}

func (e *earlyEnd) written(c *Core, ev *Event) {
	r := &c.session.record
	switch ev.Fault {
	case NoFault:
		r.rec, r.rev, r.loaded, r.stamp = e.next, ev.Revision, c.mono, c.now()
		e.finish(c)
	case WrongRevision, Unknown:
		c.side.request(c, sideJudging, Action{Kind: Look})
	default:
		c.side.postpone(c, ev, StepRecord)
	}
}

// fenced goes on when no other epoch can begin an attempt any more; if one has, the record is read again first.
func (e *earlyEnd) fenced(c *Core, ev *Event) {
	r := &c.session.record
	switch ev.Fault {
	case NoFault:
		r.noted, r.attemptRev = e.noted, ev.Revision
		e.write(c)
	case WrongRevision, Unknown:
		c.side.look(c, false)
	default:
		c.side.postpone(c, ev, StepRecord)
	}
}

// judged decides after a write of an early end that failed.
func (e *earlyEnd) judged(c *Core, ev *Event) {
	r, s := &c.session.record, &c.side
	cur, err := readRecord(ev.Record)
	switch {
	case ev.Fault != NoFault || err != nil:
		if ev.Err == nil {
			ev.Err = err
		}
		c.side.postpone(c, ev, StepRecord)
		return
	case ev.Owner != Mine:
		c.fenced(ev.Owner)
		return
	case cur != nil && (cur.Stream != r.rec.Stream || cur.LastSequence != r.rec.LastSequence):
		c.side.postpone(c, ev, StepRecord) // the running job's commit will find out
		return
	case cur != nil:
		if r.lost {
			cur.State, cur.StateVersion, cur.LM, cur.Generation = nil, 0, nil, r.rec.Generation
		}
		r.rec, r.loaded, r.stamp = cur, c.mono, ev.Record.Stored
	}
	r.rev = ev.Record.Revision
	if r.rec.Ended[s.job.Sequence] == "" {
		c.side.postpone(c, ev, StepRecord)
		return
	}
	e.finish(c)
}

// finish gives the job its result, and answers; if its id has a result, that is the answer.
func (e *earlyEnd) finish(c *Core) {
	t := e.task
	if !t.parsed {
		if t.Data == nil && t.Size > 0 {
			c.side.request(c, sideFetching, Action{Kind: Fetch})
			return
		}
		t.bad, t.parsed = t.read(c.cfg, t.Data), true
	}
	c.side.request(c, sideChecking, Action{Kind: ReadResult})
}

func (e *earlyEnd) checked(c *Core, ev *Event) {
	if ev.Fault != NoFault {
		c.side.postpone(c, ev, StepResult)
		return
	}
	if ev.Result.Exists {
		reply, err := c.answer(e.task, ev.Result)
		if err != nil {
			ev.Err = err
			c.side.postpone(c, ev, StepResult)
			return
		}
		c.do(reply)
		e.answered(c)
		return
	}
	e.result = e.task.earlyResult(c, e.kind)
	c.side.request(c, sideStoring, Action{Kind: CreateResult, Body: e.result.Append(nil), Revision: ev.Result.Revision, TTL: jobs.ResultTTL(e.task.Env.Mode)})
}

func (e *earlyEnd) fetched(c *Core, ev *Event) {
	if ev.Fault != NoFault {
		c.side.postpone(c, ev, StepRecord)
		return
	}
	e.task.bad, e.task.parsed = e.task.read(c.cfg, ev.Data), true
	e.finish(c)
}

func (e *earlyEnd) stored(c *Core, ev *Event) {
	if ev.Fault != NoFault { // it may be there: the next try looks
		c.side.postpone(c, ev, StepResult)
		return
	}
	j := c.side.job
	c.do(Action{Kind: Reply, Job: j, Reply: Address{To: j.Env.ReplyTo, Type: j.Env.Type, Job: j.Env.Job}, Body: e.result.Body})
	e.answered(c)
}

func (e *earlyEnd) answered(c *Core) {
	c.side.job.answered = true
	if c.side.failed >= refusals && c.trouble.blocked == StepResult && c.state != Storing {
		c.trouble.unblock(c)
	}
	c.side.failed = 0
	c.side.room(c)
	c.side.over(c, jobs.CancelUnderway)
}
