package pyproc

import "time"

// health decides when a worker gets a PING, and when it has answered none for too long. Time is counted in looks: a host that was
// suspended must not blame its workers.
type health struct {
	every, lost, look time.Duration

	asked  bool          // a PING is unanswered
	since  time.Duration // the last PING
	silent time.Duration // since the first PING that is unanswered
}

// tick is one look; heard says that a frame has come since the last.
func (h *health) tick(heard bool) (ping, lost bool) {
	h.since += h.look
	switch {
	case heard:
		h.asked, h.silent = false, 0
	case h.asked:
		h.silent += h.look
	}
	if h.silent >= h.lost {
		return false, true
	}
	if h.since < h.every {
		return false, false
	}
	h.since = 0
	h.asked = true
	return true, false
}
