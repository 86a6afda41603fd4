package lifecycle

import (
	"cmp"
	"slices"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/jobs"
)

// queue is the jobs behind the one at work, and the run token that lets the first of them go on.
type queue struct {
	jobs   []*Job     // by sequence; in AwaitToken the first has no task yet
	token  uint8      // the kind of the run token, 0: none
	fresh  bool       // the session had no work a moment before the job at the head came
	since  clock.Mono // since when the first job is at the head
	rested clock.Mono // since when there has been no job; 0: always
}

// first is the job at the head: the one at work, else the first of the queue, nil if there is none.
func (q *queue) first(c *Core) *Job {
	switch {
	case c.cur != nil:
		return c.cur.Job
	case len(q.jobs) > 0:
		return q.jobs[0]
	}
	return nil
}

// deliver files a job. Of a job that is here only the acknowledgement of the latest delivery counts.
func (q *queue) deliver(c *Core, j *Job) {
	if c.over {
		c.do(Action{Kind: Forget, Job: j})
		return
	}
	if c.cur != nil && c.cur.Sequence == j.Sequence {
		c.cur.Delivery = j.Delivery
		c.do(Action{Kind: Forget, Job: j})
		if c.state == AwaitRetry {
			c.retry.again = true
			c.retry.resume(c, nil)
		}
		return
	}
	i, found := slices.BinarySearchFunc(q.jobs, j.Sequence, func(other *Job, seq uint64) int { return cmp.Compare(other.Sequence, seq) })
	if found {
		q.jobs[i].Delivery = j.Delivery
		c.do(Action{Kind: Forget, Job: j})
		return
	}
	same := func(other *Job) bool { return other.Env.Job == j.Env.Job }
	j.repeat = c.cur != nil && same(c.cur.Job) || slices.ContainsFunc(q.jobs[:i], same)
	q.jobs = slices.Insert(q.jobs, i, j)
	if c.state == Idle {
		q.fresh = q.rested == 0 || c.mono-q.rested >= freshAfter
		q.start(c, nil)
	}
}

// start begins with the queue.
func (q *queue) start(c *Core, ev *Event) {
	if ev != nil && ev.Kind == PredecessorGone {
		c.early = false
		c.trouble.unblock(c)
	}
	if c.early {
		c.to(AwaitPredecessor)
		c.trouble.block(c, StepPredecessor, nil)
		return
	}
	c.next()
}

// next has the first job go on, when the session has a run token.
func (q *queue) next(c *Core) {
	switch {
	case c.over || len(q.jobs) == 0:
		q.rest(c)
	case c.session == nil:
		q.take(c)
	default: // after each job somebody else may have the token
		q.yield(c)
		c.to(AwaitToken)
		c.do(Action{Kind: AskToken, Job: q.jobs[0], Fresh: q.fresh})
	}
}

func (q *queue) rest(c *Core) {
	q.jobs, q.rested = nil, max(c.mono, 1)
	q.yield(c)
	if c.side.step == sideIdle {
		c.ledger.strip(c)
	}
}

// yield gives the run token back, to a session that waits for one.
func (q *queue) yield(c *Core) {
	if q.token != 0 && c.session != nil {
		c.do(Action{Kind: ReturnToken, Token: q.token})
		q.token = 0
	}
}

func (q *queue) granted(c *Core, ev *Event) {
	q.token = ev.Token
	q.take(c)
}

// take makes the first of the queue the job at work.
func (q *queue) take(c *Core) {
	c.cur = &Task{Job: q.jobs[0], Session: c.ref, Fresh: q.fresh}
	q.jobs, q.fresh = slices.Delete(q.jobs, 0, 1), false
	c.asks.turned(c, c.cur.Job)
	c.prep.prepare(c, nil)
}

// takeAtOnce does not wait for a run token any longer.
func (q *queue) takeAtOnce(c *Core) {
	c.do(Action{Kind: StopWaiting})
	q.take(c)
}

// outwait ends the wait for a run token of a job that has waited for too long.
func (q *queue) outwait(c *Core) {
	j := q.jobs[0]
	if j.Env.Mode == jobs.ModeCall && c.reached(q.since+c.cfg.CheckoutTimeout) || j.expires() && c.late(j) {
		q.takeAtOnce(c)
	}
}

// weigh learns the deadlines of jobs that wait for longer.
func (q *queue) weigh(c *Core) {
	for _, j := range q.jobs {
		if !j.weighed && c.reached(j.Came+weighPause) {
			j.Weigh(c.cfg)
		}
	}
}

// drop removes all of it: the next epoch gets it again.
func (q *queue) forget(c *Core) {
	for _, j := range q.jobs {
		c.do(Action{Kind: Forget, Job: j})
	}
	q.jobs = nil
}
