package fleet

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dspex/dspex/internal/control"
)

// The error rate is the share of jobs that did not succeed among those that ended in the last 60 s, of all hosts together, as
// far as at least 10 have ended. Jobs that failed by their own request, or were cancelled, do not count. Every dispatcher
// computes it from the heartbeats; the leader alerts.
const (
	RateWindow   = 60 // seconds
	rateLeast    = 10 // jobs
	alertPause   = 300 * time.Second
	mostReported = 10_000 // hosts whose counters are kept
)

// ErrorRate keeps the window.
type errorRate struct {
	mu      sync.Mutex
	began   time.Time // of the monotonic clock that the seconds count from
	seconds [RateWindow]ended
	seen    map[string]reported
	alarm   alarm
}

// ended counts the jobs that ended in one second.
type ended struct{ second, total, failed int64 }

// reported is the last report of a host.
type reported struct {
	incarnation   string
	total, failed int64
}

// observe counts what has ended since the host's last heartbeat. The first one of a process is no evidence: when that ended is not
// known.
func (r *errorRate) observe(b control.Heartbeat) {
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
	s := r.secondLocked(time.Now())
	s.total += max(b.Requests-b.Requested-before.total, 0)
	s.failed += max(b.Errors-b.Requested-before.failed, 0)
}

func (r *errorRate) secondLocked(now time.Time) *ended {
	if r.began.IsZero() {
		r.began = now
	}
	second := int64(now.Sub(r.began) / time.Second)
	s := &r.seconds[second%RateWindow]
	if s.second != second {
		*s = ended{second: second}
	}
	return s
}

// now adds the window up.
func (r *errorRate) now() Rate {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sumLocked(time.Now())
}

// judge adds the window up and reports whether there is something to report.
func (r *errorRate) judge() (Rate, Verdict) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	sum := r.sumLocked(now)
	return sum, r.alarm.judge(now, sum)
}

func (r *errorRate) sumLocked(now time.Time) Rate {
	latest := r.secondLocked(now).second
	sum := Rate{Threshold: r.alarm.threshold.Get()}
	for _, s := range r.seconds {
		if latest-s.second < RateWindow {
			sum.Total += s.total
			sum.Failed += s.failed
		}
	}
	return sum
}

// Rate is the state of the window.
type Rate struct {
	Total, Failed int64
	Threshold     float64
}

// Share is that of the jobs that failed.
func (r Rate) Share() float64 { return float64(r.Failed) / float64(max(r.Total, 1)) }

// Over reports whether the rate is above the threshold.
func (r Rate) Over() bool { return r.Total >= rateLeast && r.Share() > r.Threshold }

// Threshold is the error rate above which there is an alert. It may change at any time.
type Threshold struct{ bits atomic.Uint64 }

// NewThreshold is that rate, until Set.
func NewThreshold(rate float64) *Threshold {
	t := &Threshold{}
	t.Set(rate)
	return t
}

// Set changes it.
func (t *Threshold) Set(rate float64) { t.bits.Store(math.Float64bits(rate)) }

// Get is the rate now.
func (t *Threshold) Get() float64 { return math.Float64frombits(t.bits.Load()) }

// alarm decides when to report it: at once, again while it goes on but never within the pause, and when it is over.
type alarm struct {
	threshold *Threshold
	raised    bool // that it is over has to be sent
	last      time.Time
}

// Verdict is what there is to send about a rate.
type Verdict int

// Verdicts.
const (
	Quiet Verdict = iota
	raised
	Recovered
)

func (a *alarm) judge(now time.Time, r Rate) Verdict {
	switch {
	case r.Over() && (a.last.IsZero() || now.Sub(a.last) >= alertPause):
		a.last, a.raised = now, true
		return raised
	case !r.Over() && a.raised:
		a.raised = false
		return Recovered
	}
	return Quiet
}
