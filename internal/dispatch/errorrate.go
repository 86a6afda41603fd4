package dispatch

import (
	"sync"
	"time"

	"github.com/dspex/dspex/internal/jobs"
)

// The error rate is the share of jobs that did not succeed among those that ended in the last 60 s, of all hosts together, as
// far as at least 10 have ended. Jobs that failed by their own request, or were cancelled, do not count. Every dispatcher knows it from the heartbeats; the leader alerts.
const (
	rateWindow   = 60 // seconds
	rateLeast    = 10 // jobs
	alertPause   = 300 * time.Second
	mostReported = 10_000 // hosts whose counters are remembered
)

// errorRate keeps the window.
type errorRate struct {
	mu      sync.Mutex
	began   time.Time // of the monotonic clock that the seconds count from
	seconds [rateWindow]ended
	seen    map[string]reported
	alarm   alarm
}

// ended counts the jobs that ended in one second.
type ended struct{ second, total, failed int64 }

// reported is what a host said last of itself.
type reported struct {
	incarnation   string
	total, failed int64
}

// hear counts what has ended since the host's last heartbeat. The first one of a process says nothing: when that ended is not
// known.
func (r *errorRate) hear(b jobs.Heartbeat) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before, known := r.seen[b.Host]
	if r.seen == nil || len(r.seen) > mostReported {
		r.seen = map[string]reported{}
	}
	r.seen[b.Host] = reported{b.Incarnation, b.Requests - b.Requested, b.Errors - b.Requested}
	if !known || before.incarnation != b.Incarnation {
		return
	}
	s := r.slotLocked(time.Now())
	s.total += max(b.Requests-b.Requested-before.total, 0)
	s.failed += max(b.Errors-b.Requested-before.failed, 0)
}

func (r *errorRate) slotLocked(now time.Time) *ended {
	if r.began.IsZero() {
		r.began = now
	}
	second := int64(now.Sub(r.began) / time.Second)
	s := &r.seconds[second%rateWindow]
	if s.second != second {
		*s = ended{second: second}
	}
	return s
}

// now adds the window up.
func (r *errorRate) now() rate {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sumLocked(time.Now())
}

// judge adds the window up and tells whether there is something to tell.
func (r *errorRate) judge() (rate, verdict) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	sum := r.sumLocked(now)
	return sum, r.alarm.judge(now, sum)
}

func (r *errorRate) sumLocked(now time.Time) rate {
	latest := r.slotLocked(now).second
	sum := rate{threshold: r.alarm.threshold}
	for _, s := range r.seconds {
		if latest-s.second < rateWindow {
			sum.total += s.total
			sum.failed += s.failed
		}
	}
	return sum
}

// rate is the state of the window.
type rate struct {
	total, failed int64
	threshold     float64
}

func (r rate) share() float64 { return float64(r.failed) / float64(max(r.total, 1)) }

// over reports whether the rate is above the threshold.
func (r rate) over() bool { return r.total >= rateLeast && r.share() > r.threshold }

// alarm decides when to tell of it: at once, again while it goes on but never within the pause, and when it is over.
type alarm struct {
	threshold float64
	raised    bool // that it is over has to be told
	last      time.Time
}

type verdict int

const (
	quiet verdict = iota
	raised
	recovered
)

func (a *alarm) judge(now time.Time, r rate) verdict {
	switch {
	case r.over() && (a.last.IsZero() || now.Sub(a.last) >= alertPause):
		a.last, a.raised = now, true
		return raised
	case !r.over() && a.raised:
		a.raised = false
		return recovered
	}
	return quiet
}
