package driver

import (
	"sync"
	"time"

	"github.com/dspex/dspex/internal/jobs"
)

// cancelTimeout bounds how long a cancellation waits for its outcome.
const cancelTimeout = 3 * time.Second

// cancellations are those under way, by operation.
type cancellations struct {
	mu      sync.Mutex
	waiting map[uint32]chan<- jobs.CancelVerdict
	last    uint32
}

func (c *cancellations) enter(answer chan<- jobs.CancelVerdict) (op uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting == nil {
		c.waiting = map[uint32]chan<- jobs.CancelVerdict{}
	}
	c.last++
	c.waiting[c.last] = answer
	return c.last
}

func (c *cancellations) leave(op uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, op)
}

func (c *cancellations) verdict(op uint32, v jobs.CancelVerdict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if answer := c.waiting[op]; answer != nil {
		select {
		case answer <- v:
		default:
		}
	}
}
