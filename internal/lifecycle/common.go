// Package lifecycle decides what happens to a job, from its delivery to its acknowledgement. It is the core of a host: a state
// machine that does no I/O, starts no goroutine, holds no lock and reads no clock. A Core is given one Event at a time and
// answers with Actions; whoever drives it carries them out and reports how they went as further events.
//
// A Core is one session during one epoch of its partition, or one anonymous job. Both have the same lifecycle; they differ in where
// it is written down, which is a ledger: a session's is its record, changed by compare-and-set, an anonymous job's is the key of
// its result. The files in testdata show the rules as scenarios: events in, actions out.
//
// It is independent of NATS, Python, and how a worker is chosen.
package lifecycle

import (
	"time"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/jobs"
)

// Config is what all cores of a host have in common.
type Config struct {
	Host            string
	Clock           Clock
	MaxPayload      int // bytes, of the broker
	SessionIdle     time.Duration
	CheckoutTimeout time.Duration
	DeadWindow      time.Duration // for so long the broker stores one of two dead letters with the same id
	Defaults        jobs.Defaults
	Chance          func() float64 // 0 to 1, for jitter
}

// lifetime is how long the broker keeps a record after its last write, or an attempt record of a job that may come again for as long as longest.
func (cfg *Config) lifetime(longest time.Duration) time.Duration {
	return cfg.SessionIdle + max(longest, time.Hour)
}

// Clock has the broker's time and the machine's. A core reads no other.
type Clock interface {
	Mono() clock.Mono                                        // the machine's: waits are measured by it
	At(m clock.Mono) time.Time                               // the broker's, for what is written down
	AgeAt(m clock.Mono, stamp time.Time) time.Duration       // how long before m the broker gave a stamp: its clock may have stepped since
	Sure(since clock.Mono) (within time.Duration, sure bool) // it was compared with the broker's at since or later
	Era() int                                                // the steps of the broker's clock
}

// compared is what two readings of the broker's clock, by its stamps and by ours, may differ by: it was read over the network.
const compared = time.Second

// Moment is one of the broker's clock, and of which era.
type Moment struct {
	At  time.Time
	Era int
}

// MayFollow reports whether the job may have been accepted before m. What was stamped by a clock that has stepped since, or is
// ahead of what is known of it, may have been.
func (m Moment) MayFollow(stored time.Time, k Clock) bool {
	return stored.Before(m.At) || k.Era() != m.Era || stored.After(k.At(k.Mono()).Add(compared))
}

// Present is this moment, at the latest.
func Present(k Clock) Moment { return Moment{k.At(k.Mono()).Add(compared), k.Era()} }

// common is what all parts need in a step.
type common struct {
	cfg    *Config
	ref    jobs.SessionRef
	epoch  uint64
	stream int64 // identity of the stream that sequences count in

	mono   clock.Mono // of the event at hand
	out    []Action
	lastOp uint32
}

// Follow has the core follow other rules from its next step on. It is called between two steps.
func (c *common) Follow(cfg *Config) { c.cfg = cfg }

// now is the broker's time at the event.
func (c *common) now() time.Time { return c.cfg.Clock.At(c.mono) }

// age is how long ago the job was accepted: at least as long as it is here.
func (c *common) age(j *Job) time.Duration {
	return max(c.cfg.Clock.AgeAt(c.mono, j.Stored), c.mono-j.Came)
}

// left is the time until the job's deadline; false: it has none.
func (c *common) left(j *Job) (time.Duration, bool) {
	if j.bound == 0 {
		return 0, false
	}
	return j.bound - c.age(j), true
}

// late reports whether the job's deadline seems to have passed. Only if the clock is sure that counts.
func (c *common) late(j *Job) bool {
	left, has := c.left(j)
	return has && left <= 0
}

// sure reports whether the clock was compared since the job came: it may have stepped before, and what is decided cannot be taken
// back.
func (c *common) sure(j *Job) bool {
	_, sure := c.cfg.Clock.Sure(j.Came)
	return sure
}

// at is a moment of the machine's clock.
func (c *common) at(left time.Duration) clock.Mono { return max(c.mono+left, 1) }

// reached reports whether a moment of the machine's clock has come; 0 never does.
func (c *common) reached(m clock.Mono) bool { return m != 0 && c.mono >= m }

func (c *common) do(a Action) { c.out = append(c.out, a) }

func (c *common) op() uint32 {
	c.lastOp = max(c.lastOp+1, 1)
	return c.lastOp
}

// waits is what is left of a retry's delay.
func (c *common) waits(hd *jobs.AttemptRecord) time.Duration {
	if hd.NotBefore.IsZero() {
		return 0
	}
	return min(hd.Delay-c.cfg.Clock.AgeAt(c.mono, hd.NotBefore.Add(-hd.Delay)), hd.Delay)
}
