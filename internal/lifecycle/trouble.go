package lifecycle

import (
	"github.com/dspex/dspex/internal/jobs"
)

// A job can be blocked: the broker does not take what the host must write, or the session's record can only be read by a newer
// version of the host. It has no outcome then, because nobody but the owner of its partition may decide about one, and nothing
// counts before it is written. So the core tries again without end, and answers who waits at the deadline, from which on no
// host starts the job. That answer is no outcome and is stored nowhere.

// fault waits before the next try.
func (b *trouble) fault(c *Core, ev *Event, step Step) {
	b.noteRoom(c, ev, step)
	c.do(Action{Kind: Log, Note: BrokerAwaited, Step: step, Cause: ev.Err})
	b.stumble(c, ev, step)
	c.wait(brokerPause)
}

func (b *trouble) noteRoom(c *Core, ev *Event, step Step) {
	full := ev.Fault == NoSpace
	if full == b.full {
		return
	}
	b.full = full
	if full {
		c.do(Action{Kind: Full, Step: step})
	} else {
		c.do(Action{Kind: Room})
	}
}

// stumble counts a try that failed while the broker was there.
func (b *trouble) stumble(c *Core, ev *Event, step Step) {
	if !ev.Connected {
		return
	}
	if b.failed++; b.failed == refusals {
		b.block(c, step, ev.Err)
	}
}

// block makes the job count as blocked.
func (b *trouble) block(c *Core, step Step, cause error) {
	if b.blocked == step {
		return
	}
	b.blocked = step
	if j := c.queue.first(c); j != nil && !j.weighed {
		j.Weigh(c.cfg)
	}
	c.do(Action{Kind: Block, Step: step, Cause: cause})
}

func (b *trouble) unblock(c *Core) {
	if b.blocked != StepNone {
		b.blocked = StepNone
		c.do(Action{Kind: Unblock})
	}
}

// cleared is the end of the trouble.
func (b *trouble) cleared(c *Core) {
	b.failed = 0
	b.unblock(c)
	if b.full {
		b.full = false
		c.do(Action{Kind: Room})
	}
}

// pends reports whether somebody is to be answered at the deadline without an outcome.
func (b *trouble) pends(c *Core, j *Job) bool {
	return b.blocked != StepNone && !j.pended && !j.answered && j.bound > 0 && !(c.cur != nil && c.cur.Job == j && c.ending.replied)
}

// pend answers those whose deadline has passed while they are blocked.
func (b *trouble) pend(c *Core) {
	if b.blocked == StepNone {
		return
	}
	look := func(j *Job) {
		if !b.pends(c, j) || !c.late(j) {
			return
		}
		j.pended = true
		r := jobs.Reply{Job: j.Env.Job, Err: jobs.OutcomePending(b.blocked.why())}
		c.do(Action{Kind: Reply, Job: j, Reply: Address{To: j.Env.ReplyTo, Type: j.Env.Type, Job: j.Env.Job}, Body: r.Append(nil), More: true})
	}
	if c.cur != nil {
		look(c.cur.Job)
	}
	for i, j := range c.queue.jobs {
		if i > 0 || b.blocked != StepPredecessor { // else it is the one that runs: who waits for it is answered there
			look(j)
		}
	}
}

// why reports to a client what blocks the job.
func (s Step) why() string {
	switch s {
	case StepPredecessor:
		return "an earlier job of the session still runs, since before the broker was lost"
	case StepNewer:
		return "a newer version of dspex wrote the session's record"
	}
	return "the broker does not take what the host writes (" + string(s) + ")"
}
