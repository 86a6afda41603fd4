package host

import (
	"context"
	"time"

	"github.com/dspex/dspex/internal/jobs"
)

// now is the broker's time, for what is written down. How old something is, age tells: the broker's clock may have stepped since.
func (h *Host) now() time.Time { return h.clock.Now() }

// age is how long ago the job was accepted: at least as long as it is here.
func (h *Host) age(j *job) time.Duration {
	return max(h.clock.Age(j.stored), h.clock.Mono()-j.came)
}

// leftOf is what is left of a job's time.
func (h *Host) leftOf(j *job, bound time.Duration) time.Duration { return bound - h.age(j) }

// late reports whether the job's deadline has passed. Only a clock that was compared since the job came may say so: it may have
// stepped before, and what it says then cannot be taken back.
func (h *Host) late(ctx context.Context, t *task) (bool, error) {
	if left, has := t.left(h); !has || left > 0 {
		return false, nil
	}
	if err := h.clock.Confirm(ctx, t.came); err != nil {
		return false, err
	}
	left, has := t.left(h)
	return has && left <= 0, nil
}

// waits is what is left of a retry's delay, by its head.
func (h *Host) waits(hd *jobs.Head) time.Duration {
	if hd.NotBefore.IsZero() {
		return 0
	}
	return min(hd.Delay-h.clock.Age(hd.NotBefore.Add(-hd.Delay)), hd.Delay)
}

// moment is one of the broker's clock, and of which era.
type moment struct {
	at  time.Time
	era int
}

// compared is what two readings of the broker's clock, by its stamps and by ours, may differ by: it was asked over the network.
const compared = time.Second

// present is this moment, at the latest.
func (h *Host) present() moment { return moment{h.now().Add(compared), h.clock.Era()} }

// before reports whether the job may have been accepted before m. What was stamped by a clock that has stepped since, or is ahead of
// what is known of it, may have been.
func (h *Host) before(j *job, m moment) bool {
	return j.stored.Before(m.at) || h.clock.Era() != m.era || j.stored.After(h.now().Add(compared))
}

// clockOff is how far this machine's wall clock is ahead of the broker's, in ms; nil if that is not known.
func (h *Host) clockOff() *int64 {
	if h.clock == nil {
		return nil
	}
	off, known := h.clock.Off()
	if !known {
		return nil
	}
	ms := off.Milliseconds()
	return &ms
}
