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
	seconds   *prometheus.HistogramVec // of jobs, by lane
	queued    *prometheus.HistogramVec // by lane
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

var jobBuckets = []float64{.0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400}

// Lanes of the metrics: those of anonymous jobs, and the jobs of sessions.
const laneSession = "session"

var lanes = []string{laneSession, jobs.LaneInteractive, jobs.LaneBatch}

func laneOf(t *lifecycle.Task) string {
	if t.Lane == "" {
		return laneSession
	}
	return t.Lane
}

// observe adds a duration, with the trace it is from, "" if none.
func observe(to prometheus.Observer, d time.Duration, trace string) {
	if exemplar, ok := to.(prometheus.ExemplarObserver); ok && trace != "" {
		exemplar.ObserveWithExemplar(d.Seconds(), prometheus.Labels{"trace_id": trace})
		return
	}
	to.Observe(d.Seconds())
}

// latency adds a job that has ended.
func (m *metrics) latency(t *lifecycle.Task, age time.Duration, trace string) {
	observe(m.seconds.WithLabelValues(laneOf(t)), age, trace)
}

func newMetrics() *metrics {
	count := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	m := &metrics{
		checkout: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "dspex_pool_checkout_time_seconds", Buckets: checkoutBuckets,
			Help: "Time that attempts waited for a slot, including those that got none."}),
		execution: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "dspex_pool_execution_time_seconds", Buckets: executionBuckets,
			Help: "Time that attempts ran in a worker."}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "dspex_job_seconds", Buckets: jobBuckets,
			Help: "Time from the moment in which the broker stored a job until it ended, by lane."}, []string{"lane"}),
		queued: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "dspex_queue_seconds", Buckets: jobBuckets,
			Help: "Time from the moment in which the broker stored a job until its first attempt got a slot, by lane."}, []string{"lane"}),
		requests: prometheus.NewCounter(prometheus.CounterOpts{Name: "dspex_pool_requests_total", Help: "Attempts that ran in a worker."}),
		errors:   count("dspex_pool_errors_total", "Attempts that failed, and calls that got no slot or met an open breaker.", "error_category"),
		jobs:     count("dspex_jobs_total", "Jobs that ended.", "outcome"),
		changes:  count("dspex_breaker_changes_total", "Changes of circuit breakers that this host detected.", "change"),
	}
	for _, lane := range lanes {
		m.seconds.WithLabelValues(lane)
		m.queued.WithLabelValues(lane)
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
func (m *metrics) ran(out *lifecycle.Output, trace string) {
	m.requests.Inc()
	observe(m.execution, out.Ran, trace)
	if out.Err != nil {
		m.failed(out.Err)
	}
}

func (m *metrics) waited(t *lifecycle.Task, took, age time.Duration, e *jobs.Error, trace string) {
	observe(m.checkout, took, trace)
	if t.Attempt == 0 && e == nil {
		observe(m.queued.WithLabelValues(laneOf(t)), age, trace)
	}
	if e != nil {
		m.failed(e)
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.checkout, m.execution, m.seconds, m.queued, m.requests, m.errors, m.jobs, m.changes}
}
