package lifecycle

import (
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

// commit writes the record: state, last sequence and outcome in one compare-and-set.
func (r *record) commit(c *Core) {
	c.refused, r.last = 0, nil
	if !r.fences(c) {
		c.to(Fencing)
		c.writeFence(nil)
		return
	}
	c.to(Committing)
	c.writeOutcome(nil)
}

// outcome is the job's, worded once: what is stored, sent and written again after a write of unknown fate is the same.
func (r *record) outcome(c *Core) *jobs.Outcome {
	if r.last != nil {
		return r.last
	}
	t := c.cur
	o := &jobs.Outcome{Job: t.Env.Job, Sequence: t.Sequence, Epoch: c.epoch, Attempt: t.Attempt, Hash: t.Req.Hash,
		Kind: KindOf(c.err), Mode: t.Env.Mode, ReplyTo: t.Env.ReplyTo, Type: t.Env.Type, Body: c.replyOf()}
	if o.Buried = o.Kind == jobs.Failed && t.dead; o.Buried {
		o.Failures = t.Failures
	}
	r.last = o
	return o
}

func (c *Core) writeOutcome(*Event) {
	r, t := c.ledger.(*record), c.cur
	if !r.may(c) {
		return
	}
	next := *r.rec
	next.LastSequence, next.Jobs, next.Last = t.Sequence, r.rec.Jobs+1, r.outcome(c)
	next.Updated = c.now() // the idle time counts from the write, however late it is
	if c.err == nil {
		next.Host, next.Worker = c.cfg.Host, c.output.Slot.Worker
		advance(&next, t, c.output)
	}
	next.Ended = later(r.rec.Ended, t.Sequence)
	r.next = &next
	left, _ := c.left(t.Job)
	c.ask(Action{Kind: WriteRecord, Job: t.Job, Body: next.Append(nil), Revision: r.rev, TTL: r.ttl(c, left)})
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

func (c *Core) outcomeWritten(ev *Event) {
	switch ev.Fault {
	case NoFault:
		c.committed(ev.Revision, c.now())
	case WrongRevision, Unknown:
		c.refused++
		c.judging = true
		c.ledger.(*record).look(c)
	default:
		c.fault(ev, StepCommit)
	}
}

// outcomeLooked decides after a write of the record that failed (architecture, rule 3): own write, fenced, void, or again with
// what was found.
func (c *Core) outcomeLooked(ev *Event) {
	r, t := c.ledger.(*record), c.cur
	if !c.judging {
		c.reloaded(ev, StepCommit)
		return
	}
	if ev.Fault != NoFault {
		c.fault(ev, StepCommit)
		return
	}
	cur, err := readRecord(ev.Record)
	if err != nil {
		ev.Err = err
		c.fault(ev, StepCommit)
		return
	}
	// Whose the partition is comes first: a successor's early ends leave this epoch's outcome in the record, under a revision
	// that is not this epoch's to write over. The successor completes the job from the record.
	if ev.Owner != Mine {
		c.fenced(ev.Owner)
		return
	}
	if cur != nil && cur.Last != nil && cur.Last.Epoch == c.epoch && cur.Last.Sequence == t.Sequence && cur.Last.Attempt == t.Attempt {
		c.committed(ev.Record.Revision, ev.Record.Stored)
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
	c.writeOutcome(ev)
}

// committed is the moment from which the outcome is the job's.
func (c *Core) committed(rev uint64, at time.Time) {
	r, t := c.ledger.(*record), c.cur
	c.settled()
	r.rec, r.rev, r.loaded, r.stamp, r.bare = r.next, rev, c.mono, at, false
	c.do(Action{Kind: Count, Job: t.Job, Err: c.err, Ran: c.output.Ran})
	if c.err == nil {
		r.worker, r.version, r.used, r.lost = c.output.Slot.WorkerID, r.rec.StateVersion, c.mono, false
		if Empties(t.Req.Command) {
			r.worker = 0
		}
		if t.Req.Command == EraseSession {
			c.do(Action{Kind: Drop})
		}
	}
	c.finish(r.rec.Last, false)
}

// lossKept is the record as it is written beside a job. That its state was lost is told by a job's reply, perhaps another
// host's: until then the record holds a version without a state.
func (r *record) lossKept(rec jobs.Record) *jobs.Record {
	if r.lost && rec.StateVersion == 0 {
		rec.StateVersion = 1
	}
	return &rec
}

// renewIn is how long it is until record and attempt record are to be written again for the sake of their lives. A session whose record is not
// known was written at most the idle time before its job came, which is less than half of a record's life.
func (r *record) renewIn(c *Core) (time.Duration, bool) {
	if c.first() == nil {
		return 0, false
	}
	life := r.ttl(c, 0)
	if r.read {
		return r.loaded + life/4 - c.mono, true
	}
	return max(r.loaded, c.since) + life/8 - c.mono, true
}
