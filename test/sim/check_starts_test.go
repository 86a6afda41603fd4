package sim

import (
	"fmt"
	"time"

	"github.com/dspex/dspex/internal/jobs"
)

// startsInOrder: in one host a session's jobs start in stream order, one at a time; and no job starts before every earlier
// one of its session has been committed. (Ties in time are no violation.)
func (c *checker) startsInOrder() {
	type place struct{ who, session string }
	running := map[place]string{}
	lastSeq := map[place]uint64{}
	done := map[string]time.Duration{} // session/seq -> commit or result
	for session, list := range c.commits {
		for _, e := range list {
			done[fmt.Sprint(session, "/", e.seq)] = e.at
		}
	}
	for _, results := range c.outcomes {
		r := results[0]
		k := fmt.Sprint(r.session, "/", r.seq)
		if at, ok := done[k]; !ok || r.at < at {
			done[k] = r.at
		}
	}
	c.h.each(func(e event) {
		at := place{e.who, e.session}
		if e.session == "" {
			return
		}
		if e.kind == ended {
			delete(running, at)
			return
		}
		first, known := c.messageOf(e)
		if !known {
			c.fail("%s runs on %s but was never stored", key(e), e.who)
			return
		}
		if other, busy := running[at]; busy && other != "" {
			_ = other // its end was cut off by the death of the worker, or it still runs: see below
		}
		if first.seq < lastSeq[at] {
			c.fail("%s (sequence %d) starts on %s after sequence %d", key(e), first.seq, e.who, lastSeq[at])
		}
		running[at], lastSeq[at] = e.job, first.seq
		for _, m := range c.messages[e.session] {
			if m.seq >= first.seq {
				break
			}
			if c.first[key(m)].seq != m.seq {
				continue // a repeat: answered, never run
			}
			if end, ok := done[fmt.Sprint(e.session, "/", m.seq)]; !ok || end > e.at {
				c.fail("%s (sequence %d) starts at %v before %s (sequence %d) has ended", key(e), first.seq, e.at, m.job, m.seq)
			}
		}
	}, began, ended)
}

// memory is how long a host may go on with what it had read before the store was lost.
const memory = 10 * time.Second

// attemptsAllowed: each attempt number starts at most once, and none is above what the job allows.
func (c *checker) attemptsAllowed() {
	starts := map[string]time.Duration{}
	c.h.each(func(e event) {
		if e.session == "" {
			return // an anonymous job counts its attempts by deliveries, and reports that
		}
		m, _ := c.messageOf(e)
		k := fmt.Sprintf("%s (sequence %d) attempt %d", key(e), m.seq, e.attempt)
		if before, again := starts[k]; again && !c.lostBetween(recordsLost, before-memory, e.at) {
			c.fail("%s starts twice: at %v and at %v", k, before, e.at)
		}
		starts[k] = e.at
		if most := allowed(m); e.attempt > most {
			c.fail("%s starts, the job allows %d", k, most)
		}
	}, began)
}

// nothingStartsAfterItsEnd: no attempt starts when its job has its outcome, on whatever host that was: records are fenced, what a
// job does to the world is not. Only the commit of an earlier epoch may come between a new owner's look at the record and its start:
// the earlier owner thawed in that moment, and nothing shows it to the new one before its own commit.
func (c *checker) nothingStartsAfterItsEnd() {
	attempt := func(e event, seq uint64) string { return fmt.Sprint(e.session, "/", seq, "/", e.attempt) }
	epochs := map[string]uint64{}
	c.h.each(func(e event) { epochs[attempt(e, e.seq)] = max(epochs[attempt(e, e.seq)], e.epoch) }, attemptRecorded)
	c.h.each(func(e event) {
		m, known := c.messageOf(e)
		if e.session == "" || !known {
			return
		}
		for _, end := range c.commits[e.session] {
			if end.seq == m.seq && end.at < e.at && !end.fresh && !c.lostBetween(recordsLost, end.at, e.at) && end.epoch >= epochs[attempt(e, m.seq)] {
				c.fail("%s (sequence %d) attempt %d starts on %s at %v, after its end at %v", key(e), m.seq, e.attempt, e.who, e.at, end.at)
			}
		}
	}, began)
}

// clockError is what hosts may be wrong by: they keep milliseconds of a clock that was compared over a slow network, and drifts.
const clockError = 5 * time.Millisecond

// retriesWait: an attempt does not start before the attempt record of the one before allows it.
func (c *checker) retriesWait() {
	until := map[string]time.Duration{}
	attempt := func(session string, seq uint64, n int) string { return fmt.Sprint(session, "/", seq, "/", n) }
	c.h.each(func(e event) {
		if e.kind == attemptRecorded {
			if !e.notBefore.IsZero() {
				until[attempt(e.session, e.seq, e.attempt+1)] = c.due(e)
			}
			return
		}
		m, _ := c.messageOf(e)
		if due := until[attempt(e.session, m.seq, e.attempt)]; e.at < due-clockError && !c.believes(e.at) && !c.justSet(e.at) {
			c.fail("%s attempt %d starts at %v, not before %v", key(e), e.attempt, e.at, due)
		}
	}, attemptRecorded, began)
}

// allowed is the most attempts that a job may have: by its own wish, or the most that any category grants.
func allowed(m event) int {
	env, bad := jobs.ParseHeaders(m.header, m.seq)
	if bad != nil {
		return 0
	}
	r, e := jobs.ParseRequest(env.Type, m.request, 0)
	if e != nil {
		return 0
	}
	if r.Policy.MaxRetries != nil {
		return 1 + *r.Policy.MaxRetries
	}
	return 6
}

// nothingFails is for plans in which nothing happens that may cost a job an attempt.
func nothingFails(h *history) (bad []string) {
	h.each(func(e event) {
		if e.result.Kind != jobs.Succeeded {
			bad = append(bad, fmt.Sprintf("%s (sequence %d) failed, and nothing has happened to its host: %s", key(e), e.seq, e.text))
		}
	}, resulted)
	return bad
}
