package lifecycle

import (
	"errors"
	"time"

	"github.com/dspex/dspex/internal/jobs"
)

const (
	// What is written down of an anonymous job's attempts lives as long as a queued job's outcome: a retry never comes later.
	attemptsTTL = jobs.QueueResultTTL
	// patience is what is left of a retry's delay that is waited for here; for more the job goes back to the broker.
	patience = time.Second
	// anonymousBreakerPause is the shortest time for which a job is given back. With 10,000 of them waiting for a trial's end, the host
	// has 2,000 a second to look at, for as long as the trial lasts.
	anonymousBreakerPause = 5 * time.Second
	// anonymousAlive is a quarter of the AckWait of the lanes' consumers.
	anonymousAlive = 5 * time.Second
	// anonymousLease is for how long a job is this host's after it was requested, or reported alive. It is half of the AckWait: the
	// report may have been lost with a connection that is detected to be dead within 6 s.
	anonymousLease = 10 * time.Second
)

func (r *results) known() bool { return false }

func (r *results) strip(*Core) {}

func (r *results) doubt() {}

func (r *results) ready(*Core) bool { return true }

func (r *results) past(*Core) bool { return false }

func (r *results) strands(*Core) bool { return false }

func (r *results) load(*Core, *Event) error { return nil }

func (r *results) ended(*Job) (jobs.Kind, bool) { return "", false }

func (r *results) suspect(c *Core) bool { return c.cur.Env.Chosen || !r.fresh(c) }

func (r *results) lm() []byte { return nil }

func (r *results) prefers(*Core) uint64 { return 0 }

func (r *results) label() jobs.StateOf { return "" }

// fresh reports that no other host can have had the job before.
func (r *results) fresh(c *Core) bool {
	return c.cur.Delivered <= 1 && !r.since.MayFollow(c.cur.Stored, c.cfg.Clock)
}

func (w *resultsJournal) alive() time.Duration { return anonymousAlive }

func (w *resultsJournal) lease(c *Core) bool { return c.mono-w.held < anonymousLease }

// loose lets the job go: AckWait has brought it to another host, or will.
func (w *resultsJournal) loose(c *Core) {
	c.do(Action{Kind: Log, Note: NotStarted, Job: c.cur.Job, Task: c.cur})
	c.leave()
}

// keptAlive counts a sign of life. One that came too late counts for nothing: the broker may have given the job to another host.
func (w *resultsJournal) keptAlive(c *Core) {
	if c.cur != nil && w.lease(c) {
		w.held = c.mono
	}
}

func (w *resultsJournal) equip(_ *Core, call *Action) {
	call.Confirmed, call.Lease = w.held, anonymousLease
}

func (w *resultsJournal) begin(c *Core) { c.attempt.begun(c) }

// waited counts the time in the stream, too: a call waits for a slot there.
func (w *resultsJournal) waited(c *Core) time.Duration { return c.age(c.cur.Job) }

// resume reads the attempts of a job that another host may have had.
func (r *results) resume(c *Core) bool {
	if r.fresh(c) {
		c.prep.resumed = true
		return true
	}
	c.to(Loading)
	c.request(Action{Kind: ReadAttempts, Job: c.cur.Job})
	return false
}

// parseAttempts reads what is written down of the job's attempts, an empty one if nothing is.
func parseAttempts(c *Core, f Found) (*jobs.AttemptRecord, error) {
	if !f.Exists {
		return &jobs.AttemptRecord{}, nil
	}
	hd, err := jobs.ParseAttemptRecord(f.Value)
	if errors.Is(err, jobs.ErrNewer) {
		return nil, err
	}
	if err != nil { // the broker's count of deliveries is left
		c.do(Action{Kind: Log, Note: TriesUnreadable, Job: c.cur.Job, Cause: err})
		return &jobs.AttemptRecord{}, nil //nolint:nilerr // it counts as none
	}
	if hd.Sequence != c.cur.Sequence { // an earlier job of the same id
		return &jobs.AttemptRecord{}, nil
	}
	return hd, nil
}

// attemptsRead takes up what is written down. A delivery that left no word counts as a crash; the broker's count of them is
// approximate, because it falls back when a consumer is lost.
func (r *results) attemptsRead(c *Core, ev *Event) {
	t := c.cur
	if ev.Fault != NoFault {
		c.leave()
		return
	}
	hd, err := parseAttempts(c, ev.AttemptRecord)
	if err != nil {
		c.leave()
		return
	}
	c.prep.resumed = true
	t.Attempt, t.Failures = hd.Attempt, hd.Failures
	for range min(t.Delivered-1-hd.Delivered, jobs.MaxRetries+1) {
		t.Attempt++
		t.note(c, crashed(t.Attempt))
	}
	left := c.waits(hd)
	if left <= 0 {
		c.prep.prepare(c, ev)
		return
	}
	left += time.Millisecond // what is stored was rounded down
	if left > patience {
		c.journal.retry(c, left)
		return
	}
	c.retry.await(c, left, true)
}

// retry writes the attempts down and gives the job back to the broker, for any host after the delay. If they cannot be written
// it is not given back: it comes again by itself, and this delivery counts as a crash.
func (w *resultsJournal) retry(c *Core, d time.Duration) {
	t := c.cur
	due := c.now().Add(d).Truncate(time.Millisecond) // as it is stored: the redelivery itself is not to be too early
	w.hd = &jobs.AttemptRecord{Sequence: t.Sequence, Attempt: t.Attempt, Failures: t.Failures, Delivered: t.Delivered, Delay: d, NotBefore: due}
	w.rev, w.delay, w.refused = 0, d, 0
	c.to(Postponing)
	w.writeAttempt(c)
}

func (w *resultsJournal) writeAttempt(c *Core) {
	c.request(Action{Kind: WriteAttemptRecord, Job: c.cur.Job, Body: w.hd.Append(nil), Revision: w.rev, TTL: attemptsTTL})
}

func (w *resultsJournal) attemptWritten(c *Core, ev *Event) {
	w.refused++
	switch {
	case ev.Fault == NoFault:
		w.handBack(c)
	case ev.Fault == WrongRevision && w.refused < tries:
		c.request(Action{Kind: ReadAttempts, Job: c.cur.Job})
	default:
		c.do(Action{Kind: Log, Note: AttemptsLost, Job: c.cur.Job, Cause: ev.Err})
		c.leave()
	}
}

// attemptsCompared has what another host wrote.
func (w *resultsJournal) attemptsCompared(c *Core, ev *Event) {
	var hd *jobs.AttemptRecord
	err := ev.Err
	if ev.Fault == NoFault {
		w.rev = ev.AttemptRecord.Revision
		hd, err = parseAttempts(c, ev.AttemptRecord)
	}
	switch {
	case err != nil || hd == nil:
		c.do(Action{Kind: Log, Note: AttemptsLost, Job: c.cur.Job, Cause: err})
		c.leave()
	case hd.Attempt > w.hd.Attempt:
		w.handBack(c) // another host has recorded more
	default:
		w.writeAttempt(c)
	}
}

// handBack gives the job back to the broker, unless it was cancelled while its attempts were written down.
func (w *resultsJournal) handBack(c *Core) {
	if c.cur.cancelled && !c.over {
		c.attempt.start(c, nil)
		return
	}
	c.do(Action{Kind: Nak, Job: c.cur.Job, Delay: w.delay})
	c.leave()
}

// awaitBreaker gives the job back until the breaker may let it through.
func (w *resultsJournal) awaitBreaker(c *Core, refused Refusal) {
	d := max(refused.RetryAfter, anonymousBreakerPause)
	if left, has := c.left(c.cur.Job); has {
		d = min(d, max(left, 0))
	}
	w.retry(c, d)
}

// handsBack leaves a job that waits for a slot to another host.
func (w *resultsJournal) handsBack(c *Core) bool {
	switch c.state {
	case AwaitSlot:
		if c.awaits != 0 {
			c.queue.withdraw(c, nil)
		}
		w.retry(c, 0)
		return true
	case Postponing:
		return true // it is on its way
	}
	return false
}

// commit stores the outcome, after the dead letter if there is one. The first one wins.
func (w *resultsJournal) commit(c *Core) {
	t := c.cur
	c.do(Action{Kind: Count, Job: t.Job, Task: t, Err: c.attempt.err, Ran: c.attempt.output.Ran})
	o := &jobs.Outcome{Job: t.Env.Job, Attempt: t.Attempt, Body: c.attempt.reply(c), Failures: t.Failures}
	e := &c.ending
	*e = ending{ttl: jobs.ResultTTL(t.Env.Mode), answer: o.Body,
		reply:  Address{To: t.Env.ReplyTo, Type: t.Env.Type, Job: t.Env.Job, Attempt: t.Attempt},
		result: &jobs.Result{Job: t.Env.Job, Sequence: t.Sequence, Attempt: t.Attempt, Hash: t.Req.Hash, Kind: KindOf(c.attempt.err), Body: o.Body, Stored: c.now(), Trace: t.Trace}}
	if e.result.Kind == jobs.Failed && t.dead {
		e.deadLetter, e.doubt = e.deadLetterOf(c, t.Job, o), true
	}
	e.carryOut(c)
}
