package lifecycle

import (
	"errors"
	"time"

	"github.com/dspex/dspex/internal/jobs"
)

// The attempt record tells of the session's latest attempt. It is written before each start, and is the fence between epochs: an
// attempt begins only after a write of it that expected what its epoch knew, so an epoch that has written it keeps all earlier ones
// from beginning anything. Who ends a job without an attempt of its own writes it, too (architecture, rule 12).

// readHead reads the attempt record, nil if there is none. One that cannot be read counts as an attempt without an end of the
// job at hand, if that was there already when it was written: an attempt less is better than one too many.
func (r *record) readHead(c *Core, f Found) (*jobs.Head, error) {
	if !f.Exists {
		return nil, nil
	}
	hd, err := jobs.ParseHead(f.Value)
	if err == nil || errors.Is(err, jobs.ErrNewer) {
		return hd, err
	}
	c.do(Action{Kind: Log, Note: HeadUnreadable, Cause: err})
	if j := c.first(); j != nil && !j.Stored.After(f.Stored) {
		return &jobs.Head{Stream: c.stream, Sequence: j.Sequence, Attempt: 1}, nil
	}
	return nil, nil
}

// tells reports whether the attempt record is about the job.
func (r *record) tells(c *Core, j *Job) bool {
	return r.head != nil && r.head.Stream == c.stream && r.head.Sequence == j.Sequence
}

// overtaken reports whether another epoch has written down an attempt of the job at work since its attempts were taken up.
func (r *record) overtaken(c *Core) bool {
	t := c.cur
	return t != nil && t.resumed && r.tells(c, t.Job) && r.head.Epoch != c.epoch && (t.from == nil || !t.from.Same(r.head))
}

// resume takes up the attempts that the attempt record tells of: an attempt without an end is a crash and counts.
func (r *record) resume(c *Core) bool {
	t, hd := c.cur, r.head
	t.resumed = true
	if !r.tells(c, t.Job) {
		return true
	}
	t.from = hd
	t.Attempt, t.Failures = hd.Attempt, hd.Failures
	if hd.NotBefore.IsZero() {
		c.note(crashed(hd.Attempt))
		return true
	}
	if left := c.waits(hd); left > 0 {
		c.awaitRetry(left, true)
		return false
	}
	return true
}

func (r *record) begin(c *Core) {
	c.cur.base, c.cur.confirmed, c.delay, c.refused = r.base(), -sessionLease, -1, 0
	c.to(Beginning)
	r.writeAttempt(c)
}

// retry makes the retry to come durable, asks for redelivery after the delay and waits for it.
func (r *record) retry(c *Core, d time.Duration) {
	c.delay, c.refused = d, 0
	c.to(Postponing)
	r.writeAttempt(c)
}

// still is asked before each write, however long the broker let it wait. It reports false when the record is not the one any
// more that the attempt started from, or tells that the job has ended: an early end whose write seemed to fail can come to
// light late.
func (r *record) still(c *Core) bool {
	t := c.cur
	return !t.overtaken && (t.base == base{} || t.base == r.base()) && r.rec.LastSequence < t.Sequence && r.rec.Ended[t.Sequence] == ""
}

// may reports whether the record may be written; else it is read again first, or the job starts over.
func (r *record) may(c *Core) bool {
	switch {
	case !c.recordFree():
		c.held = true
	case !r.fresh(c):
		c.judging = false
		r.look(c)
	case !r.still(c) || c.refused >= tries:
		c.void()
	default:
		return true
	}
	return false
}

func (r *record) writeAttempt(c *Core) {
	if !r.may(c) {
		return
	}
	t := c.cur
	hd := &jobs.Head{Stream: c.stream, Epoch: c.epoch, Sequence: t.Sequence, Attempt: t.Attempt, Failures: t.Failures}
	if c.delay >= 0 {
		hd.Delay, hd.NotBefore = c.delay, c.now().Add(c.delay)
	}
	left, has := c.left(t.Job)
	if !has {
		left = headLife
	}
	r.hd, c.asked = hd, c.mono
	c.ask(Action{Kind: WriteHead, Job: t.Job, Body: hd.Append(nil), Revision: r.headRev, TTL: r.ttl(c, left)})
}

func (r *record) attemptWritten(c *Core, ev *Event) {
	switch ev.Fault {
	case NoFault:
		r.head, r.headRev, c.cur.confirmed = r.hd, ev.Revision, c.asked
		r.attempted(c)
	case WrongRevision, Unknown:
		c.refused++
		c.judging = true
		r.look(c)
	default:
		c.fault(ev, StepHead)
	}
}

// attempted goes on after the attempt, the retry or the fence is written down.
func (r *record) attempted(c *Core) {
	switch {
	case c.state == Fencing:
		r.commit(c)
		return
	case c.delay < 0:
		c.begun()
		return
	}
	c.settled()
	switch {
	case c.over: // the next epoch waits for what is left of the delay
		c.leave()
	case c.delay == 0 || c.cur.cancelled: // it may have been cancelled while it was written down
		c.attempt(nil)
	default:
		c.do(Action{Kind: Nak, Job: c.cur.Job, Delay: c.delay})
		c.awaitRetry(c.delay, false)
	}
}

// attemptLooked judges a write of the attempt record that failed: own write, fenced, void, or again with the new revision.
func (c *Core) attemptLooked(ev *Event) {
	r := c.ledger.(*record)
	if !c.judging {
		c.reloaded(ev, StepHead)
		return
	}
	if ev.Fault != NoFault {
		c.fault(ev, StepHead)
		return
	}
	var cur *jobs.Head
	if ev.Head.Exists {
		var err error
		if cur, err = jobs.ParseHead(ev.Head.Value); errors.Is(err, jobs.ErrNewer) {
			ev.Err = err
			c.fault(ev, StepHead)
			return
		}
	}
	own := cur != nil && r.hd.Same(cur)
	switch {
	case ev.Owner != Mine:
		c.fenced(ev.Owner)
	case own:
		r.head, r.headRev, c.cur.confirmed = r.hd, ev.Head.Revision, r.looked
		r.attempted(c)
	case ev.Head.Revision != r.headRev && cur != nil && (r.head == nil || !r.head.Same(cur)):
		c.void()
	default:
		r.headRev = ev.Head.Revision
		table[c.state].resume(c, ev)
	}
}

// fences reports whether no earlier epoch can write an attempt down any more.
func (r *record) fences(c *Core) bool { return r.head != nil && r.head.Epoch == c.epoch }

// fence is the attempt record as this epoch's, with what it tells of attempts as it was.
func (r *record) fence(c *Core) *jobs.Head {
	hd := jobs.Head{Stream: c.stream} // of no job
	if r.head != nil {
		hd = *r.head
	}
	hd.Epoch = c.epoch
	return &hd
}

// writeFence comes before a job ends without an attempt of this epoch. A host that stood still finds its own attempt record as
// it left it else, and starts what has its outcome by now: the record of the session is fenced, what a job does to the world is not.
func (c *Core) writeFence(*Event) {
	r := c.ledger.(*record)
	if !r.may(c) {
		return
	}
	if r.fences(c) {
		r.commit(c)
		return
	}
	r.hd, c.asked = r.fence(c), c.mono
	c.ask(Action{Kind: WriteHead, Job: c.cur.Job, Body: r.hd.Append(nil), Revision: r.headRev, TTL: r.ttl(c, headLife)})
}

// renew writes record and attempt record again for the sake of their lives.
func (c *Core) renew() {
	r := c.ledger.(*record)
	if r.rev == 0 {
		c.renewTheHead()
		return
	}
	c.sideAsk(renewRecord, Action{Kind: WriteRecord, Body: r.lossKept(*r.rec).Append(nil), Revision: r.rev, TTL: r.ttl(c, 0)})
}

func (c *Core) renewTheHead() {
	r := c.ledger.(*record)
	if r.head == nil || r.head.Sequence <= r.rec.LastSequence {
		c.renewalOver()
		return
	}
	c.sideAsk(renewHead, Action{Kind: WriteHead, Body: r.head.Append(nil), Revision: r.headRev, TTL: r.ttl(c, headLife)})
}

func (c *Core) renewed(ev *Event) {
	r := c.ledger.(*record)
	if ev.Fault != NoFault {
		c.sideFailed(ev, StepRecord)
		return
	}
	if c.side.step == renewRecord {
		r.rev, r.stamp = ev.Revision, c.now()
		c.renewTheHead()
		return
	}
	r.headRev = ev.Revision
	c.renewalOver()
}

func (c *Core) renewalOver() {
	r := c.ledger.(*record)
	r.loaded = c.mono
	if c.cur == nil { // a session without a run token keeps nothing that is large
		r.read, r.rec, r.head = false, nil, nil
	}
	c.sideOver("")
}
