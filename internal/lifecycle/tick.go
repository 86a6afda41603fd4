package lifecycle

import (
	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/jobs"
)

// Wake is when Ticked is due, by the machine's clock; 0: never.
func (c *Core) Wake() clock.Mono {
	at := c.alarm
	sooner := func(m clock.Mono) {
		if at == 0 || m < at {
			at = max(m, 1)
		}
	}
	next := func(m clock.Mono) { // of what each step looks at: if the time has come, something else is waited for
		if m = max(m, c.side.quiet); c.mono < m {
			sooner(m)
		}
	}
	due := func(j *Job) clock.Mono {
		left, _ := c.left(j)
		return c.at(left)
	}
	if c.state == Idle {
		return at
	}
	if c.cur != nil {
		sooner(c.alive + c.ledger.alive())
		if c.pends(c.cur.Job) {
			sooner(due(c.cur.Job))
		}
	}
	for i, j := range c.queue {
		switch {
		case !j.weighed:
			sooner(j.Came + weighPause)
		case c.pends(j) && (i > 0 || c.blocked != StepPredecessor):
			sooner(due(j))
		case j.expires() && c.attends():
			next(due(j))
		}
		if i == 0 && c.state == AwaitToken && j.Env.Mode == jobs.ModeCall {
			sooner(c.since + c.cfg.CheckoutTimeout)
		}
	}
	if c.attends() {
		if in, ok := c.ledger.renewIn(c); ok {
			next(c.at(in))
		}
	}
	return at
}

// tick does what the time has come for.
func (c *Core) tick(ev *Event) {
	for _, j := range c.queue {
		if !j.weighed && c.reached(j.Came+weighPause) {
			j.Weigh(c.cfg)
		}
	}
	if c.cur != nil && c.state != Idle && c.reached(c.alive+c.ledger.alive()) {
		c.alive = c.mono
		c.do(Action{Kind: KeepAlive, Job: c.cur.Job})
	}
	if c.state == AwaitToken {
		j := c.queue[0]
		if j.Env.Mode == jobs.ModeCall && c.reached(c.since+c.cfg.CheckoutTimeout) || j.expires() && c.late(j) {
			c.takeAtOnce()
		}
	}
	if c.reached(c.alarm) {
		c.alarm = 0
		table[c.state].resume(c, ev)
	}
	c.pend()
}

// attends reports whether duties can be done at the moment.
func (c *Core) attends() bool {
	if c.over || c.side.step != sideIdle || !c.ledger.session() {
		return false
	}
	switch c.state {
	case Idle, AwaitPredecessor, AwaitNewer:
		return false
	case Loading, Beginning, Postponing, Fencing, Committing:
		return c.awaits == 0 && !c.held
	}
	return c.ref.Valid()
}

// attend begins with the next duty, if there is one.
func (c *Core) attend() {
	if c.state == AwaitPredecessor || c.state == AwaitNewer {
		c.verdicts(jobs.CancelBusy)
	}
	if !c.attends() {
		return
	}
	if len(c.asks) > 0 {
		a := c.asks[0]
		c.asks = c.asks[1:]
		c.endEarly(a.job, jobs.Cancelled, a.op)
		return
	}
	if c.mono < c.side.quiet {
		return
	}
	for _, j := range c.queue {
		if j.answered {
			continue
		}
		if kind, ended := c.endedBefore(j); ended { // its result could not be stored
			c.endEarly(j, kind, 0)
			return
		}
		if j.expires() && c.late(j) {
			if c.sure(j) {
				c.endEarly(j, jobs.Expired, 0)
			} else {
				c.sideAsk(sideComparing, Action{Kind: Compare, Job: j})
			}
			return
		}
	}
	if in, ok := c.ledger.renewIn(c); ok && in <= 0 {
		c.sideBegins(nil, "", 0)
		c.sideLook(false)
	}
}
