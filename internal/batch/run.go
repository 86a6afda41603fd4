package batch

import (
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
	feedAgain          = 5 * time.Minute // a job without an outcome is published again: a store may have been lost. Each time after twice as long
)

// Run decides what to do for one batch. Its state is recreated from what is stored: whatever leads next begins with the record.
type Run struct {
	rec     Record // as it is to be written next
	durable int    // no job from here on has been published, as the stored record says
	earlier int    // jobs before this one may have been published by an earlier leader

	chunks   []*chunk // open, in their order
	loading  bool
	loadAt   time.Time // not before
	sessions map[string]*session
	idle     []*job // to be published, in their order
	flight   int    // at the broker, as far as is known

	writing   bool
	wrote     Record    // by the write under way
	writeAt   time.Time // of progress, not before
	failedAt  time.Time // after a write that failed, not before
	partBytes int
	dirty     bool
	looking   bool
	lookAt    time.Time
	lookPause time.Duration
	stopping  int
	telling   bool
	over      bool
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
	at      time.Time
	again   time.Duration
	end     End
}

type session struct {
	waits  []*job // in their order
	asked  bool   // one of its jobs is being published: the next one comes after it
	flight int
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
	rec.Seen = r.Tally.clone() // of later outcomes the chunks tell
	rec.Tally = r.Tally.clone()
	return &Run{rec: rec, durable: r.Opened, earlier: r.Opened, sessions: map[string]*session{}, lookPause: lookSoon, partBytes: min(mostPart, maxPayload/8)}
}

// Step takes an event and returns what to do. now is of a clock that nobody sets; stamp is the broker's time, which is written down.
func (r *Run) Step(now, stamp time.Time, e Event) []Action {
	if r.over {
		return nil
	}
	switch e := e.(type) {
	case Loaded:
		r.loaded(now, e)
	case NotLoaded:
		r.loading, r.loadAt = false, now.Add(retryAfter)
		if e.Gone {
			r.rec.Lost = true
		}
	case Fed:
		r.published(now, e.Index)
	case NotFed:
		r.notPublished(now, e.Index)
	case Looked:
		r.looked(now, e)
	case Stopped:
		r.stopped(now, e)
	case NotStopped:
		r.stopping--
		if j := r.find(e.Index); j != nil && j.state == halting {
			j.state, j.at = fed, now.Add(retryAfter)
		}
	case Saved:
		r.saved(e.First, e.Part)
	case NotSaved:
		r.notSaved(now, e)
	case Written:
		r.written()
	case NotWritten:
		r.writing, r.dirty, r.failedAt = false, true, now.Add(retryAfter)
	case Changed:
		r.changed(now, e.Record)
	case Announced:
		r.telling, r.rec.Announced, r.dirty = false, true, true
	case Tick:
	}
	if r.over {
		return []Action{Stop{}}
	}
	return r.decide(now, stamp)
}

// Settled is the first job whose outcome may not be stored yet.
func (r *Run) Settled() int { return r.rec.Settled }

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

func (r *Run) loaded(now time.Time, e Loaded) {
	r.loading = false
	if e.First != r.end() {
		return // it is not wanted any more
	}
	c := &chunk{first: e.First, jobs: make([]job, len(e.Lines)), part: e.Parts, left: len(e.Lines)}
	r.chunks = append(r.chunks, c)
	for i := range e.Lines {
		c.jobs[i] = job{index: e.First + i, maybe: e.First+i < r.earlier, again: feedAgain}
	}
	for _, end := range e.Ended {
		if i := end.Index - e.First; i >= 0 && i < len(c.jobs) && c.jobs[i].state != saved {
			c.jobs[i].state, c.jobs[i].end = saved, end
			c.left--
			r.rec.Seen.add(end)
		}
	}
	for i := range c.jobs {
		j, line := &c.jobs[i], &e.Lines[i]
		switch {
		case j.state == saved:
		case len(line.Bad) > 0:
			code, _ := Facts(line.Bad)
			r.endJob(now, j, End{Index: j.index, Kind: jobs.Failed, Code: code, Bytes: len(line.Bad), Unrun: true})
		default:
			r.queue(j, line.Session)
		}
	}
	for _, end := range e.Seen {
		if j := r.find(end.Index); j != nil {
			r.endJob(now, j, end)
		}
	}
	r.dirty = true
}

// end is the first job that is not open.
func (r *Run) end() int {
	if n := len(r.chunks); n > 0 {
		return r.chunks[n-1].end()
	}
	return r.rec.Settled
}

func (r *Run) queue(j *job, id string) {
	r.idle = append(r.idle, j)
	if id == "" {
		return
	}
	s := r.sessions[id]
	if s == nil {
		s = &session{}
		r.sessions[id] = s
	}
	j.session = s
	s.waits = append(s.waits, j)
}

func (r *Run) published(now time.Time, index int) {
	j := r.find(index)
	if j == nil || j.state != feeding {
		return
	}
	j.state, j.at = fed, now
	if j.session != nil {
		j.session.asked = false
	}
	if r.lookAt.IsZero() {
		r.lookAt = now.Add(r.lookPause)
	}
}

func (r *Run) notPublished(now time.Time, index int) {
	j := r.find(index)
	if j == nil || j.state != feeding {
		return
	}
	j.state, j.at, j.maybe = waits, now.Add(retryAfter), true
	r.flight--
	if s := j.session; s != nil { // it goes first again
		s.asked = false
		s.flight--
		s.waits = append([]*job{j}, s.waits...)
	}
	r.idle = append([]*job{j}, r.idle...)
}

func (r *Run) looked(now time.Time, e Looked) {
	r.looking = false
	for _, end := range e.Ended {
		if j := r.find(end.Index); j != nil {
			r.endJob(now, j, end)
		}
	}
	r.lookPause = min(2*r.lookPause, lookLate)
	if len(e.Ended) > 0 {
		r.lookPause = lookSoon
	}
	r.lookAt = now.Add(r.lookPause)
}

func (r *Run) stopped(now time.Time, e Stopped) {
	r.stopping--
	j := r.find(e.Index)
	if j == nil || j.state >= ended {
		return
	}
	if e.Ended != nil {
		r.endJob(now, j, *e.Ended)
		return
	}
	r.endJob(now, j, cancelled(j.index))
}

func cancelled(index int) End {
	return End{Index: index, Kind: jobs.Cancelled, Code: jobs.CodeCancelled, Bytes: len(CancelledReply()), Unrun: true}
}

// endJob notes an outcome: the first one counts.
func (r *Run) endJob(now time.Time, j *job, e End) {
	if j.state >= ended {
		return
	}
	if j.state != waits {
		r.flight--
		if s := j.session; s != nil {
			s.flight--
			s.asked = s.asked && j.state != feeding
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

func (r *Run) saved(first, part int) {
	c := r.chunkOf(first)
	if c == nil || !c.saving || c.part != part {
		return
	}
	c.saving = false
	c.part++
	for i := range c.jobs {
		if c.jobs[i].state == saving {
			c.jobs[i].state = saved
			c.left--
		}
	}
}

func (r *Run) notSaved(now time.Time, e NotSaved) {
	c := r.chunkOf(e.First)
	if c == nil || !c.saving || c.part != e.Part {
		return
	}
	if e.Taken { // by this leader's own write, or by another one: what is stored counts
		r.over = true
		return
	}
	c.saving, c.saveAt = false, now.Add(retryAfter)
	for i := range c.jobs {
		if j := &c.jobs[i]; j.state == saving {
			j.state = ended
			if c.bytes += j.end.Bytes; c.since.IsZero() {
				c.since = now
			}
		}
	}
}
