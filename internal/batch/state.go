package batch

import (
	"slices"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/jobs"
)

// Bounds of a run.
const (
	DefaultConcurrency = 64              // jobs of a batch at the broker at a time
	MaxConcurrency     = 1024            // results that one look reads
	ahead              = 8               // chunks that are open at a time
	ofSession          = 8               // jobs of one session at the broker at a time: its queue has room for others
	stops              = 16              // cancellations under way at a time
	mostPart           = 96 << 10        // bytes of a part, or an eighth of what a message may have
	saveAfter          = 5 * time.Minute // an outcome waits so long for others: results last for 24 h
	retryAfter         = time.Second     // what the broker did not take or give
	writeEach          = time.Second     // progress is written as often
	lookSoon           = 5 * time.Millisecond
	lookLate           = 500 * time.Millisecond
	lookFew            = 40 * time.Millisecond // while few of the jobs end between two looks
	feedAgain          = 5 * time.Minute       // a job without an outcome is published again: a store may have been lost. Each time after twice as long
	lookAgain          = time.Second           // between two looks for such jobs
)

// Run decides what to do for one batch. Its state is recreated from what is stored: whatever leads next begins with the record.
type Run struct {
	rec     Record // as it is to be written next
	durable int    // no job from here on has been published, by the stored record
	earlier int    // jobs before this one may have been published by an earlier leader

	chunks   []*chunk // open, in their order
	loading  bool
	loadAt   time.Time // not before
	sessions map[string]*session
	idle     []*job // to be published, in their order
	flight   int    // at the broker, as far as is known
	lane     int    // of flight, those without session
	laneMost int    // of lane; 0: no bound

	writing    bool
	wrote      Record    // by the write under way
	writeAt    time.Time // of progress, not before
	failedAt   time.Time // after a write that failed, not before
	partBytes  int
	dirty      bool
	looking    bool
	replies    bool // some have come since the last look
	lookAt     time.Time
	lookPause  time.Duration
	againAt    time.Time // for jobs that are to be published again, not before
	stopping   int
	announcing bool
	over       bool
}

type jobState uint8

const (
	waits   jobState = iota // to be published
	feeding                 // whether the broker holds it is not known yet
	fed                     // the broker holds it
	halting                 // its cancellation is under way
	ended
	saving
	saved
)

type job struct {
	index   int
	state   jobState
	session *session // nil: none
	maybe   bool     // it may be at the broker without our knowledge
	replied bool     // a reply has come: the outcome is to be read
	at      time.Time
	again   time.Duration
	end     End
}

type session struct {
	waits      []*job // in their order
	publishing bool   // one of its jobs is being published: the next one comes after it
	flight     int
}

type chunk struct {
	first  int
	jobs   []job
	part   int // the next one
	left   int // jobs whose outcome is not saved
	saving bool
	saveAt time.Time // not before
	bytes  int       // of outcomes that are not saved
	since  time.Time // of the first of them
}

// NewRun begins with a record that Waits. maxPayload is the broker's: a part has an eighth of it, and one outcome, at most.
func NewRun(r *Record, maxPayload int) *Run {
	rec := *r
	rec.Seen = r.Tally.clone() // later outcomes are in the chunks
	rec.Tally = r.Tally.clone()
	return &Run{rec: rec, durable: r.Opened, earlier: r.Opened, sessions: map[string]*session{}, lookPause: lookSoon, partBytes: min(mostPart, maxPayload/8)}
}

// find is an open job; nil: its chunk is settled, or not open.
func (r *Run) find(index int) *job {
	if c := r.chunkOf(index); c != nil {
		return &c.jobs[index-c.first]
	}
	return nil
}

func (r *Run) chunkOf(index int) *chunk {
	for _, c := range r.chunks {
		if index >= c.first && index < c.end() {
			return c
		}
	}
	return nil
}

func (c *chunk) end() int { return c.first + len(c.jobs) }

func (c *chunk) unended() bool {
	return slices.ContainsFunc(c.jobs, func(j job) bool { return j.state < ended })
}

// end is the first job that is not open.
func (r *Run) end() int {
	if n := len(r.chunks); n > 0 {
		return r.chunks[n-1].end()
	}
	return r.rec.Stored
}

// fly counts a job that goes to the broker (1), or has left it (-1).
func (r *Run) fly(j *job, by int) {
	r.flight += by
	if j.session == nil {
		r.lane += by
	} else {
		j.session.flight += by
	}
}

// Lane is how many jobs without session are at the broker or could be there now. Before the first ones are read it is the whole window.
func (r *Run) Lane() int {
	if len(r.chunks) == 0 && r.rec.Phase == Running && !r.rec.Lost {
		return r.rec.Concurrency
	}
	n := r.lane
	for _, j := range r.idle {
		if j.session == nil && j.state == waits && n < r.rec.Concurrency {
			n++
		}
	}
	return n
}

// laneFull reports whether the job has to wait for room in the lane.
func (r *Run) laneFull(j *job) bool {
	return j.session == nil && r.laneMost > 0 && r.lane >= r.laneMost
}

// endJob notes an outcome: the first one counts.
func (r *Run) endJob(now time.Time, j *job, e End) {
	if j.state >= ended {
		return
	}
	if j.state != waits {
		r.fly(j, -1)
		if s := j.session; s != nil {
			s.publishing = s.publishing && j.state != feeding
		}
	}
	j.state, j.end = ended, e
	c := r.chunkOf(j.index)
	if c.bytes += e.Bytes; c.since.IsZero() {
		c.since = now
	}
	r.rec.Seen.add(e)
	r.dirty = true
}

// CancelledReply is the reply of a job that its batch's cancellation ended before it was published.
var CancelledReply = sync.OnceValue(func() []byte {
	return (&jobs.Reply{Err: jobs.Errorf(jobs.System, jobs.CodeCancelled, "its batch was cancelled before the job began")}).Append(nil)
})

func cancelled(index int) End {
	return End{Index: index, Kind: jobs.Cancelled, Code: jobs.CodeCancelled, Bytes: len(CancelledReply()), Unrun: true}
}
