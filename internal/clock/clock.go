// Package clock keeps the time of the broker on a machine whose own wall clock may be wrong, or be set while the process runs.
//
// All times that dspex writes down or compares are the broker's: its stamps on messages, and what Now returns. Now is an anchor, which
// the broker gave, and the monotonic clock since; the machine's wall clock has no part in it. When the broker's clock steps, a new
// era begins, and Age still reports how long ago a stamp was given.
package clock

import (
	"sync"
	"time"
)

// Machine are a machine's two clocks.
type Machine interface {
	Wall() time.Time
	Mono() Mono
}

// Clock keeps the broker's time. Make it with New; before the first Observe it trusts the machine's wall clock.
type Clock struct {
	machine Machine

	mu sync.Mutex
	e  estimate
}

// New makes a clock on the clocks of machine; nil stands for Go's, which do not count the time for which the machine was suspended.
func New(machine Machine) *Clock {
	if machine == nil {
		machine = plain{time.Now()}
	}
	return &Clock{machine: machine}
}

type plain struct{ began time.Time }

func (p plain) Wall() time.Time { return time.Now() }
func (p plain) Mono() Mono      { return time.Since(p.began) }

// Mono is the present moment of the machine's monotonic clock.
func (c *Clock) Mono() Mono { return c.machine.Mono() }

// Observe takes a time that the broker reported between two moments: the request was sent at before, and the answer was here at after. It
// returns by how much the broker's clock has stepped, 0 if it has not.
func (c *Clock) Observe(stamp time.Time, before, after Mono) (step time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.e.observe(stamp, before, after)
}

// Now is the broker's time.
func (c *Clock) Now() time.Time { return c.At(c.machine.Mono()) }

// At is the broker's time at a moment that has just been.
func (c *Clock) At(m Mono) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.e.eras) == 0 {
		return c.machine.Wall().Round(0)
	}
	return c.e.at(m)
}

// Age is how long ago the broker gave a stamp, never negative. A step of its clock makes nothing older or younger.
func (c *Clock) Age(stamp time.Time) time.Duration { return c.AgeAt(c.machine.Mono(), stamp) }

// AgeAt is Age at a moment that has just been.
func (c *Clock) AgeAt(m Mono, stamp time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.e.eras) == 0 {
		return max(c.machine.Wall().Round(0).Sub(stamp), 0)
	}
	return c.e.age(stamp, m)
}

// Sure reports whether a request for the broker's time was sent at since or later, and how far off Now was at most when it answered. What
// it had stamped by then has the age that Age returns.
func (c *Clock) Sure(since Mono) (within time.Duration, sure bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.e.within, len(c.e.eras) > 0 && c.e.sure >= since
}

// Era counts the steps of the broker's clock that were detected.
func (c *Clock) Era() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.e.steps
}

// Off is how far the machine's wall clock is ahead of the broker's; false before the first observation.
func (c *Clock) Off() (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.e.eras) == 0 {
		return 0, false
	}
	return c.machine.Wall().Round(0).Sub(c.e.at(c.machine.Mono())), true
}
