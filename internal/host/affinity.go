package host

import "time"

// hintLife is how long a session prefers the worker that holds its state.
const hintLife = 300 * time.Second

// prefers is the worker that the session's next job should run in: 0 if none holds its state, or has not been used lately.
func (s *session) prefers() uint64 {
	if time.Since(s.used) > hintLife {
		return 0
	}
	return s.worker
}

// countAffinity counts an attempt of a session whose state the worker warm held (0: none did) and that ran in worker ran.
func (c *Stats) countAffinity(warm, ran uint64) {
	switch warm {
	case 0:
		c.Misses.Add(1)
	case ran:
		c.Hits.Add(1)
	default: // warm had no free slot, or the attempt before failed there
		c.Moves.Add(1)
	}
}

// lasts notes the latest end of the attempt that starts now, until the returned function is called.
func (s *session) lasts(t *task) (ended func()) {
	budget, _ := t.budget(s.p.h)
	set := func(until time.Time) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.until = until
	}
	set(time.Now().Add(budget))
	return func() { set(time.Time{}) }
}
