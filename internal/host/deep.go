package host

import (
	"sync"

	"github.com/dspex/dspex/internal/jobs"
)

// deep are the sessions in which a call waits behind many jobs: dispatchers refuse more calls of theirs.
type deep struct {
	mu   sync.Mutex
	jobs map[jobs.SessionRef]int
}

const (
	leastDeep = 4  // jobs that wait in a session that counts
	mostDeep  = 64 // sessions in a heartbeat
)

// set notes how many jobs wait in a session.
func (d *deep) set(ref jobs.SessionRef, n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n < leastDeep {
		delete(d.jobs, ref)
		return
	}
	if d.jobs == nil {
		d.jobs = map[jobs.SessionRef]int{}
	}
	d.jobs[ref] = n
}

// some returns as many as a heartbeat has room for; when there are more, others each time.
func (d *deep) some() map[string]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	chosen := map[string]int{}
	for ref, n := range d.jobs { // in an order that changes
		if len(chosen) == mostDeep {
			break
		}
		chosen[ref.String()] = n
	}
	return chosen
}
