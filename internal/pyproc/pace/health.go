package pace

import "time"

// Health decides when a worker gets a PING, and when it has answered none for too long. Time is counted in looks: a host that was
// suspended must not blame its workers.
type Health struct {
	Every, Lost, Look time.Duration

	pinged bool          // a PING is unanswered
	since  time.Duration // the last PING
	Silent time.Duration // since the first PING that is unanswered
}

// Tick is one look; received means that a frame has come since the last.
func (h *Health) Tick(received bool) (ping, lost bool) {
	h.since += h.Look
	switch {
	case received:
		h.pinged, h.Silent = false, 0
	case h.pinged:
		h.Silent += h.Look
	}
	if h.Silent >= h.Lost {
		return false, true
	}
	if h.since < h.Every {
		return false, false
	}
	h.since = 0
	h.pinged = true
	return true, false
}
