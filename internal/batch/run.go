package batch

import (
	"time"

	"github.com/dspex/dspex/internal/jobs"
)

// Step takes events, in their order, and returns what to do: to decide once for many costs less. now is of a clock that nobody sets; stamp is the
// broker's time, which is written down.
func (r *Run) Step(now, stamp time.Time, events ...Event) []Action {
	if r.over {
		return nil
	}
	for _, e := range events {
		if r.take(now, e); r.over {
			return []Action{Stop{}}
		}
	}
	return r.decide(now, stamp)
}

func (r *Run) take(now time.Time, e Event) {
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
	case Replied:
		r.replied(now, e)
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
		r.announcing, r.rec.Announced, r.dirty = false, true, true
	case Lane:
		r.laneMost = e.Most
	case Tick:
	}
}

// Stored is the first job whose outcome may not be stored yet.
func (r *Run) Stored() int { return r.rec.Stored }

func (r *Run) loaded(now time.Time, e Loaded) {
	r.loading = false
	if e.First != r.end() {
		return // it is not needed any more
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
		j.session.publishing = false
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
	r.fly(j, -1)
	if s := j.session; s != nil { // it goes first again
		s.publishing = false
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
	r.lookPause = pauseAfter(r.lookPause, len(e.Ended), r.flight+len(e.Ended))
	r.lookAt = now.Add(r.lookPause)
}

// replied takes the outcome of a reply. One without is read with the next look, which comes soon.
func (r *Run) replied(now time.Time, e Replied) {
	r.replies = true
	j := r.find(e.Index)
	switch {
	case j == nil || j.state == waits && !j.maybe:
	case e.Ended != nil:
		r.endJob(now, j, *e.Ended)
	default:
		j.replied = true
		if soon := now.Add(lookSoon); soon.Before(r.lookAt) {
			r.lookAt = soon
		}
	}
}

// pauseAfter is the pause behind a look that found the end of some jobs: a look costs the same however many it finds.
func pauseAfter(pause time.Duration, found, asked int) time.Duration {
	switch {
	case found == 0:
		return min(2*pause, lookLate)
	case found*8 < asked:
		return min(2*pause, lookFew)
	case found*4 > asked:
		return max(min(pause, lookFew)/2, lookSoon)
	}
	return min(pause, lookFew)
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
