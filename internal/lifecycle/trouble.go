package lifecycle

import "github.com/dspex/dspex/internal/jobs"

// A job can be blocked: the broker does not take what the host must write, or the session's record can only be read by a newer
// version of the host. It has no outcome then, because nobody but the owner of its partition may decide about one, and nothing
// counts before it is written. So the core tries again without end, and answers who waits at the deadline, from which on no
// host starts the job. That answer is no outcome and is stored nowhere.

// fault waits before the next try.
func (c *Core) fault(ev *Event, step Step) {
	c.noteRoom(ev, step)
	c.do(Action{Kind: Log, Note: BrokerAwaited, Step: step, Cause: ev.Err})
	c.stumble(ev, step)
	c.wait(brokerPause)
}

func (c *Core) noteRoom(ev *Event, step Step) {
	full := ev.Fault == NoSpace
	if full == c.full {
		return
	}
	c.full = full
	if full {
		c.do(Action{Kind: Full, Step: step})
	} else {
		c.do(Action{Kind: Room})
	}
}

// stumble counts a try that failed while the broker was there.
func (c *Core) stumble(ev *Event, step Step) {
	if !ev.Connected {
		return
	}
	if c.failed++; c.failed == refusals {
		c.block(step, ev.Err)
	}
}

// block makes the job count as blocked.
func (c *Core) block(step Step, cause error) {
	if c.blocked == step {
		return
	}
	c.blocked = step
	if j := c.first(); j != nil && !j.weighed {
		j.Weigh(c.cfg)
	}
	c.do(Action{Kind: Block, Step: step, Cause: cause})
}

func (c *Core) first() *Job {
	switch {
	case c.cur != nil:
		return c.cur.Job
	case len(c.queue) > 0:
		return c.queue[0]
	}
	return nil
}

func (c *Core) unblock() {
	if c.blocked != StepNone {
		c.blocked = StepNone
		c.do(Action{Kind: Unblock})
	}
}

// settled is the end of the trouble.
func (c *Core) settled() {
	c.failed = 0
	c.unblock()
	if c.full {
		c.full = false
		c.do(Action{Kind: Room})
	}
}

// pends reports whether somebody is to be answered at the deadline without an outcome.
func (c *Core) pends(j *Job) bool {
	return c.blocked != StepNone && !j.pended && !j.answered && j.bound > 0 && !(c.cur != nil && c.cur.Job == j && c.ending.replied)
}

// pend answers those whose deadline has passed while they are blocked.
func (c *Core) pend() {
	if c.blocked == StepNone {
		return
	}
	look := func(j *Job) {
		if !c.pends(j) || !c.late(j) {
			return
		}
		j.pended = true
		r := jobs.Reply{Job: j.Env.Job, Err: jobs.OutcomePending(c.blocked.why())}
		c.do(Action{Kind: Reply, Job: j, Reply: Address{To: j.Env.ReplyTo, Type: j.Env.Type, Job: j.Env.Job}, Body: r.Append(nil), More: true})
	}
	if c.cur != nil {
		look(c.cur.Job)
	}
	for i, j := range c.queue {
		if i > 0 || c.blocked != StepPredecessor { // else it is the one that runs: who waits for it is answered there
			look(j)
		}
	}
}

// why tells a client what blocks the job.
func (s Step) why() string {
	switch s {
	case StepPredecessor:
		return "an earlier job of the session still runs, since before the broker was lost"
	case StepNewer:
		return "a newer version of dspex wrote the session's record"
	}
	return "the broker does not take what the host writes (" + string(s) + ")"
}
