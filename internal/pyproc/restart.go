package pyproc

import "time"

// restartRules say how fast a supervisor starts another worker.
type restartRules struct {
	first, most time.Duration // the delay doubles from first to most
	healthy     time.Duration // a worker that lived so long sets the delay back
	failures    int           // so many failed starts ...
	within      time.Duration // ... in so long lead to quarantine
	quarantine  time.Duration
}

var defaultRules = restartRules{
	first: 100 * time.Millisecond, most: 30 * time.Second, healthy: time.Minute,
	failures: 5, within: time.Minute, quarantine: 30 * time.Second,
}

// ending is what a supervisor remembers of the worker that ended.
type ending struct {
	ready    bool          // it reached READY
	lived    time.Duration // since READY
	hopeless bool          // trying again cannot help: the versions do not fit
}

// restarts is the memory of one supervisor.
type restarts struct {
	rules   restartRules
	deaths  int         // since the last healthy life
	failed  []time.Time // starts that failed, not older than rules.within
	probing bool        // the start that ended was the first after a quarantine
}

// after decides how long the supervisor stays empty: not at all after the first death of a worker that was ready. chance in [0,1)
// spreads the delay by a fifth both ways, so that workers that died together do not start together.
func (r *restarts) after(now time.Time, end ending, chance float64) (delay time.Duration, quarantined bool) {
	if end.ready {
		r.probing = false
		if end.lived >= r.rules.healthy {
			r.deaths = 0
		}
	} else if r.noteFailure(now); r.probing || end.hopeless || len(r.failed) >= r.rules.failures {
		r.probing = true
		return r.rules.quarantine, true
	}
	if !end.ready {
		r.deaths = max(r.deaths, 1)
	}
	switch {
	case r.deaths == 0:
		delay = 0
	case r.deaths <= 30: // beyond, the shift could overflow
		delay = min(r.rules.most, r.rules.first<<(r.deaths-1))
	default:
		delay = r.rules.most
	}
	r.deaths++
	return time.Duration(float64(delay) * (0.8 + 0.4*chance)), false
}

func (r *restarts) noteFailure(now time.Time) {
	r.failed = append(r.failed, now)
	for now.Sub(r.failed[0]) > r.rules.within {
		r.failed = r.failed[1:]
	}
}
