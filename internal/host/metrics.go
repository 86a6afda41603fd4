package host

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dspex/dspex/internal/breaker"
	"github.com/dspex/dspex/internal/jobs"
)

// Metrics of a host (docs/metrics.md). No label names a session, a job or anything else that clients choose freely; the names
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
			Help: "Time that attempts waited for a slot, also those that got none."}),
		execution: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "dspex_pool_execution_time_seconds", Buckets: executionBuckets,
			Help: "Time that attempts ran in a worker."}),
		requests: prometheus.NewCounter(prometheus.CounterOpts{Name: "dspex_pool_requests_total", Help: "Attempts that ran in a worker."}),
		errors:   count("dspex_pool_errors_total", "Attempts that failed, and calls that got no slot or met an open breaker.", "error_category"),
		jobs:     count("dspex_jobs_total", "Jobs that ended.", "outcome"),
		changes:  count("dspex_breaker_changes_total", "Changes of circuit breakers that this host found out.", "change"),
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
func (m *metrics) ran(out *output) {
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

// gauge is a number that is read when it is asked for.
type gauge struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(h *Host) float64
}

func gaugeOf(name, help string, read func(h *Host) float64) gauge {
	return gauge{prometheus.NewDesc(name, help, nil, nil), prometheus.GaugeValue, read}
}

var (
	gauges = []gauge{
		gaugeOf("dspex_pool_size", "Workers that there should be.", func(h *Host) float64 { return float64(h.cfg.Pool.Workers().Size) }),
		gaugeOf("dspex_pool_active_workers", "Workers that serve, of those that there should be.", func(h *Host) float64 { return float64(h.cfg.Pool.Workers().Active) }),
		gaugeOf("dspex_pool_available_workers", "Active workers that have a free slot.", func(h *Host) float64 { return float64(h.cfg.Pool.Workers().Available) }),
		gaugeOf("dspex_pool_overflow_workers", "Workers that serve above those that there should be.", func(h *Host) float64 { return float64(h.cfg.Pool.Workers().Overflow) }),
		gaugeOf("dspex_pool_slots", "Slots of the workers that there should be.", func(h *Host) float64 { return float64(h.cfg.Capacity) }),
		gaugeOf("dspex_pool_free_slots", "Slots that are free, those of overflow workers included.", func(h *Host) float64 { return float64(h.cfg.Pool.Free()) }),
		gaugeOf("dspex_sessions", "Sessions in memory.", func(h *Host) float64 { return float64(h.stats.Sessions.Load()) }),
		gaugeOf("dspex_busy_sessions", "Sessions that have work.", func(h *Host) float64 {
			sum := int64(0)
			for _, n := range h.busy() {
				sum += int64(n)
			}
			return float64(sum)
		}),
		gaugeOf("dspex_partitions", "Partitions that this host serves.", func(h *Host) float64 {
			n := 0
			h.parts.Range(func(_, _ any) bool { n++; return true })
			return float64(n)
		}),
		gaugeOf("dspex_waiting_payload_bytes", "Payloads of waiting jobs that are kept in memory.", func(h *Host) float64 { return float64(h.held.Load()) }),
		gaugeOf("dspex_store_full", "1 while the broker has no room for records or outcomes, and nothing is run.", func(h *Host) float64 { return float64(min(h.full.Load(), 1)) }),
	}
	stuckDesc    = prometheus.NewDesc("dspex_stuck_jobs", "Jobs that cannot get on, by the step at which they are held up (operations.md).", []string{"step"}, nil)
	affinityDesc = prometheus.NewDesc("dspex_session_affinity_total",
		"Attempts of session jobs that ran where the session was warm (hit), whose session was warm nowhere (miss), whose session was warm in a worker without a free slot (move).",
		[]string{"result"}, nil)
	breakerDesc = prometheus.NewDesc("dspex_breaker_state", "Circuit breakers: 0 closed, 1 half_open, 2 open.", []string{"breaker"}, nil)
)

// Describe implements prometheus.Collector.
func (h *Host) Describe(to chan<- *prometheus.Desc) {
	for _, c := range h.metrics.all() {
		c.Describe(to)
	}
	for _, g := range gauges {
		to <- g.desc
	}
	to <- stuckDesc
	to <- affinityDesc
	to <- breakerDesc
}

// Collect implements prometheus.Collector.
func (h *Host) Collect(to chan<- prometheus.Metric) {
	for _, c := range h.metrics.all() {
		c.Collect(to)
	}
	for _, g := range gauges {
		to <- prometheus.MustNewConstMetric(g.desc, g.kind, g.read(h))
	}
	for result, n := range map[string]int64{"hit": h.stats.Hits.Load(), "miss": h.stats.Misses.Load(), "move": h.stats.Moves.Load()} {
		to <- prometheus.MustNewConstMetric(affinityDesc, prometheus.CounterValue, float64(n), result)
	}
	held := h.blocked.steps()
	for _, step := range allSteps {
		to <- prometheus.MustNewConstMetric(stuckDesc, prometheus.GaugeValue, float64(held[string(step)]), string(step))
	}
	state := map[breaker.State]float64{breaker.Closed: 0, breaker.HalfOpen: 1, breaker.Open: 2}
	for _, i := range h.breakers.Infos() {
		to <- prometheus.MustNewConstMetric(breakerDesc, prometheus.GaugeValue, state[i.State], i.Name)
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.checkout, m.execution, m.requests, m.errors, m.jobs, m.changes}
}
