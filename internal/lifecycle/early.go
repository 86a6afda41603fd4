package lifecycle

import (
	"errors"
	"maps"
	"slices"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/jobs"
)

// Beside the job at the head a session has duties: jobs behind it that are cancelled, or whose deadline passes, end early, and
// a record that has not been written for long is renewed. They are done one at a time, and never hold up the job at the head,
// except that the record has one writer at a time.

type sideStep uint8

const (
	sideIdle sideStep = iota
	sideComparing
	sideLooking
	sideFencing
	sideWriting // the early end
	sideJudging
	sideFetching
	sideChecking
	sideStoring
	renewLooking
	renewRecord
	renewHead
)

// onRecord reports whether the step is about the record, which nobody else may write then.
func (s sideStep) onRecord() bool {
	switch s {
	case sideLooking, sideFencing, sideWriting, sideJudging, renewLooking, renewRecord, renewHead:
		return true
	}
	return false
}

// waits reports whether nothing has been decided yet.
func (s sideStep) waits() bool { return s == sideComparing || s == sideLooking || s == renewLooking }

type side struct {
	step   sideStep
	job    *Job // nil: the record is renewed
	task   *Task
	kind   jobs.Kind
	ask    uint32 // operation of the CancelAsked that it answers, 0: none
	awaits uint32
	next   *jobs.Record
	head   *jobs.Head
	result *jobs.Result
	failed int
	full   bool       // for want of room: nothing else must start on this host
	quiet  clock.Mono // nothing before, after something failed
}

// ask is a cancellation that waits.
type ask struct {
	job *Job
	op  uint32
}

// cancel ends the earliest outstanding job of an id.
func (c *Core) cancel(ev *Event) {
	verdict := jobs.CancelUnknown
	switch i := slices.IndexFunc(c.queue, func(q *Job) bool { return q.Env.Job == ev.ID && !q.answered }); {
	case c.cur != nil && c.cur.Env.Job == ev.ID:
		verdict = jobs.CancelUnderway
		c.cancelCurrent()
	case i < 0:
	case c.state == AwaitPredecessor, c.state == AwaitNewer:
		verdict = jobs.CancelBusy
	case i == 0 && c.state == AwaitToken:
		verdict = jobs.CancelUnderway
		c.queue[0].cancelled = true
		c.takeAtOnce()
	default:
		c.asks = append(c.asks, ask{c.queue[i], ev.Op})
		return
	}
	c.do(Action{Kind: Verdict, Op: ev.Op, Verdict: verdict})
}

func (c *Core) cancelCurrent() {
	c.cur.cancelled = true
	switch c.state {
	case Running:
		c.giveUpCall(cancelled())
	case AwaitSlot, AwaitRetry, AwaitRoom:
		c.withdraw(cancelled())
		c.attempt(nil)
	case AwaitBreaker:
		c.withdraw(nil)
		c.prepare(nil)
	}
}

// recordFree reports whether the job at the head may read and write the record.
func (c *Core) recordFree() bool {
	return !c.side.step.onRecord() && (c.cur == nil || c.side.job != c.cur.Job)
}

// verdicts answers all cancellations that wait.
func (c *Core) verdicts(v jobs.CancelVerdict) {
	for _, a := range c.asks {
		c.do(Action{Kind: Verdict, Op: a.op, Verdict: v})
	}
	c.asks = nil
}

// turned answers the cancellations of a job that has come to its turn: it ends at once.
func (c *Core) turned(j *Job) {
	c.asks = slices.DeleteFunc(c.asks, func(a ask) bool {
		if a.job != j {
			return false
		}
		j.cancelled = true
		c.do(Action{Kind: Verdict, Op: a.op, Verdict: jobs.CancelUnderway})
		return true
	})
}

func (c *Core) endedBefore(j *Job) (jobs.Kind, bool) {
	if r, ok := c.ledger.(*record); !ok || !r.read {
		return "", false
	}
	return c.ledger.ended(j)
}

// endEarly makes the end of a waiting job durable, stores its result and answers (architecture, rule 5). The message is
// acknowledged at its turn, so that early ends stay as bounded as the session's queue is.
func (c *Core) endEarly(j *Job, kind jobs.Kind, op uint32) {
	c.sideBegins(j, kind, op)
	c.sideRecord()
}

// sideBegins begins with a duty; j is nil for a renewal.
func (c *Core) sideBegins(j *Job, kind jobs.Kind, op uint32) {
	c.side = side{job: j, kind: kind, ask: op, failed: c.side.failed, full: c.side.full, quiet: c.side.quiet}
	if j != nil {
		c.side.task = &Task{Job: j, Session: c.ref}
	}
}

func (c *Core) sideAsk(s sideStep, a Action) {
	c.side.step = s
	a.Op = c.op()
	if a.Job == nil {
		a.Job = c.side.job
	}
	c.side.awaits = a.Op
	c.do(a)
}

func (c *Core) sideLook(sure bool) {
	c.ledger.(*record).asked = Present(c.cfg.Clock)
	step := sideLooking
	if c.side.job == nil {
		step = renewLooking
	}
	c.sideAsk(step, Action{Kind: Look, Job: c.first(), Check: sure})
}

// sideRecord has the early end in the record.
func (c *Core) sideRecord() {
	r, s := c.ledger.(*record), &c.side
	if !r.fresh(c) || r.bare {
		c.sideLook(false)
		return
	}
	if s.job.Sequence <= r.rec.LastSequence {
		c.sideOver(jobs.CancelUnderway) // it has its outcome
		return
	}
	if have, ended := r.rec.Ended[s.job.Sequence]; ended {
		s.kind = have
		c.sideFinish()
		return
	}
	if !r.fences(c) {
		s.head = r.fence(c)
		c.sideAsk(sideFencing, Action{Kind: WriteHead, Body: s.head.Append(nil), Revision: r.headRev, TTL: r.ttl(c, headLife)})
		return
	}
	next := *r.rec
	next.Ended = maps.Clone(r.rec.Ended)
	if next.Ended == nil {
		next.Ended = map[uint64]jobs.Kind{}
	}
	next.Ended[s.job.Sequence] = s.kind
	s.next = &next
	c.sideAsk(sideWriting, Action{Kind: WriteRecord, Body: r.lossKept(next).Append(nil), Revision: r.rev, TTL: r.ttl(c, 0)})
}

// sideAnswer goes on with a duty.
func (c *Core) sideAnswer(ev *Event) {
	r, s := c.ledger.(*record), &c.side
	switch s.step {
	case sideComparing:
		if ev.Fault != NoFault {
			c.sideFailed(ev, StepRecord)
			return
		}
		c.sideOver("")
	case sideLooking, renewLooking:
		c.sideLooked(ev)
	case sideFencing:
		c.sideFenced(ev)
	case sideWriting:
		switch ev.Fault {
		case NoFault:
			r.rec, r.rev, r.loaded, r.stamp = s.next, ev.Revision, c.mono, c.now()
			c.sideFinish()
		case WrongRevision, Unknown:
			c.sideAsk(sideJudging, Action{Kind: Look})
		default:
			c.sideFailed(ev, StepRecord)
		}
	case sideJudging:
		c.sideJudged(ev)
	case sideFetching:
		if ev.Fault != NoFault {
			c.sideFailed(ev, StepRecord)
			return
		}
		s.task.bad, s.task.parsed = s.task.read(c.cfg, ev.Data), true
		c.sideFinish()
	case sideChecking:
		c.sideChecked(ev)
	case sideStoring:
		if ev.Fault != NoFault { // it may be there: the next try looks
			c.sideFailed(ev, StepResult)
			return
		}
		c.sideReply(s.result.Body, 0)
	case renewRecord, renewHead:
		c.renewed(ev)
	}
}

// sideFenced goes on when no other epoch can begin an attempt any more; if one has, the record is read again first.
func (c *Core) sideFenced(ev *Event) {
	r := c.ledger.(*record)
	switch ev.Fault {
	case NoFault:
		r.head, r.headRev = c.side.head, ev.Revision
		c.sideRecord()
	case WrongRevision, Unknown:
		c.sideLook(false)
	default:
		c.sideFailed(ev, StepRecord)
	}
}

func (c *Core) sideLooked(ev *Event) {
	r := c.ledger.(*record)
	known := r.read && !r.bare && c.side.job == nil
	if known && ev.Fault == NoFault && ev.Owner == Mine {
		c.renew()
		return
	}
	switch err := r.load(c, ev); {
	case errors.Is(err, errFenced):
		c.fenced(ev.Owner)
	case errors.Is(err, errUnsure):
		c.sideLook(true)
	case err != nil:
		if ev.Err == nil {
			ev.Err = err
		}
		c.sideFailed(ev, StepRecord)
	case c.side.job == nil:
		c.renew()
	default:
		c.sideRecord()
	}
}

// sideJudged decides after a write of an early end that failed.
func (c *Core) sideJudged(ev *Event) {
	r, s := c.ledger.(*record), &c.side
	cur, err := readRecord(ev.Record)
	switch {
	case ev.Fault != NoFault || err != nil:
		if ev.Err == nil {
			ev.Err = err
		}
		c.sideFailed(ev, StepRecord)
		return
	case ev.Owner != Mine:
		c.fenced(ev.Owner)
		return
	case cur != nil && (cur.Stream != r.rec.Stream || cur.LastSequence != r.rec.LastSequence):
		c.sideFailed(ev, StepRecord) // the running job's commit will find out
		return
	case cur != nil:
		if r.lost {
			cur.State, cur.StateVersion, cur.LM, cur.Generation = nil, 0, nil, r.rec.Generation
		}
		r.rec, r.loaded, r.stamp = cur, c.mono, ev.Record.Stored
	}
	r.rev = ev.Record.Revision
	if r.rec.Ended[s.job.Sequence] == "" {
		c.sideFailed(ev, StepRecord)
		return
	}
	c.sideFinish()
}

// sideFinish gives the job its result, and answers; if its id has a result, that is the answer.
func (c *Core) sideFinish() {
	s := &c.side
	t := s.task
	if !t.parsed {
		if t.Data == nil && t.Size > 0 {
			c.sideAsk(sideFetching, Action{Kind: Fetch})
			return
		}
		t.bad, t.parsed = t.read(c.cfg, t.Data), true
	}
	c.sideAsk(sideChecking, Action{Kind: ReadResult})
}

func (c *Core) sideChecked(ev *Event) {
	s := &c.side
	if ev.Fault != NoFault {
		c.sideFailed(ev, StepResult)
		return
	}
	if ev.Result.Exists {
		reply, err := c.answer(s.task, ev.Result)
		if err != nil {
			ev.Err = err
			c.sideFailed(ev, StepResult)
			return
		}
		c.do(reply)
		c.sideAnswered()
		return
	}
	s.result = c.earlyResult(s.task, s.kind)
	c.sideAsk(sideStoring, Action{Kind: CreateResult, Body: s.result.Append(nil), Revision: ev.Result.Revision, TTL: jobs.ResultTTL(s.task.Env.Mode)})
}

func (c *Core) sideReply(body []byte, attempt int) {
	env := c.side.job.Env
	c.do(Action{Kind: Reply, Job: c.side.job, Reply: Address{To: env.ReplyTo, Type: env.Type, Job: env.Job, Attempt: attempt}, Body: body})
	c.sideAnswered()
}

func (c *Core) sideAnswered() {
	c.side.job.answered = true
	if c.side.failed >= refusals && c.blocked == StepResult && c.state != Storing {
		c.unblock()
	}
	c.side.failed = 0
	c.sideRoom()
	c.sideOver(jobs.CancelUnderway)
}

// sideOver ends a duty; whoever asked for it gets the verdict.
func (c *Core) sideOver(v jobs.CancelVerdict) {
	if op := c.side.ask; op != 0 {
		c.do(Action{Kind: Verdict, Op: op, Verdict: v})
	}
	c.side = side{quiet: c.side.quiet, failed: c.side.failed, full: c.side.full}
	if c.state == Idle {
		c.ledger.strip()
	}
}

// sideFailed leaves a duty for later.
func (c *Core) sideFailed(ev *Event, step Step) {
	c.do(Action{Kind: Log, Note: DutyDelayed, Job: c.side.job, Step: step, Cause: ev.Err})
	if ev.Connected {
		if c.side.failed++; c.side.failed == refusals && c.blocked == StepNone {
			c.block(step, ev.Err)
		}
	}
	if ev.Fault == NoSpace && !c.side.full && !c.over {
		c.side.full = true
		c.do(Action{Kind: Full, Step: step})
	}
	c.side.quiet = c.mono + brokerPause
	c.sideOver(jobs.CancelBusy)
}

// sideRoom says that no duty waits for room: it has got it, or is tried again at its job's turn.
func (c *Core) sideRoom() {
	if c.side.full {
		c.side.full = false
		c.do(Action{Kind: Room})
	}
}
