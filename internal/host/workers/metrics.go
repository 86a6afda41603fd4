package workers

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dspex/dspex/internal/pyproc"
)

// Metrics reports the processes of a pool of Python workers.
func Metrics(p *pyproc.Pool) prometheus.Collector { return workerMetrics{p} }

type workerMetrics struct{ pool *pyproc.Pool }

var (
	workersDesc  = prometheus.NewDesc("dspex_workers", "Worker processes, by what they do.", []string{"state"}, nil)
	edgesDesc    = prometheus.NewDesc("dspex_worker_transitions_total", "Changes of the workers' states (docs/workers.md), idle to busy and back included.", []string{"from", "to"}, nil)
	waitingDesc  = prometheus.NewDesc("dspex_pool_waiting", "Attempts that wait for a slot.", nil, nil)
	restartDesc  = prometheus.NewDesc("dspex_worker_restarts_total", "Starts of workers that replace one that had ended.", nil, nil)
	failedDesc   = prometheus.NewDesc("dspex_worker_start_failures_total", "Starts of workers that failed.", nil, nil)
	recycledDesc = prometheus.NewDesc("dspex_worker_recycled_total", "Workers that were replaced for their age, their jobs or their memory.", nil, nil)
	deathsDesc   = prometheus.NewDesc("dspex_worker_deaths_total", "Workers that ended unexpectedly or had to be killed.", nil, nil)
	memoryDesc   = prometheus.NewDesc("dspex_workers_resident_bytes", "Resident memory of all workers together, as of their last answer.", nil, nil)
)

// processStates are those in which there is a process.
var processStates = []pyproc.State{pyproc.Spawning, pyproc.Handshake, pyproc.Warming, pyproc.Spare, pyproc.Idle, pyproc.Busy, pyproc.Cancelling,
	pyproc.Draining, pyproc.Stopping, pyproc.Dumping, pyproc.Killing}

// Describe implements prometheus.Collector.
func (m workerMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{workersDesc, edgesDesc, waitingDesc, restartDesc, failedDesc, recycledDesc, deathsDesc, memoryDesc} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (m workerMetrics) Collect(to chan<- prometheus.Metric) {
	st := m.pool.Stats()
	number := func(d *prometheus.Desc, kind prometheus.ValueType, v uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, kind, float64(v), labels...)
	}
	in, memory := map[pyproc.State]uint64{}, uint64(0)
	for _, w := range st.Workers {
		in[w.State]++
		memory += w.RSS
	}
	for _, s := range processStates {
		number(workersDesc, prometheus.GaugeValue, in[s], s.String())
	}
	number(waitingDesc, prometheus.GaugeValue, uint64(st.Waiting))
	number(memoryDesc, prometheus.GaugeValue, memory)
	number(recycledDesc, prometheus.CounterValue, uint64(st.Recycled))
	passed := map[pyproc.Edge]uint64{}
	for _, e := range st.Edges {
		passed[pyproc.Edge{From: e.From, To: e.To}] = e.N
	}
	for _, e := range pyproc.Edges() {
		number(edgesDesc, prometheus.CounterValue, passed[e], e.From.String(), e.To.String())
	}
	c := countEdges(st.Edges)
	number(restartDesc, prometheus.CounterValue, c.restarts)
	number(failedDesc, prometheus.CounterValue, c.failures)
	number(deathsDesc, prometheus.CounterValue, c.deaths)
}

type edgeCounts struct{ restarts, failures, deaths uint64 }

func countEdges(edges []pyproc.EdgeCount) (c edgeCounts) {
	for _, e := range edges {
		switch {
		case e.To == pyproc.Spawning && e.From != pyproc.Empty:
			c.restarts += e.N
		case e.To != pyproc.Exited && e.To != pyproc.Killing && e.To != pyproc.Dumping:
		case e.From == pyproc.Spawning || e.From == pyproc.Handshake || e.From == pyproc.Warming:
			c.failures += e.N
		case e.From == pyproc.Spare || e.From.Serving():
			c.deaths += e.N
		}
	}
	return c
}
