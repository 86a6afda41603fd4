package host

import (
	"time"

	"github.com/dspex/dspex/internal/lifecycle"
)

// now is the broker's time, for what is written down. How old something is, age tells: the broker's clock may have stepped since.
func (h *Host) now() time.Time { return h.clock.Now() }

// present is this moment, at the latest.
func (h *Host) present() lifecycle.Moment { return lifecycle.Present(h.clock) }

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
