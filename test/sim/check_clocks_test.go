package sim

import (
	"math"
	"slices"
	"time"

	"github.com/dspex/dspex/internal/jobs"
)

// believes reports whether a process had started, not after at, after the broker's clock had been set ahead and before the leader had recorded
// that: what was stamped then looks older than it is to it (docs/failures.md). Where nothing takes time a process starts and judges
// in the same moment.
func (c *checker) believes(at time.Duration) (yes bool) {
	for _, s := range ahead(c.h.broker.steps()) {
		since := s.at.Sub(c.h.start)
		until := c.told(since, s.step)
		c.h.each(func(e event) { yes = yes || e.at >= since && e.at <= min(at, until) }, booted)
	}
	return yes || c.unseen(at)
}

// unseen reports whether the broker's clock had been set twice without a reading in between: what was stamped then is of a time
// that it has not seen. A running process reads it each second, who is frozen or cut off later.
func (c *checker) unseen(at time.Duration) (yes bool) {
	away := time.Second
	if c.h.struck(hostFreeze, hostReplaced, cutBoth, cutUp, cutDown, connReset, brokerKill, brokerRestart) {
		away = 20 * time.Second
	}
	sets := c.h.broker.steps()
	for i := 1; i < len(sets); i++ {
		yes = yes || sets[i].at.Sub(sets[i-1].at) < away && sets[i].at.Sub(c.h.start) <= at
	}
	return yes
}

// told is when it was recorded that the broker's clock was set: for good, unless the bucket was deleted.
func (c *checker) told(since, step time.Duration) time.Duration {
	at := time.Duration(math.MaxInt64)
	if c.h.struck(controlLost) {
		return at
	}
	c.h.each(func(e event) {
		if e.at >= since && (e.by-step).Abs() < time.Minute {
			at = min(at, e.at)
		}
	}, told)
	return at
}

// justSet reports whether the broker's clock was set a moment before: a host that was frozen or cut off meanwhile detects it when it
// receives a stamp.
func (c *checker) justSet(at time.Duration) bool {
	return slices.ContainsFunc(c.h.broker.steps(), func(s setting) bool {
		since := at - s.at.Sub(c.h.start)
		return since >= 0 && since < 5*time.Second
	})
}

// moved is a setting that moved a clock ahead of what it was before.
type moved struct {
	at   time.Time
	step time.Duration
}

// ahead are the settings that moved a clock ahead.
func ahead(sets []setting) (list []moved) {
	var before time.Duration
	for _, s := range sets {
		if s.by > before {
			list = append(list, moved{s.at, s.by - before})
		}
		before = s.by
	}
	return list
}

// mostLate is how long an attempt record may be under way: hosts are frozen for over an hour.
const mostLate = 3 * time.Hour

// due is when a retry may start, in true time: the clock by which its delay was set is the one that makes it a delay from now.
func (c *checker) due(head event) time.Duration {
	for _, off := range c.offsets(head.at) {
		due := head.notBefore.Sub(c.h.start) - off
		if told := due - head.delay; told <= head.at+time.Second && told > head.at-mostLate {
			return due
		}
	}
	c.fail("%s/%d: the retry is to wait until %v, %v after no clock of the broker", head.session, head.seq, head.notBefore, head.delay)
	return 0
}

// offsets are those that the broker's clock has had, with what it had gained at a moment.
func (c *checker) offsets(at time.Duration) (list []time.Duration) {
	now := c.h.start.Add(at)
	off, _ := c.h.broker.off(now)
	list = append(list, off)
	for _, s := range c.h.broker.steps() {
		before, _ := c.h.broker.off(s.at.Add(-1)) // what a process that has not detected it still uses
		list = append(list, before)
	}
	return list
}

// nothingExpiresEarly: no job has passed its deadline before its time is over.
func (c *checker) nothingExpiresEarly() {
	c.h.each(func(e event) {
		if e.result.Kind != jobs.Expired {
			return
		}
		for _, m := range c.messages[e.session] {
			if m.seq != e.seq || e.session == "" {
				continue
			}
			total := deadline(m)
			if since := e.at - m.at; total == 0 || since < total-clockError && !c.believes(e.at) {
				c.fail("%s (sequence %d) has expired after %v, its deadline is %v", key(e), e.seq, since, total)
			}
		}
	}, resulted)
}

// checkoutTime is how long a host lets a job wait for a slot: part of a call's time.
const checkoutTime = 5 * time.Second

// deadline is how long after its storage a job may end; 0: whenever it likes.
func deadline(m event) time.Duration {
	env, bad := jobs.ParseHeaders(m.header, m.seq)
	if bad != nil {
		return 0
	}
	r, bad := jobs.ParseRequest(env.Type, m.request, 0)
	if bad != nil {
		return 0
	}
	d := max(env.Deadline, r.Deadline)
	if d == 0 && env.Mode == jobs.ModeCall {
		d = r.Total(checkoutTime)
	}
	return d
}
