package breaker

import (
	"time"

	"github.com/dspex/dspex/internal/control"
)

// Info is what is shown of a breaker, under the names of contract/breakers.md.
type Info struct {
	Name            string               `json:"name"`
	State           State                `json:"state"`
	FailureCount    int                  `json:"failure_count"`   // in a row; of an open one those that opened it
	SuccessCount    int                  `json:"success_count"`   // in a row since it is half-open
	HalfOpenCount   int                  `json:"half_open_count"` // trials that run now
	LastFailure     *control.LastFailure `json:"last_failure"`
	LastStateChange time.Time            `json:"last_state_change"`
	TimeUntilRetry  int64                `json:"time_until_retry"` // ms until an open one is half-open
	Config          InfoConfig           `json:"config"`
}

// InfoConfig are the thresholds as they are shown.
type InfoConfig struct {
	FailureThreshold int   `json:"failure_threshold"`
	SuccessThreshold int   `json:"success_threshold"`
	Timeout          int64 `json:"timeout"` // ms
}

// Info reports how the breaker stands.
func (b *Breaker) Info() Info {
	b.mu.Lock()
	defer b.mu.Unlock()
	state := b.seeLocked()
	i := Info{Name: b.name, State: state, FailureCount: b.failures, LastFailure: b.last, LastStateChange: b.since,
		Config: InfoConfig{b.cfg.FailureThreshold, b.cfg.SuccessThreshold, b.cfg.Timeout.Milliseconds()}}
	c := b.machine.Counts()
	switch state {
	case Closed:
		i.FailureCount = int(c.ConsecutiveFailures)
	case HalfOpen:
		i.SuccessCount, i.HalfOpenCount = int(c.ConsecutiveSuccesses), b.passing
	case Open:
		i.TimeUntilRetry = max(time.Until(b.retryAt), 0).Milliseconds()
	}
	return i
}

// Join is the state of a breaker that two hosts report: as in the worse of them, with the trials of both.
func (i Info) Join(other Info) Info {
	worse, better := i, other
	if rank(other) > rank(i) {
		worse, better = other, i
	}
	worse.SuccessCount = max(i.SuccessCount, other.SuccessCount)
	worse.HalfOpenCount += better.HalfOpenCount
	worse.FailureCount = max(i.FailureCount, other.FailureCount)
	worse.TimeUntilRetry = max(i.TimeUntilRetry, other.TimeUntilRetry)
	if l := better.LastFailure; l != nil && (worse.LastFailure == nil || l.At.After(worse.LastFailure.At)) {
		worse.LastFailure = l
	}
	return worse
}

func rank(i Info) int {
	switch i.State {
	case Open:
		return 2
	case HalfOpen:
		return 1
	}
	return 0
}
