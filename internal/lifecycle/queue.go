package lifecycle

import (
	"cmp"
	"slices"

	"github.com/dspex/dspex/internal/jobs"
)

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
	if j.Unkept { // what is known of its deadline while it waits must be read now
		j.Weigh(c.cfg)
		c.do(Action{Kind: DropPayload, Job: j})
	}
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
	case c.anonymous:
		q.take(c)
	default: // after each job somebody else may have the token
		q.yield(c)
		c.to(AwaitToken)
		c.do(Action{Kind: RequestToken, Job: q.jobs[0], Fresh: q.fresh})
	}
}

func (q *queue) rest(c *Core) {
	q.jobs, q.rested = nil, max(c.mono, 1)
	q.yield(c)
	if c.side.step == sideIdle {
		strip(c)
	}
}

func (q *queue) granted(c *Core, ev *Event) {
	q.token = ev.Token
	q.take(c)
}

// take makes the first of the queue the job at work.
func (q *queue) take(c *Core) {
	c.begin(q.jobs[0], q.fresh)
	q.jobs, q.fresh = slices.Delete(q.jobs, 0, 1), false
	c.cancellations.turned(c, c.cur.Job)
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

// weigh reads the deadlines of jobs that wait for longer.
func (q *queue) weigh(c *Core) {
	for _, j := range q.jobs {
		if !j.weighed && c.reached(j.Came+weighPause) {
			j.Weigh(c.cfg)
		}
	}
}

// cancel ends the job at work as soon as nothing of it is under way any more.
func (a *attempt) cancel(c *Core) {
	c.cur.cancelled = true
	switch c.state {
	case Running:
		a.giveUp(c, cancelled())
	case AwaitSlot, AwaitRetry, AwaitRoom:
		c.queue.withdraw(c, cancelled())
		a.start(c, nil)
	case AwaitBreaker:
		c.queue.withdraw(c, nil)
		c.prep.prepare(c, nil)
	}
}

// cancel ends the earliest outstanding job of an id.
func (a *cancellations) cancel(c *Core, ev *Event) {
	verdict := jobs.CancelUnknown
	switch i := slices.IndexFunc(c.queue.jobs, func(q *Job) bool { return q.Env.Job == ev.ID && !q.answered }); {
	case c.cur != nil && c.cur.Env.Job == ev.ID:
		verdict = jobs.CancelUnderway
		c.attempt.cancel(c)
	case i < 0:
	case c.state == AwaitPredecessor, c.state == AwaitNewer:
		verdict = jobs.CancelBusy
	case i == 0 && c.state == AwaitToken:
		verdict = jobs.CancelUnderway
		c.queue.jobs[0].cancelled = true
		c.queue.takeAtOnce(c)
	default:
		*a = append(*a, cancellation{c.queue.jobs[i], ev.Op})
		return
	}
	c.do(Action{Kind: Verdict, Op: ev.Op, Verdict: verdict})
}

// turned answers the cancellations of a job that has come to its turn: it ends at once.
func (a *cancellations) turned(c *Core, j *Job) {
	*a = slices.DeleteFunc(*a, func(one cancellation) bool {
		if one.job != j {
			return false
		}
		j.cancelled = true
		c.do(Action{Kind: Verdict, Op: one.op, Verdict: jobs.CancelUnderway})
		return true
	})
}
