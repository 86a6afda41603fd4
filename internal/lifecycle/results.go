package lifecycle

import (
	"errors"
	"time"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/jobs"
)

// results is the ledger of an anonymous job: the key of its result, which the first write decides, and one for attempts that
// have failed. The start of an attempt is not written down: the broker's count of deliveries tells of crashes.
type results struct {
	since Moment     // a job accepted later, and delivered once, is new to all hosts
	held  clock.Mono // since when it is known that no other host has been given the job
	rev   uint64
	hd    *jobs.Head // being written
}

const (
	// What is written down of an anonymous job's attempts lives as long as a queued job's outcome: a retry never comes later.
	attemptsTTL = jobs.QueueResultTTL
	// patience is what is left of a retry's delay that is waited for here; for more the job goes back to the broker.
	patience = time.Second
	// anonymousHold is the shortest time for which a job is given back: with 10,000 of them waiting for a trial's end, the host
	// has 2,000 a second to look at, for as long as the trial lasts.
	anonymousHold = 5 * time.Second
	// anonymousAlive is a quarter of the AckWait of the lanes' consumers.
	anonymousAlive = 5 * time.Second
	// anonymousLease is for how long a job is this host's after it was asked for, or said to be alive: half of the AckWait, because
	// what was said may have been lost with a connection that is noticed to be dead within 6 s.
	anonymousLease = 10 * time.Second
)

func (r *results) session() bool                { return false }
func (r *results) known() bool                  { return false }
func (r *results) strip()                       {}
func (r *results) doubt()                       {}
func (r *results) ready(*Core) bool             { return true }
func (r *results) past(*Core) bool              { return false }
func (r *results) load(*Core, *Event) error     { return nil }
func (r *results) ended(*Job) (jobs.Kind, bool) { return "", false }
func (r *results) suspect(c *Core) bool         { return c.cur.Env.Chosen || !r.fresh(c) }
func (r *results) lm() []byte                   { return nil }
func (r *results) prefers(*Core) uint64         { return 0 }
func (r *results) label() jobs.StateOf          { return "" }
func (r *results) alive() time.Duration         { return anonymousAlive }

func (r *results) renewIn(*Core) (time.Duration, bool) { return 0, false }

// fresh reports that no other host can have had the job before.
func (r *results) fresh(c *Core) bool {
	return c.cur.Delivered <= 1 && !r.since.MayFollow(c.cur.Stored, c.cfg.Clock)
}

func (r *results) lease(c *Core) bool { return c.mono-r.held < anonymousLease }

// loose lets the job go: AckWait has brought it to another host, or will.
func (r *results) loose(c *Core) {
	c.do(Action{Kind: Log, Note: NotStarted, Job: c.cur.Job, Task: c.cur})
	c.leave()
}

// keptAlive counts a sign of life. One that came too late counts for nothing: the broker may have given the job to another host.
func (r *results) keptAlive(c *Core) {
	if c.cur != nil && r.lease(c) {
		r.held = c.mono
	}
}

func (r *results) equip(_ *Core, call *Action) { call.Confirmed, call.Lease = r.held, anonymousLease }

func (r *results) begin(c *Core) { c.begun() }

// waited counts the time in the stream, too: a call waits for a slot there.
func (r *results) waited(c *Core) time.Duration { return c.age(c.cur.Job) }

// resume reads the attempts of a job that another host may have had.
func (r *results) resume(c *Core) bool {
	if r.fresh(c) {
		c.cur.resumed = true
		return true
	}
	c.to(Loading)
	c.ask(Action{Kind: ReadAttempts, Job: c.cur.Job})
	return false
}

// parse reads what is written down of the job's attempts, an empty head if nothing is.
func (r *results) parse(c *Core, f Found) (*jobs.Head, error) {
	r.rev = f.Revision
	if !f.Exists {
		return &jobs.Head{}, nil
	}
	hd, err := jobs.ParseHead(f.Value)
	if errors.Is(err, jobs.ErrNewer) {
		return nil, err
	}
	if err != nil { // the broker's count of deliveries is left
		c.do(Action{Kind: Log, Note: TriesUnreadable, Job: c.cur.Job, Cause: err})
		return &jobs.Head{}, nil //nolint:nilerr // it counts as none
	}
	if hd.Sequence != c.cur.Sequence { // an earlier job of the same id
		return &jobs.Head{}, nil
	}
	return hd, nil
}

// attemptsRead takes up what is written down. A delivery that left no word counts as a crash; the broker's count of them is
// approximate, because it falls back when a consumer is lost.
func (c *Core) attemptsRead(ev *Event) {
	r, t := c.ledger.(*results), c.cur
	if ev.Fault != NoFault {
		c.leave()
		return
	}
	hd, err := r.parse(c, ev.Head)
	if err != nil {
		c.leave()
		return
	}
	t.resumed = true
	t.Attempt, t.Failures = hd.Attempt, hd.Failures
	for range min(t.Delivered-1-hd.Delivered, jobs.MaxRetries+1) {
		t.Attempt++
		c.note(crashed(t.Attempt))
	}
	left := c.waits(hd)
	if left <= 0 {
		c.prepare(ev)
		return
	}
	left += time.Millisecond // what is stored was rounded down
	if left > patience {
		r.retry(c, left)
		return
	}
	c.awaitRetry(left, true)
}

// retry writes the attempts down and gives the job back to the broker, for any host after the delay. If they cannot be written
// it is not given back: it comes again by itself, and this delivery counts as a crash.
func (r *results) retry(c *Core, d time.Duration) {
	t := c.cur
	due := c.now().Add(d).Truncate(time.Millisecond) // as it is stored: the redelivery itself is not to be too early
	r.hd = &jobs.Head{Sequence: t.Sequence, Attempt: t.Attempt, Failures: t.Failures, Delivered: t.Delivered, Delay: d, NotBefore: due}
	r.rev, c.delay, c.refused = 0, d, 0
	c.to(Postponing)
	r.writeAttempt(c)
}

func (r *results) writeAttempt(c *Core) {
	c.ask(Action{Kind: WriteHead, Job: c.cur.Job, Body: r.hd.Append(nil), Revision: r.rev, TTL: attemptsTTL})
}

func (r *results) attemptWritten(c *Core, ev *Event) {
	c.refused++
	switch {
	case ev.Fault == NoFault:
		r.handBack(c)
	case ev.Fault == WrongRevision && c.refused < tries:
		c.ask(Action{Kind: ReadAttempts, Job: c.cur.Job})
	default:
		c.do(Action{Kind: Log, Note: AttemptsLost, Job: c.cur.Job, Cause: ev.Err})
		c.leave()
	}
}

// attemptsCompared has what another host wrote.
func (c *Core) attemptsCompared(ev *Event) {
	r := c.ledger.(*results)
	var hd *jobs.Head
	err := ev.Err
	if ev.Fault == NoFault {
		hd, err = r.parse(c, ev.Head)
	}
	switch {
	case err != nil || hd == nil:
		c.do(Action{Kind: Log, Note: AttemptsLost, Job: c.cur.Job, Cause: err})
		c.leave()
	case hd.Attempt > r.hd.Attempt:
		r.handBack(c) // another host knows more
	default:
		r.writeAttempt(c)
	}
}

// handBack gives the job back to the broker, unless it was cancelled while its attempts were written down.
func (r *results) handBack(c *Core) {
	if c.cur.cancelled && !c.over {
		c.attempt(nil)
		return
	}
	c.do(Action{Kind: Nak, Job: c.cur.Job, Delay: c.delay})
	c.leave()
}

// hold gives the job back until the breaker may let it through.
func (r *results) hold(c *Core, refused Refusal) {
	d := max(refused.RetryAfter, anonymousHold)
	if left, has := c.left(c.cur.Job); has {
		d = min(d, max(left, 0))
	}
	r.retry(c, d)
}

// handsBack leaves a job that waits for a slot to another host.
func (r *results) handsBack(c *Core) bool {
	switch c.state {
	case AwaitSlot:
		if c.awaits != 0 {
			c.withdraw(nil)
		}
		r.retry(c, 0)
		return true
	case Postponing:
		return true // it is on its way
	}
	return false
}

// commit stores the outcome, after the dead letter if there is one. The first one wins.
func (r *results) commit(c *Core) {
	t := c.cur
	c.do(Action{Kind: Count, Job: t.Job, Err: c.err, Ran: c.output.Ran})
	o := &jobs.Outcome{Job: t.Env.Job, Attempt: t.Attempt, Body: c.replyOf(), Failures: t.Failures}
	c.ending = ending{ttl: jobs.ResultTTL(t.Env.Mode), answer: o.Body,
		reply:  Address{To: t.Env.ReplyTo, Type: t.Env.Type, Job: t.Env.Job, Attempt: t.Attempt},
		result: &jobs.Result{Job: t.Env.Job, Sequence: t.Sequence, Attempt: t.Attempt, Hash: t.Req.Hash, Kind: KindOf(c.err), Body: o.Body, Stored: c.now()}}
	if c.ending.result.Kind == jobs.Failed && t.dead {
		c.ending.letter, c.ending.doubt = c.letter(t.Job, o), true
	}
	c.carryOut()
}
