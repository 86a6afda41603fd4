package telemetry

import (
	"sync"

	"github.com/dspex/dspex/internal/jobs"
)

// Queues are the sessions in which a call waits behind many jobs: dispatchers refuse more calls of theirs.
type Queues struct {
	mu   sync.Mutex
	jobs map[jobs.SessionRef]int
}

const (
	leastLong = 4  // jobs that wait in a session that counts
	mostLong  = 64 // sessions in a heartbeat
)

// Set notes how many jobs wait in a session.
func (q *Queues) Set(ref jobs.SessionRef, n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if n < leastLong {
		delete(q.jobs, ref)
		return
	}
	if q.jobs == nil {
		q.jobs = map[jobs.SessionRef]int{}
	}
	q.jobs[ref] = n
}

// Some returns as many as a heartbeat has room for; when there are more, others each time.
func (q *Queues) Some() map[string]int {
	q.mu.Lock()
	defer q.mu.Unlock()
	chosen := map[string]int{}
	for ref, n := range q.jobs { // in an order that changes
		if len(chosen) == mostLong {
			break
		}
		chosen[ref.String()] = n
	}
	return chosen
}
