package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dspex/dspex/internal/breaker"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
)

// metrics are those that are counted (docs/metrics.md). No label names a session, a job or anything else that clients choose freely; the names
// of breakers are bounded by their set.
type metrics struct {
	checkout  prometheus.Histogram
	execution prometheus.Histogram
	requests  prometheus.Counter
	errors    *prometheus.CounterVec // by category
	jobs      *prometheus.CounterVec // by outcome
	changes   *prometheus.CounterVec // of breakers
}

// The buckets, in seconds: waits from nothing to what a queued job may wait, attempts from a command to a slow model.
var (
	checkoutBuckets  = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
	executionBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300}
)

func newMetrics() *metrics {
	count := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	m := &metrics{
		checkout: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "dspex_pool_checkout_time_seconds", Buckets: checkoutBuckets,
			Help: "Time that attempts waited for a slot, including those that got none."}),
		execution: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "dspex_pool_execution_time_seconds", Buckets: executionBuckets,
			Help: "Time that attempts ran in a worker."}),
		requests: prometheus.NewCounter(prometheus.CounterOpts{Name: "dspex_pool_requests_total", Help: "Attempts that ran in a worker."}),
		errors:   count("dspex_pool_errors_total", "Attempts that failed, and calls that got no slot or met an open breaker.", "error_category"),
		jobs:     count("dspex_jobs_total", "Jobs that ended.", "outcome"),
		changes:  count("dspex_breaker_changes_total", "Changes of circuit breakers that this host detected.", "change"),
	}
	for _, c := range jobs.Categories() { // from the start, so that rates are right from the first one
		m.errors.WithLabelValues(string(c))
	}
	for _, k := range []jobs.Kind{jobs.Succeeded, jobs.Failed, jobs.Cancelled, jobs.Expired} {
		m.jobs.WithLabelValues(string(k))
	}
	for _, c := range []breaker.Change{breaker.Opened, breaker.Reopened, breaker.Shut} {
		m.changes.WithLabelValues(string(c))
	}
	return m
}

// failed counts an error.
func (m *metrics) failed(e *jobs.Error) { m.errors.WithLabelValues(string(e.Category)).Inc() }

// ran counts an attempt.
func (m *metrics) ran(out *lifecycle.Output) {
	m.requests.Inc()
	m.execution.Observe(out.Ran.Seconds())
	if out.Err != nil {
		m.failed(out.Err)
	}
}

func (m *metrics) waited(since time.Time, e *jobs.Error) {
	m.checkout.Observe(time.Since(since).Seconds())
	if e != nil {
		m.failed(e)
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.checkout, m.execution, m.requests, m.errors, m.jobs, m.changes}
}
