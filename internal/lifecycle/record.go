package lifecycle

import (
	"errors"
	"time"

	"github.com/dspex/dspex/internal/jobs"
)

const (
	// hintLifetime is how long a session prefers the worker that holds its state.
	hintLifetime = 300 * time.Second
	// attemptRecordLifetime is how long the attempt record of a job without deadline lives beyond the idle time: the attempts of a job must
	// not be dropped while it may come again.
	attemptRecordLifetime = 24 * time.Hour
	// idleState is the largest state that is kept of a session without work: 256 sessions of 64 partitions hold 64 MB at most.
	idleState = 4 << 10
	// sessionAlive is a third of the AckWait of a partition's consumer.
	sessionAlive = 200 * time.Second
	// sessionLease is for how long a host may start what the broker has confirmed: a frozen process keeps its connection for two pings of
	// the broker (4 s). A dispatcher may take it for dead only then, or after 10 s of silence.
	sessionLease = 2 * time.Second
)

var (
	errFenced = errors.New("the partition belongs to another epoch")
	errFault  = errors.New("not read")
	errUnsure = errors.New("the clock was not compared")
)

func (r *record) known() bool { return r.read || r.worker != 0 }

func (r *record) doubt() { r.read = false }

func (r *record) base() base {
	return base{r.rec.Stream, r.rec.LastSequence, r.rec.Generation, r.rec.StateVersion}
}

// strip drops what a session without work hardly needs: it is read again when it does. Which worker holds a large state is
// kept, the state itself is not.
func (r *record) strip(c *Core) {
	c.session.commit.next, c.session.commit.last, c.session.journal.hd = nil, nil, nil
	switch {
	case !r.read:
		r.rec, r.noted = nil, nil
		return
	case len(r.rec.State) > idleState:
		r.read, r.rec, r.noted = false, nil, nil
		return
	case r.rec.Last == nil:
		return
	}
	r.rec.Last, r.bare = nil, true
	if r.noted != nil && r.noted.Sequence <= r.rec.LastSequence {
		r.noted = nil
	}
}

// fresh reports whether what is known is young enough to be written to (architecture, rule 7).
func (r *record) fresh(c *Core) bool {
	return r.read && c.mono-r.loaded <= c.cfg.lifetime(0)/2 && !r.lapsed(c)
}

// lapsed reports whether the state in memory has outlived the session's idle time.
func (r *record) lapsed(c *Core) bool {
	return r.rec.StateVersion > 0 && r.idle(c, r.stamp) > c.cfg.SessionIdle
}

// idle is how long nothing ran or waited, since the record was written, before the job at hand was accepted. The broker has stamped
// both: what host wrote the record, and by what clock, does not count.
func (r *record) idle(c *Core, written time.Time) time.Duration {
	j := c.queue.first(c)
	if j == nil {
		return 0
	}
	return c.cfg.Clock.AgeAt(c.mono, written) - c.age(j)
}

func (r *record) ready(c *Core) bool {
	if r.fresh(c) {
		return true
	}
	c.to(Loading)
	r.look(c, false)
	return false
}

// look requests all that is needed, unless an early end or a renewal is at it. With sure the clock is compared first.
func (r *record) look(c *Core, sure bool) {
	if !c.side.recordFree(c) {
		c.held = true
		return
	}
	r.sent, r.looked = Present(c.cfg.Clock), c.mono
	c.request(Action{Kind: Look, Job: c.cur.Job, Check: sure})
}

// load takes what was found. The assignment was read last: who takes the partition over later changes the revisions that this
// epoch's writes expect.
func (r *record) load(c *Core, ev *Event) error {
	r.read = false
	if ev.Fault != NoFault {
		return errFault
	}
	if ev.Owner != Mine {
		return errFenced
	}
	rec, unreadable := readRecord(ev.Record)
	noted, err := readAttemptRecord(c, ev.AttemptRecord)
	switch {
	case errors.Is(unreadable, jobs.ErrNewer):
		return unreadable // left alone: a host of the newer version goes on with it
	case err != nil:
		return err
	case unreadable != nil:
		// The next commit replaces it. What was decided before is still known by its result.
		c.do(Action{Kind: Log, Note: RecordUnreadable, Cause: unreadable})
	}
	expired := rec != nil && r.idle(c, ev.Record.Stored) > c.cfg.SessionIdle
	if j := c.queue.first(c); expired && !c.sure(j) { // only a clock that was compared since the job came decides that
		return errUnsure
	}
	if ev.Record.Revision != r.rev { // another's write, or one whose fate was unknown: what a worker holds is another version
		r.worker, r.version = 0, 0
	}
	r.rev, r.attemptRev = ev.Record.Revision, ev.AttemptRecord.Revision
	r.rec, r.noted, r.lost, r.stamp = rec, noted, unreadable != nil, ev.Record.Stored
	if r.overtaken(c) {
		c.cur.overtaken = true
	}
	if r.rec == nil {
		r.rec, r.lost = &jobs.Record{Created: r.sent.At.Add(-compared)}, r.lost || ev.Forgot
	} else if expired || r.rec.StateVersion > 0 && len(r.rec.State) == 0 {
		r.lost = r.rec.StateVersion > 0
		r.rec.State, r.rec.StateVersion, r.rec.LM = nil, 0, nil
		r.rec.Generation++
	}
	if r.rec.Stream != c.stream { // sequences of another stream count nothing
		r.rec.Stream, r.rec.LastSequence, r.rec.Ended = c.stream, 0, nil
	}
	r.read, r.bare, r.loaded, r.since = true, false, c.mono, r.sent
	return nil
}

func readRecord(f Found) (*jobs.Record, error) {
	if !f.Exists {
		return nil, nil
	}
	return jobs.ParseRecord(f.Value)
}

// past completes a job that is decided in the record: only the last one can miss its result.
func (r *record) past(c *Core) bool {
	if c.cur.Sequence > r.rec.LastSequence {
		return false
	}
	if r.bare {
		c.to(Loading)
		r.look(c, false)
		return true
	}
	if o := r.rec.Last; o != nil && o.Sequence == c.cur.Sequence {
		c.ending.finish(c, o, true)
	} else {
		c.ack()
	}
	return true
}

func (r *record) suspect(c *Core) bool {
	return c.cur.Env.Chosen || r.since.MayFollow(c.cur.Stored, c.cfg.Clock)
}

func (r *record) ended(j *Job) (jobs.Kind, bool) {
	kind, ended := r.rec.Ended[j.Sequence]
	return kind, ended
}

func (r *record) lm() []byte { return r.rec.LM }

// prefers is the worker that the session's next job should run in: 0 if none holds its state, or has not been used lately.
func (h *home) prefers(c *Core) uint64 {
	if c.mono-h.used > hintLifetime {
		return 0
	}
	return h.worker
}

// holds reports whether the worker has the state of that version.
func (h *home) holds(worker, version uint64) bool { return h.worker == worker && h.version == version }

func (r *record) label() jobs.StateOf {
	if r.lost {
		return jobs.Reset
	}
	if r.rec.StateVersion == 0 {
		return jobs.None
	}
	return jobs.Restored
}

// lossKept is the record as it is written beside a job. That its state was lost is reported by a job's reply, perhaps another
// host's: until then the record holds a version without a state.
func (r *record) lossKept(rec jobs.Record) *jobs.Record {
	if r.lost && rec.StateVersion == 0 {
		rec.StateVersion = 1
	}
	return &rec
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

// isAbout reports whether the attempt record is about the job.
func (r *attemptRecord) isAbout(c *Core, j *Job) bool {
	return r.noted != nil && r.noted.Stream == c.stream && r.noted.Sequence == j.Sequence
}

// overtaken reports whether another epoch has written down an attempt of the job at work since its attempts were taken up.
func (r *attemptRecord) overtaken(c *Core) bool {
	t := c.cur
	return t != nil && c.prep.resumed && r.isAbout(c, t.Job) && r.noted.Epoch != c.epoch && (t.from == nil || !t.from.Same(r.noted))
}

// resume takes up the attempts that are in the attempt record: an attempt without an end is a crash and counts.
func (r *attemptRecord) resume(c *Core) bool {
	t, hd := c.cur, r.noted
	c.prep.resumed = true
	if !r.isAbout(c, t.Job) {
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

// fences reports whether no earlier epoch can write an attempt down any more.
func (r *attemptRecord) fences(c *Core) bool { return r.noted != nil && r.noted.Epoch == c.epoch }

// fence is the attempt record as this epoch's, with its attempts as they were.
func (r *attemptRecord) fence(c *Core) *jobs.AttemptRecord {
	hd := jobs.AttemptRecord{Stream: c.stream} // of no job
	if r.noted != nil {
		hd = *r.noted
	}
	hd.Epoch = c.epoch
	return &hd
}
