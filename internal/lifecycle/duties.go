package lifecycle

import (
	"errors"
	"time"

	"github.com/dspex/dspex/internal/jobs"
)

// Beside the job at the front a session has duties: jobs behind it that are cancelled, or whose deadline passes, end early, and
// a record that has not been written for long is renewed. They are done one at a time, and never delay the job at the front,
// except that the record has one writer at a time.

// attends reports whether duties can be done at the moment.
func (s *side) attends(c *Core) bool {
	if c.over || s.step != sideIdle || c.anonymous {
		return false
	}
	switch c.state {
	case Idle, AwaitPredecessor, AwaitNewer:
		return false
	case Loading, Beginning, Postponing, Fencing, Committing:
		return c.awaits == 0 && !c.held
	}
	return c.ref.Valid()
}

// attend begins with the next duty, if there is one.
func (s *side) attend(c *Core) {
	if c.state == AwaitPredecessor || c.state == AwaitNewer {
		c.cancellations.verdicts(c, jobs.CancelBusy)
	}
	if !s.attends(c) {
		return
	}
	if len(c.cancellations) > 0 {
		a := c.cancellations[0]
		c.cancellations = c.cancellations[1:]
		s.start(c, a.job, jobs.Cancelled, a.op)
		return
	}
	if c.mono < s.quiet {
		return
	}
	for _, j := range c.queue.jobs {
		if j.answered {
			continue
		}
		if kind, ended := s.endedBefore(c, j); ended { // its result could not be stored
			s.start(c, j, kind, 0)
			return
		}
		if j.expires() && c.late(j) {
			if c.sure(j) {
				s.start(c, j, jobs.Expired, 0)
			} else {
				s.request(c, sideComparing, Action{Kind: Compare, Job: j})
			}
			return
		}
	}
	if in, ok := s.renewIn(c); ok && in <= 0 {
		s.begin(c, nil, "", 0)
		s.look(c, false)
	}
}

// endedBefore reports how a waiting job has ended already.
func (s *side) endedBefore(c *Core, j *Job) (jobs.Kind, bool) {
	if c.session == nil || !c.session.record.read {
		return "", false
	}
	return c.session.record.ended(j)
}

// start makes the end of a waiting job durable, stores its result and answers (architecture, rule 5). The message is
// acknowledged at its turn, so that early ends stay as bounded as the session's queue is.
func (s *side) start(c *Core, j *Job, kind jobs.Kind, op uint32) {
	s.begin(c, j, kind, op)
	s.early.write(c)
}

// begin begins with a duty; j is nil for a renewal.
func (s *side) begin(c *Core, j *Job, kind jobs.Kind, op uint32) {
	open(c)
	*s = side{job: j, verdict: op, failed: s.failed, full: s.full, away: s.away, quiet: s.quiet}
	if j != nil {
		s.early = &earlyEnd{kind: kind, task: &Task{Job: j, Session: c.ref}}
	}
}

func (s *side) request(c *Core, step sideStep, a Action) {
	s.step = step
	a.Op = c.op()
	if a.Job == nil {
		a.Job = s.job
	}
	s.awaits = a.Op
	c.do(a)
}

func (s *side) look(c *Core, sure bool) {
	c.session.record.sent = Present(c.cfg.Clock)
	step := sideLooking
	if s.job == nil {
		step = renewLooking
	}
	s.request(c, step, Action{Kind: Look, Job: c.queue.first(c), Check: sure})
}

// answer goes on with a duty.
func (s *side) answer(c *Core, ev *Event) {
	switch s.step {
	case sideComparing:
		if ev.Fault != NoFault {
			s.postpone(c, ev, StepRecord)
			return
		}
		s.over(c, "")
	case sideLooking, renewLooking:
		s.looked(c, ev)
	case sideOwning:
		s.early.owned(c, ev)
	case sideFencing:
		s.early.fenced(c, ev)
	case sideWriting:
		s.early.written(c, ev)
	case sideJudging:
		s.early.judged(c, ev)
	case sideFetching:
		s.early.fetched(c, ev)
	case sideChecking:
		s.early.checked(c, ev)
	case sideStoring:
		s.early.stored(c, ev)
	case renewRecord, renewAttemptRecord:
		s.renewed(c, ev)
	}
}

func (s *side) looked(c *Core, ev *Event) {
	r := &c.session.record
	known := r.read && !r.bare && s.job == nil
	if known && ev.Fault == NoFault && ev.Owner == Mine {
		s.renew(c)
		return
	}
	switch err := r.load(c, ev); {
	case errors.Is(err, errFenced):
		c.fenced(ev.Owner)
	case errors.Is(err, errUnsure):
		s.look(c, true)
	case err != nil:
		if ev.Err == nil {
			ev.Err = err
		}
		s.postpone(c, ev, StepRecord)
	case s.job == nil:
		s.renew(c)
	default:
		s.early.write(c)
	}
}

// over ends a duty; whoever requested it gets the verdict.
func (s *side) over(c *Core, v jobs.CancelVerdict) {
	if op := s.verdict; op != 0 {
		c.do(Action{Kind: Verdict, Op: op, Verdict: v})
	}
	*s = side{failed: s.failed, full: s.full, away: s.away, quiet: s.quiet}
	if c.state == Idle {
		strip(c)
	}
}

// postpone leaves a duty for later.
func (s *side) postpone(c *Core, ev *Event, step Step) {
	c.do(Action{Kind: Log, Note: DutyDelayed, Job: s.job, Step: step, Cause: ev.Err})
	if ev.Connected {
		if s.failed++; s.failed == refusals && c.trouble.blocked == StepNone {
			c.trouble.block(c, step, ev.Err)
		}
	}
	if ev.Fault == NoSpace && !s.full && !c.over {
		s.full = true
		c.do(Action{Kind: Full, Step: step})
	}
	s.quiet, s.away = c.mono+brokerPause, s.away || ev.Fault == Failed
	s.over(c, jobs.CancelBusy)
}

// renew writes record and attempt record again, so that they do not expire.
func (s *side) renew(c *Core) {
	r := &c.session.record
	if r.rev == 0 {
		s.renewAttemptRecord(c)
		return
	}
	s.request(c, renewRecord, Action{Kind: WriteRecord, Body: r.lossKept(*r.rec).Append(nil), Revision: r.rev, TTL: c.cfg.lifetime(0)})
}

func (s *side) renewAttemptRecord(c *Core) {
	r := &c.session.record
	if r.noted == nil || r.noted.Sequence <= r.rec.LastSequence {
		s.renewalOver(c)
		return
	}
	s.request(c, renewAttemptRecord, Action{Kind: WriteAttemptRecord, Body: r.noted.Append(nil), Revision: r.attemptRev, TTL: c.cfg.lifetime(attemptRecordLifetime)})
}

func (s *side) renewed(c *Core, ev *Event) {
	r := &c.session.record
	if ev.Fault != NoFault {
		s.postpone(c, ev, StepRecord)
		return
	}
	if s.step == renewRecord {
		r.rev, r.stamp = ev.Revision, c.now()
		s.renewAttemptRecord(c)
		return
	}
	r.attemptRev = ev.Revision
	s.renewalOver(c)
}

func (s *side) renewalOver(c *Core) {
	r := &c.session.record
	r.loaded = c.mono
	if c.cur == nil { // a session without a run token keeps nothing that is large
		r.read, r.rec, r.noted = false, nil, nil
	}
	s.over(c, "")
}

// renewIn is how long it is until record and attempt record are to be written again, so that they do not expire. A session whose record is not
// known was written at most the idle time before its job came, which is less than half of a record's lifetime.
func (s *side) renewIn(c *Core) (time.Duration, bool) {
	if c.anonymous || c.queue.first(c) == nil {
		return 0, false
	}
	lifetime := c.cfg.lifetime(0)
	switch {
	case c.session == nil:
		return c.queue.since + lifetime/8 - c.mono, true
	case c.session.record.read:
		return c.session.record.loaded + lifetime/4 - c.mono, true
	}
	return max(c.session.record.loaded, c.queue.since) + lifetime/8 - c.mono, true
}
