package lifecycle

import (
	"errors"
	"time"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/jobs"
)

// The attempt record tells of the session's latest attempt. It is written before each start, and is the fence between epochs: an
// attempt begins only after a write of it that expected what its epoch knew, so an epoch that has written it keeps all earlier ones
// from beginning anything. Who ends a job without an attempt of its own writes it, too (architecture, rule 12).
type attemptRecord struct {
	noted      *jobs.AttemptRecord // nil: none
	attemptRev uint64
}

// readAttemptRecord reads the attempt record, nil if there is none. One that cannot be read counts as an attempt without an end of the
// job at hand, if that was there already when it was written: an attempt less is better than one too many.
func readAttemptRecord(c *Core, f Found) (*jobs.AttemptRecord, error) {
	if !f.Exists {
		return nil, nil
	}
	hd, err := jobs.ParseAttemptRecord(f.Value)
	if err == nil || errors.Is(err, jobs.ErrNewer) {
		return hd, err
	}
	c.do(Action{Kind: Log, Note: AttemptRecordUnreadable, Cause: err})
	if j := c.queue.first(c); j != nil && !j.Stored.After(f.Stored) {
		return &jobs.AttemptRecord{Stream: c.stream, Sequence: j.Sequence, Attempt: 1}, nil
	}
	return nil, nil
}

// tells reports whether the attempt record is about the job.
func (r *attemptRecord) tells(c *Core, j *Job) bool {
	return r.noted != nil && r.noted.Stream == c.stream && r.noted.Sequence == j.Sequence
}

// overtaken reports whether another epoch has written down an attempt of the job at work since its attempts were taken up.
func (r *attemptRecord) overtaken(c *Core) bool {
	t := c.cur
	return t != nil && c.prep.resumed && r.tells(c, t.Job) && r.noted.Epoch != c.epoch && (t.from == nil || !t.from.Same(r.noted))
}

// resume takes up the attempts that the attempt record tells of: an attempt without an end is a crash and counts.
func (r *attemptRecord) resume(c *Core) bool {
	t, hd := c.cur, r.noted
	c.prep.resumed = true
	if !r.tells(c, t.Job) {
		return true
	}
	t.from = hd
	t.Attempt, t.Failures = hd.Attempt, hd.Failures
	if hd.NotBefore.IsZero() {
		t.note(c, crashed(hd.Attempt))
		return true
	}
	if left := c.waits(hd); left > 0 {
		c.retry.await(c, left, true)
		return false
	}
	return true
}

// sessionJournal writes the attempt record, by compare-and-set.
type sessionJournal struct {
	hd      *jobs.AttemptRecord // being written
	asked   clock.Mono          // when
	delay   time.Duration       // of the retry that it tells of, -1: it tells of a start
	refused int                 // writes of the same thing, also of an outcome
	judging bool                // the look that was requested judges a write
}

func (w *sessionJournal) begin(c *Core) {
	r := &c.session.record
	c.cur.base, c.cur.confirmed = r.base(), -sessionLease
	w.delay, w.refused = -1, 0
	c.to(Beginning)
	w.writeAttempt(c)
}

// retry makes the retry to come durable, requests redelivery after the delay and waits for it.
func (w *sessionJournal) retry(c *Core, d time.Duration) {
	w.delay, w.refused = d, 0
	c.to(Postponing)
	w.writeAttempt(c)
}

// still is asked before each write, however long the broker let it wait. It reports false when the record is not the one any
// more that the attempt started from, or reports that the job has ended: an early end whose write seemed to fail can come to
// light late.
func (w *sessionJournal) still(c *Core) bool {
	r := &c.session.record
	t := c.cur
	return !t.overtaken && (t.base == base{} || t.base == r.base()) && r.rec.LastSequence < t.Sequence && r.rec.Ended[t.Sequence] == ""
}

// may reports whether the record may be written; else it is read again first, or the job starts over.
func (w *sessionJournal) may(c *Core) bool {
	r := &c.session.record
	switch {
	case !c.side.recordFree(c):
		c.held = true
	case !r.fresh(c):
		w.judging = false
		r.look(c, false)
	case !w.still(c) || w.refused >= tries:
		c.void()
	default:
		return true
	}
	return false
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
		left = attemptRecordLife
	}
	w.hd, w.asked = hd, c.mono
	c.ask(Action{Kind: WriteAttemptRecord, Job: t.Job, Body: hd.Append(nil), Revision: r.attemptRev, TTL: c.cfg.life(left)})
}

func (w *sessionJournal) attemptWritten(c *Core, ev *Event) {
	r := &c.session.record
	switch ev.Fault {
	case NoFault:
		r.noted, r.attemptRev, c.cur.confirmed = w.hd, ev.Revision, w.asked
		w.attempted(c)
	case WrongRevision, Unknown:
		w.refused++
		w.judging = true
		r.look(c, false)
	default:
		c.trouble.fault(c, ev, StepAttemptRecord)
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
	c.trouble.settled(c)
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
		c.trouble.fault(c, ev, StepAttemptRecord)
		return
	}
	var cur *jobs.AttemptRecord
	if ev.AttemptRecord.Exists {
		var err error
		if cur, err = jobs.ParseAttemptRecord(ev.AttemptRecord.Value); errors.Is(err, jobs.ErrNewer) {
			ev.Err = err
			c.trouble.fault(c, ev, StepAttemptRecord)
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

// fences reports whether no earlier epoch can write an attempt down any more.
func (r *attemptRecord) fences(c *Core) bool { return r.noted != nil && r.noted.Epoch == c.epoch }

// fence is the attempt record as this epoch's, with what it tells of attempts as it was.
func (r *attemptRecord) fence(c *Core) *jobs.AttemptRecord {
	hd := jobs.AttemptRecord{Stream: c.stream} // of no job
	if r.noted != nil {
		hd = *r.noted
	}
	hd.Epoch = c.epoch
	return &hd
}

// writeFence comes before a job ends without an attempt of this epoch. A host that stood still finds its own attempt record as
// it left it else, and starts what has its outcome by now: the record of the session is fenced, what a job does to the world is not.
func (w *sessionJournal) writeFence(c *Core, _ *Event) {
	r := &c.session.record
	if !w.may(c) {
		return
	}
	if r.fences(c) {
		w.commit(c)
		return
	}
	w.hd, w.asked = r.fence(c), c.mono
	c.ask(Action{Kind: WriteAttemptRecord, Job: c.cur.Job, Body: w.hd.Append(nil), Revision: r.attemptRev, TTL: c.cfg.life(attemptRecordLife)})
}

// commit writes the record: state, last sequence and outcome in one compare-and-set.
func (w *sessionJournal) commit(c *Core) {
	r := &c.session.record
	w.refused, c.session.commit.last = 0, nil
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

// hold waits for a breaker; of what is known only what a waiting session may keep is kept.
func (w *sessionJournal) hold(c *Core, refused Refusal) {
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

// reloaded goes on with a write after its basis was read again.
func (w *sessionJournal) reloaded(c *Core, ev *Event, step Step) {
	switch err := c.ledger.load(c, ev); {
	case errors.Is(err, errFenced):
		c.fenced(ev.Owner)
	case errors.Is(err, errUnsure):
		c.session.record.look(c, true)
	case err != nil:
		if ev.Err == nil {
			ev.Err = err
		}
		c.trouble.fault(c, ev, step)
	default:
		table[c.state].resume(c, ev)
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
