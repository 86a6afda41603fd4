package pace

import "time"

// Rules is how fast a supervisor starts another worker.
type Rules struct {
	First, Most time.Duration // the delay doubles from First to Most
	Healthy     time.Duration // a worker that lived so long sets the delay back
	Failures    int           // this many failed starts ...
	Within      time.Duration // ... in so long lead to quarantine
	Quarantine  time.Duration
}

// DefaultRules are those of every pool.
var DefaultRules = Rules{
	First: 100 * time.Millisecond, Most: 30 * time.Second, Healthy: time.Minute,
	Failures: 5, Within: time.Minute, Quarantine: 30 * time.Second,
}

// Ending is what a supervisor keeps of the worker that ended.
type Ending struct {
	Ready    bool          // it reached READY
	Lived    time.Duration // since READY
	Hopeless bool          // trying again cannot help: the versions do not fit
}

// Restarts is the memory of one supervisor.
type Restarts struct {
	Rules   Rules
	deaths  int         // since the last process that became Healthy
	failed  []time.Time // starts that failed, not older than Rules.Within
	probing bool        // the start that ended was the first after a quarantine
}

// After decides how long the supervisor stays empty: not at all after the first death of a worker that was ready. chance in [0,1)
// spreads the delay by a fifth both ways, so that workers that died together do not start together.
func (r *Restarts) After(now time.Time, end Ending, chance float64) (delay time.Duration, quarantined bool) {
	if end.Ready {
		r.probing = false
		if end.Lived >= r.Rules.Healthy {
			r.deaths = 0
		}
	} else if r.noteFailure(now); r.probing || end.Hopeless || len(r.failed) >= r.Rules.Failures {
		r.probing = true
		return r.Rules.Quarantine, true
	}
	if !end.Ready {
		r.deaths = max(r.deaths, 1)
	}
	switch {
	case r.deaths == 0:
		delay = 0
	case r.deaths <= 30: // beyond, the shift could overflow
		delay = min(r.Rules.Most, r.Rules.First<<(r.deaths-1))
	default:
		delay = r.Rules.Most
	}
	r.deaths++
	return time.Duration(float64(delay) * (0.8 + 0.4*chance)), false
}

func (r *Restarts) noteFailure(now time.Time) {
	r.failed = append(r.failed, now)
	for now.Sub(r.failed[0]) > r.Rules.Within {
		r.failed = r.failed[1:]
	}
}
