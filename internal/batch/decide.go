package batch

import (
	"slices"
	"time"

	"github.com/dspex/dspex/internal/jobs"
)

// decide returns what is to be done next, in the state that the events so far have made.
func (r *Run) decide(now, stamp time.Time) (do []Action) {
	if r.rec.Phase == Cancelling {
		do = r.halt(now, do)
	}
	do = r.save(now, do)
	r.closeChunks()
	r.conclude(stamp)
	if r.rec.Phase == Ended {
		return r.finish(now, do)
	}
	do = r.open(now, do)
	do = r.write(now, do)
	do = r.feed(now, do)
	return r.look(now, do)
}

// closeChunks closes the chunks at the front whose outcomes are all stored.
func (r *Run) closeChunks() {
	for len(r.chunks) > 0 && r.chunks[0].left == 0 && r.chunks[0].end() <= r.durable {
		c := r.chunks[0]
		for i := range c.jobs {
			r.rec.Tally.add(c.jobs[i].end)
		}
		r.rec.Stored = c.end()
		r.chunks = r.chunks[1:]
		r.dirty = true
	}
	if len(r.chunks) == 0 {
		clear(r.sessions)
	}
}

// last is where the batch ends: jobs from there on are never opened.
func (r *Run) last() int {
	if r.rec.Phase == Cancelling && !r.writing {
		return r.durable
	}
	return r.rec.Jobs
}

// conclude ends the batch when every job that was opened has its outcome. The others are cancelled by that.
func (r *Run) conclude(stamp time.Time) {
	lost := r.rec.Lost && len(r.chunks) == 0
	if r.writing || r.loading || r.rec.Phase == Ended || r.rec.Stored != r.last() && !lost {
		return
	}
	if !lost {
		r.rec.Tally.Cancelled += r.rec.Jobs - r.rec.Stored
		r.rec.Tally.count(jobs.CodeCancelled, r.rec.Jobs-r.rec.Stored)
	}
	r.rec.Seen, r.rec.Opened = r.rec.Tally.clone(), r.durable
	r.rec.Phase, r.rec.Finished, r.rec.Expires = Ended, stamp, stamp.Add(r.rec.Keep)
	r.dirty = true
}

// finish stores the end, announces it, and stores that it was announced.
func (r *Run) finish(now time.Time, do []Action) []Action {
	switch {
	case r.writing || r.announcing || now.Before(r.failedAt):
		return do
	case r.dirty:
		return r.store(now, do)
	case r.rec.Announced:
		r.over = true
		return append(do, Stop{})
	}
	r.announcing = true
	return append(do, Announce{r.rec})
}

// open reads the next chunk.
func (r *Run) open(now time.Time, do []Action) []Action {
	if r.loading || r.rec.Lost || len(r.chunks) >= ahead || r.end() >= r.last() || now.Before(r.loadAt) {
		return do
	}
	r.loading = true
	return append(do, Open{r.end()})
}

// write stores that chunks are open, before any of their jobs is published, and how far the batch is, now and then.
func (r *Run) write(now time.Time, do []Action) []Action {
	opens := r.rec.Phase == Running && r.end() > r.durable
	progress := r.dirty && !now.Before(r.writeAt)
	if r.writing || now.Before(r.failedAt) || !opens && !progress {
		return do
	}
	if opens {
		r.rec.Opened = r.end()
	} else {
		r.rec.Opened = r.durable
	}
	return r.store(now, do)
}

func (r *Run) store(now time.Time, do []Action) []Action {
	r.writing, r.dirty, r.writeAt = true, false, now.Add(writeEach)
	r.wrote = r.rec
	r.wrote.Tally, r.wrote.Seen = r.rec.Tally.clone(), r.rec.Seen.clone()
	return append(do, Write{r.wrote})
}

// changed takes what is stored for what counts. It is never called while a write is under way, but as its answer.
func (r *Run) changed(now time.Time, is *Record) {
	was := r.durable
	if r.writing {
		was = max(was, r.wrote.Opened)
	}
	gone := is == nil || is.Key != r.rec.Key || is.Phase == Removing
	if gone || is.Opened > was || is.Stored > r.rec.Stored || is.Phase == Ended && r.rec.Phase != Ended {
		r.over = true // gone, or another leader's
		return
	}
	r.doubt(is.Opened)
	if r.writing {
		r.writing = false
		r.dirty = r.dirty || is.Phase != r.wrote.Phase || is.Stored != r.wrote.Stored || is.Announced != r.wrote.Announced
		r.writeAt = now
	}
	if is.Phase == Cancelling && r.rec.Phase == Running {
		r.rec.Phase = Cancelling
	}
}

// doubt notes that jobs were opened, maybe by another leader, which may have published them then.
func (r *Run) doubt(opened int) {
	for _, c := range r.chunks {
		for i := range c.jobs {
			if j := &c.jobs[i]; j.index >= r.durable && j.index < opened {
				j.maybe = true
			}
		}
	}
	r.durable, r.earlier = max(r.durable, opened), max(r.earlier, opened)
}

func (r *Run) written() {
	if r.writing {
		r.writing, r.durable = false, max(r.durable, r.wrote.Opened)
	}
}

// feed publishes jobs inside the window. The next job of a session is published when the broker has acknowledged the one before: so they
// stand in its queue in their order.
func (r *Run) feed(now time.Time, do []Action) []Action {
	if r.rec.Phase != Running {
		return do
	}
	left := r.idle[:0]
	for i, j := range r.idle {
		if r.flight >= r.rec.Concurrency {
			left = append(left, r.idle[i:]...)
			break
		}
		if j.state != waits {
			continue
		}
		if j.index >= r.durable || now.Before(j.at) || r.laneFull(j) || !j.turn() {
			left = append(left, j)
			continue
		}
		j.publish()
		r.fly(j, 1)
		do = append(do, Feed{j.index})
	}
	r.idle = left
	if now.Before(r.againAt) {
		return do
	}
	r.againAt = now.Add(lookAgain)
	for _, c := range r.chunks {
		for i := range c.jobs { // whose result never came
			if j := &c.jobs[i]; j.state == fed && now.Sub(j.at) >= j.again && (j.session == nil || !j.session.publishing) {
				j.state, j.again = feeding, 2*j.again
				if j.session != nil {
					j.session.publishing = true
				}
				do = append(do, Feed{j.index})
			}
		}
	}
	return do
}

// turn reports whether the job is the next one of its session.
func (j *job) turn() bool {
	s := j.session
	if s == nil {
		return true
	}
	s.waits = slices.DeleteFunc(s.waits, func(o *job) bool { return o.state != waits })
	return !s.publishing && s.flight < ofSession && s.waits[0] == j
}

func (j *job) publish() {
	j.state = feeding
	if s := j.session; s != nil {
		s.publishing, s.waits = true, s.waits[1:]
	}
}

// look reads the results of what is at the broker. While replies come, those of jobs that are there for a while are read: a reply may be lost.
func (r *Run) look(now time.Time, do []Action) []Action {
	if r.looking || r.flight == 0 || now.Before(r.lookAt) {
		return do
	}
	var at []int
	for _, c := range r.chunks {
		for i := range c.jobs {
			if j := &c.jobs[i]; j.state == halting || j.state == fed && (!r.replies || j.replied || now.Sub(j.at) >= lookLate) {
				at = append(at, j.index)
			}
		}
	}
	if r.replies {
		r.replies, r.lookAt = false, now.Add(lookLate)
	}
	if len(at) == 0 {
		return do
	}
	r.looking = true
	return append(do, Look{at})
}

// halt ends what has not begun, and has the rest ended.
func (r *Run) halt(now time.Time, do []Action) []Action {
	if !r.writing { // what was not opened durably stays unopened: no job of it was published
		r.chunks = slices.DeleteFunc(r.chunks, func(c *chunk) bool { return c.first >= r.durable })
	}
	r.idle = nil
	for _, c := range r.chunks {
		if c.first >= r.durable {
			continue
		}
		for i := range c.jobs {
			j := &c.jobs[i]
			switch {
			case j.state == waits && !j.maybe:
				r.endJob(now, j, cancelled(j.index))
			case r.stopping < stops && !now.Before(j.at) && (j.state == waits || j.state == fed):
				if j.state == waits {
					r.fly(j, 1)
				}
				j.state = halting
				r.stopping++
				do = append(do, Cancel{j.index})
			}
		}
	}
	return do
}

// save stores outcomes with the batch: all of a chunk, or as many as fill a part.
func (r *Run) save(now time.Time, do []Action) []Action {
	for _, c := range r.chunks {
		if c.saving || now.Before(c.saveAt) || c.since.IsZero() || c.first >= r.durable {
			continue
		}
		if c.bytes < r.partBytes && now.Sub(c.since) < saveAfter && c.unended() {
			continue
		}
		s := Save{First: c.first, Part: c.part}
		bytes := 0
		c.since = time.Time{}
		for i := range c.jobs {
			j := &c.jobs[i]
			if j.state != ended {
				continue
			}
			if bytes > 0 && bytes+j.end.Bytes > r.partBytes {
				c.since = now
				break
			}
			bytes += j.end.Bytes
			j.state = saving
			s.Ended = append(s.Ended, j.end)
		}
		c.bytes -= bytes
		c.saving = true
		do = append(do, s)
	}
	return do
}

// Next is the moment at which Step needs a Tick, if nothing happens before.
func (r *Run) Next(now time.Time) time.Time {
	next := now.Add(time.Second)
	if r.flight > 0 && !r.looking && r.lookAt.Before(next) {
		return r.lookAt
	}
	return next
}
