package lifecycle

import (
	"errors"
	"time"

	"github.com/dspex/dspex/internal/jobs"
)

func (w *sessionJournal) begin(c *Core) {
	r := &c.session.record
	c.cur.base, c.cur.confirmed = r.base(), -sessionLease
	w.delay, w.refused, w.away = -1, 0, false
	c.to(Beginning)
	w.writeAttempt(c)
}

// retry makes the retry to come durable, requests redelivery after the delay and waits for it.
func (w *sessionJournal) retry(c *Core, d time.Duration) {
	w.delay, w.refused, w.away = d, 0, false
	c.to(Postponing)
	w.writeAttempt(c)
}

func (w *sessionJournal) writeAttempt(c *Core) {
	r := &c.session.record
	if !w.may(c) {
		return
	}
	t := c.cur
	hd := &jobs.AttemptRecord{Stream: c.stream, Epoch: c.epoch, Sequence: t.Sequence, Attempt: t.Attempt, Failures: t.Failures}
	if w.delay >= 0 {
		hd.Delay, hd.NotBefore = w.delay, c.now().Add(w.delay)
	}
	left, has := c.left(t.Job)
	if !has {
		left = attemptRecordLifetime
	}
	w.hd, w.sent = hd, c.mono
	c.request(Action{Kind: WriteAttemptRecord, Job: t.Job, Body: hd.Append(nil), Revision: r.attemptRev, TTL: c.cfg.lifetime(left)})
}

func (w *sessionJournal) attemptWritten(c *Core, ev *Event) {
	r := &c.session.record
	switch ev.Fault {
	case NoFault:
		r.noted, r.attemptRev, c.cur.confirmed = w.hd, ev.Revision, w.sent
		w.attempted(c)
	case WrongRevision, Unknown:
		w.refused++
		w.judging = true
		r.look(c, false)
	default:
		w.failed(c, ev, StepAttemptRecord)
	}
}

// attempted goes on after the attempt, the retry or the fence is written down.
func (w *sessionJournal) attempted(c *Core) {
	switch {
	case c.state == Fencing:
		w.commit(c)
		return
	case w.delay < 0:
		c.attempt.begun(c)
		return
	}
	c.trouble.cleared(c)
	switch {
	case c.over: // the next epoch waits for what is left of the delay
		c.leave()
	case w.delay == 0 || c.cur.cancelled: // it may have been cancelled while it was written down
		c.attempt.start(c, nil)
	default:
		c.do(Action{Kind: Nak, Job: c.cur.Job, Delay: w.delay})
		c.retry.await(c, w.delay, false)
	}
}

// attemptLooked judges a write of the attempt record that failed: own write, fenced, void, or again with the new revision.
func (w *sessionJournal) attemptLooked(c *Core, ev *Event) {
	r := &c.session.record
	if !w.judging {
		w.reloaded(c, ev, StepAttemptRecord)
		return
	}
	if ev.Fault != NoFault {
		w.failed(c, ev, StepAttemptRecord)
		return
	}
	var cur *jobs.AttemptRecord
	if ev.AttemptRecord.Exists {
		var err error
		if cur, err = jobs.ParseAttemptRecord(ev.AttemptRecord.Value); errors.Is(err, jobs.ErrNewer) {
			ev.Err = err
			w.failed(c, ev, StepAttemptRecord)
			return
		}
	}
	own := cur != nil && w.hd.Same(cur)
	switch {
	case ev.Owner != Mine:
		c.fenced(ev.Owner)
	case own:
		r.noted, r.attemptRev, c.cur.confirmed = w.hd, ev.AttemptRecord.Revision, r.looked
		w.attempted(c)
	case ev.AttemptRecord.Revision != r.attemptRev && cur != nil && (r.noted == nil || !r.noted.Same(cur)):
		c.void()
	default:
		r.attemptRev = ev.AttemptRecord.Revision
		table[c.state].resume(c, ev)
	}
}

// writeFence comes before a job ends without an attempt of this epoch. Else a host that stood still finds its own attempt record as it
// left it, and starts what has its outcome by now. The record of the session is fenced, what a job does to the world is not.
func (w *sessionJournal) writeFence(c *Core, _ *Event) {
	r := &c.session.record
	if !w.may(c) {
		return
	}
	if r.fences(c) {
		w.commit(c)
		return
	}
	w.hd, w.sent = r.fence(c), c.mono
	c.request(Action{Kind: WriteAttemptRecord, Job: c.cur.Job, Body: w.hd.Append(nil), Revision: r.attemptRev, TTL: c.cfg.lifetime(attemptRecordLifetime)})
}

// commit writes the record: state, last sequence and outcome in one compare-and-set.
func (w *sessionJournal) commit(c *Core) {
	r := &c.session.record
	w.refused, w.away, c.session.commit.last = 0, false, nil
	if !r.fences(c) {
		c.to(Fencing)
		w.writeFence(c, nil)
		return
	}
	c.to(Committing)
	c.session.commit.write(c, nil)
}

func (w *sessionJournal) alive() time.Duration { return sessionAlive }

func (w *sessionJournal) handsBack(*Core) bool { return false }

func (w *sessionJournal) waited(c *Core) time.Duration { return c.mono - c.queue.since }

func (w *sessionJournal) lease(c *Core) bool { return c.mono-c.cur.confirmed < sessionLease }

func (w *sessionJournal) loose(c *Core) {
	c.to(Confirming)
	c.attempt.confirm(c, nil)
}

func (w *sessionJournal) keptAlive(*Core) {}

// awaitBreaker waits for a breaker; of what is known only what a waiting session may keep is kept.
func (w *sessionJournal) awaitBreaker(c *Core, refused Refusal) {
	t := c.cur
	c.to(AwaitBreaker)
	c.do(Action{Kind: Park, Job: t.Job, Delay: refused.RetryAfter, Breaker: refused.Name, Changed: refused.Changed})
	c.queue.yield(c)
	if left, has := c.left(t.Job); has {
		c.wait(max(left, 1))
	}
	c.side.room(c) // a session that is parked tries nothing
	if c.side.step == sideIdle {
		c.session.record.strip(c)
	}
}

func (w *sessionJournal) equip(c *Core, call *Action) {
	r, t := &c.session.record, c.cur
	call.Confirmed, call.Lease = t.confirmed, sessionLease
	t.State, t.StateVersion, t.Label, t.Prefer = r.rec.State, r.rec.StateVersion, r.label(), r.prefers(c)
	if t.Label == jobs.Restored && r.holds(c.checkout.worker.WorkerID, r.rec.StateVersion) {
		t.Label = jobs.Warm
	}
}
