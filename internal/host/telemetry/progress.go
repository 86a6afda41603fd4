package telemetry

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/dspex/dspex/internal/jobs"
)

// Progress reports whether the host finishes what it has to do. Pings prove that workers live, this proves that their calls end.
type Progress struct {
	running  atomic.Int64 // calls in workers
	long     atomic.Int64 // those of them that may take longer than a call without a timeout of its own
	answered atomic.Int64 // calls that a worker has answered, and their partial output

	mu      sync.Mutex
	seen    int64     // answered, at the last look
	ended   time.Time // a call
	since   time.Time // the last look that found nothing to do, or an answer
	turned  time.Time
	longest [2]time.Duration // an answered call: of this hour, and of the one before
}

// StalledAfter is how long a host with work may finish nothing, if its calls do not usually take longer.
const StalledAfter = 20 * time.Second

const (
	usualFactor = 2 // a call may take twice as long as the longest one of the last hour
	usualHour   = time.Hour

	betweenAttempts = 2 * time.Second // between a call that was given up and the next one there is work all the same
)

// Began counts a call that a worker gets, and may take for so long.
func (p *Progress) Began(timeout time.Duration) {
	p.running.Add(1)
	p.long.Add(long(timeout))
}

// long is 1 for a call whose caller expects it to take long.
func long(timeout time.Duration) int64 {
	if timeout > jobs.DefaultTimeout {
		return 1
	}
	return 0
}

// Partial notes that a call gets on.
func (p *Progress) Partial() { p.answered.Add(1) }

// Ended counts a call that is over. One that was given up, or whose worker died, is no progress.
func (p *Progress) Ended(answered bool, timeout, took time.Duration) {
	p.running.Add(-1)
	p.long.Add(-long(timeout))
	if answered {
		p.answered.Add(1)
		if took < StalledAfter/usualFactor {
			return
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.ended = now
	if answered {
		p.turn(now)
		p.longest[0] = max(p.longest[0], took)
	}
}

// Look is called with each heartbeat. It returns for how long nothing was finished, once that is longer than it may be, and how many
// calls run; waiting is how many jobs wait for a slot.
func (p *Progress) Look(waiting int64) (stalled time.Duration, running int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.turn(now)
	running = p.running.Load()
	idle := running+waiting == 0 && now.Sub(p.ended) > betweenAttempts || running > 0 && running == p.long.Load()
	if n := p.answered.Load(); n != p.seen || idle || p.since.IsZero() {
		p.seen, p.since = n, now
	}
	if still := now.Sub(p.since); still > max(StalledAfter, usualFactor*max(p.longest[0], p.longest[1])) {
		return still, running
	}
	return 0, running
}

// turn drops the calls of two hours ago.
func (p *Progress) turn(now time.Time) {
	switch age := now.Sub(p.turned); {
	case age < usualHour:
	case age < 2*usualHour:
		p.longest, p.turned = [2]time.Duration{0, p.longest[0]}, now
	default:
		p.longest, p.turned = [2]time.Duration{}, now
	}
}
