package lifecycle

import (
	"errors"
	"time"

	"github.com/dspex/dspex/internal/jobs"
)

// Commands that concern a session as a whole. They run in its queue like all others.
const (
	CleanupSession = "cleanup_session"
	EraseSession   = "erase_session"
)

// Empties reports whether nothing of a session's state is left after the command.
func Empties(command string) bool { return command == CleanupSession || command == EraseSession }

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
	case w.away:
		w.away, w.judging = false, true
		r.look(c, false)
	default:
		return true
	}
	return false
}

// failed waits before the next try. A write that did not reach the broker may come long after it: what is there, and whose the partition
// is, is judged first. An expected revision fences nothing in a store that was lost meanwhile (architecture, rule 7).
func (w *sessionJournal) failed(c *Core, ev *Event, step Step) {
	w.away = ev.Fault == Failed
	c.trouble.fault(c, ev, step)
}

// still is called before each write, however long the broker let it wait. It reports false when the record is not the one any
// more that the attempt started from, or reports that the job has ended: an early end whose write seemed to fail can come to
// light late.
func (w *sessionJournal) still(c *Core) bool {
	r := &c.session.record
	t := c.cur
	return !t.overtaken && r.stranded(c) == nil && (t.base == base{} || t.base == r.base()) && r.rec.LastSequence < t.Sequence && r.rec.Ended[t.Sequence] == ""
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

// write writes state, last sequence and outcome in one compare-and-set.
func (w *commit) write(c *Core, _ *Event) {
	r, t := &c.session.record, c.cur
	if !c.session.journal.may(c) {
		return
	}
	next := *r.rec
	next.LastSequence, next.Jobs, next.Last = t.Sequence, r.rec.Jobs+1, w.outcome(c)
	next.Updated = c.now() // the idle time counts from the write, however late it is
	if c.attempt.err == nil {
		next.Host, next.Worker = c.cfg.Host, c.attempt.output.Slot.Worker
		advance(&next, t, c.attempt.output)
	}
	next.Ended = later(r.rec.Ended, t.Sequence)
	w.next = &next
	left, _ := c.left(t.Job)
	c.request(Action{Kind: WriteRecord, Job: t.Job, Body: next.Append(nil), Revision: r.rev, TTL: c.cfg.lifetime(left)})
}

// advance takes the state that a successful attempt brought.
func advance(next *jobs.Record, t *Task, out *Output) {
	if Empties(t.Req.Command) {
		empty(next)
		return
	}
	if out.State != nil {
		next.State, next.StateVersion = out.State, out.Version
	}
	if out.ChoseLM {
		next.LM = out.LM
	}
}

// empty begins a new generation. What orders the session's jobs stays: the last sequence, the early ends, the last outcome.
func empty(r *jobs.Record) {
	r.Generation++
	r.State, r.StateVersion, r.LM = nil, 0, nil
	r.Created, r.Jobs, r.Host, r.Worker = r.Updated, 0, "", ""
}

// later keeps the early ends behind seq.
func later(ended map[uint64]jobs.Kind, seq uint64) map[uint64]jobs.Kind {
	var keep map[uint64]jobs.Kind
	for s, kind := range ended {
		if s > seq {
			if keep == nil {
				keep = map[uint64]jobs.Kind{}
			}
			keep[s] = kind
		}
	}
	return keep
}

func (w *commit) written(c *Core, ev *Event) {
	switch ev.Fault {
	case NoFault:
		w.committed(c, ev.Revision, c.now())
	case WrongRevision, Unknown:
		c.session.journal.refused++
		c.session.journal.judging = true
		c.session.record.look(c, false)
	default:
		c.session.journal.failed(c, ev, StepCommit)
	}
}

// looked decides after a write of the record that failed (architecture, rule 3): own write, fenced, void, or again with
// what was found.
func (w *commit) looked(c *Core, ev *Event) {
	r, t := &c.session.record, c.cur
	if !c.session.journal.judging {
		c.session.journal.reloaded(c, ev, StepCommit)
		return
	}
	if ev.Fault != NoFault {
		c.session.journal.failed(c, ev, StepCommit)
		return
	}
	cur, err := readRecord(ev.Record)
	if err != nil {
		ev.Err = err
		c.session.journal.failed(c, ev, StepCommit)
		return
	}
	// Whose the partition is comes first: a successor's early ends leave this epoch's outcome in the record, under a revision
	// that is not this epoch's to write over. The successor completes the job from the record.
	if ev.Owner != Mine {
		c.fenced(ev.Owner)
		return
	}
	if cur != nil && cur.Last != nil && cur.Last.Epoch == c.epoch && cur.Last.Sequence == t.Sequence && cur.Last.Attempt == t.Attempt {
		w.committed(c, ev.Record.Revision, ev.Record.Stored)
		return
	}
	if cur != nil {
		if _, ended := cur.Ended[t.Sequence]; ended || cur.LastSequence != r.rec.LastSequence || cur.Stream != r.rec.Stream ||
			cur.Generation != r.rec.Generation || cur.StateVersion != r.rec.StateVersion {
			c.void()
			return
		}
		r.rec.Ended = cur.Ended
	}
	r.rev = ev.Record.Revision
	w.write(c, ev)
}

// committed is the moment from which the outcome is the job's.
func (w *commit) committed(c *Core, rev uint64, at time.Time) {
	r, t := &c.session.record, c.cur
	c.trouble.cleared(c)
	r.rec, r.rev, r.loaded, r.stamp, r.bare = w.next, rev, c.mono, at, false
	c.do(Action{Kind: Count, Job: t.Job, Task: t, Err: c.attempt.err, Ran: c.attempt.output.Ran})
	if c.attempt.err == nil {
		r.worker, r.version, r.used, r.lost = c.attempt.output.Slot.WorkerID, r.rec.StateVersion, c.mono, false
		if Empties(t.Req.Command) {
			r.worker = 0
		}
		if t.Req.Command == EraseSession {
			c.do(Action{Kind: Drop})
		}
	}
	c.ending.finish(c, r.rec.Last, false)
}

// outcome is the job's, worded once: what is stored, sent and written again after a write of unknown fate is the same.
func (w *commit) outcome(c *Core) *jobs.Outcome {
	if w.last != nil {
		return w.last
	}
	t := c.cur
	o := &jobs.Outcome{Job: t.Env.Job, Sequence: t.Sequence, Epoch: c.epoch, Attempt: t.Attempt, Hash: t.Req.Hash,
		Kind: KindOf(c.attempt.err), Mode: t.Env.Mode, ReplyTo: t.Env.ReplyTo, Type: t.Env.Type, Body: c.attempt.reply(c), Trace: t.Trace}
	if o.DeadLettered = o.Kind == jobs.Failed && t.dead; o.DeadLettered {
		o.Failures = t.Failures
	}
	w.last = o
	return o
}
