package dispatch

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dspex/dspex/internal/jobs"
)

// Metrics of a dispatcher (docs/metrics.md).
var (
	endpointRequestsDesc = prometheus.NewDesc("dspex_endpoint_requests_total", "Requests, by the endpoint of the micro service.", []string{"endpoint"}, nil)
	endpointErrorsDesc   = prometheus.NewDesc("dspex_endpoint_errors_total", "Requests that the dispatcher refused; hosts report the results of jobs.", []string{"endpoint"}, nil)
	leaderDesc           = prometheus.NewDesc("dspex_leader", "1 while this dispatcher leads.", nil, nil)
	idleDesc             = prometheus.NewDesc("dspex_assign_idle_seconds", "Seconds since the leading dispatcher carried out a plan of the assignments, which it does every 5 s; 0 where another one leads.", nil, nil)
	hostsDesc            = prometheus.NewDesc("dspex_hosts", "Worker-hosts that are alive.", nil, nil)
	rateDesc             = prometheus.NewDesc("dspex_error_rate", "Share of jobs that failed in the last 60 s, on all hosts.", nil, nil)
	backlogDesc          = prometheus.NewDesc("dspex_backlog_jobs", "Jobs that have no outcome, by lane: those that wait and those that run. Absent while the broker does not answer.", []string{"lane"}, nil)
	oldestDesc           = prometheus.NewDesc("dspex_oldest_job_seconds", "Age of the oldest job that has no outcome, by lane; 0 if there is none.", []string{"lane"}, nil)
	slotsDesc            = prometheus.NewDesc("dspex_slots", "Slots of the live hosts, by what they do.", []string{"state"}, nil)
	waitingDesc          = prometheus.NewDesc("dspex_waiting_for_slot", "Jobs of sessions that could run if there were slots, by mode; of each session the first.", []string{"mode"}, nil)
	refusedDesc          = prometheus.NewDesc("dspex_refused_calls_total", "Calls that were refused for lack of room, by error code.", []string{"code"}, nil)
	writableDesc         = prometheus.NewDesc("dspex_stream_writable", "1 while the stream stores this dispatcher's probes, sent every 10 s.", []string{"stream"}, nil)
	fillDesc             = prometheus.NewDesc("dspex_stream_fill", "Used share of a stream's room; a full stream refuses messages.", []string{"stream"}, nil)
	unauditedDesc        = prometheus.NewDesc("dspex_audit_lost_total", "Actions of operators that were executed but could not be recorded; the log has them.", nil, nil)
	reconnectsDesc       = prometheus.NewDesc("dspex_reconnects_total", "Lost and re-established connections to the broker: it was away, or dropped this process because it read too slowly.", nil, prometheus.Labels{"process": "dispatcher"})
	alertsDesc           = prometheus.NewDesc("dspex_alerts_total", "Alerts and recoveries that this dispatcher reported.", []string{"event"}, nil)
)

// Describe implements prometheus.Collector.
func (d *Dispatcher) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{endpointRequestsDesc, endpointErrorsDesc, leaderDesc, idleDesc, hostsDesc, rateDesc, backlogDesc, oldestDesc, slotsDesc, waitingDesc, refusedDesc, writableDesc, fillDesc, unauditedDesc, reconnectsDesc, alertsDesc} {
		to <- desc
	}
}

// Collect implements prometheus.Collector.
func (d *Dispatcher) Collect(to chan<- prometheus.Metric) {
	number := func(desc *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, kind, v, labels...)
	}
	if s := d.service.Load(); s != nil {
		for _, e := range s.Counts() {
			number(endpointRequestsDesc, prometheus.CounterValue, float64(e.Requests), e.Endpoint)
			number(endpointErrorsDesc, prometheus.CounterValue, float64(e.Refused), e.Endpoint)
		}
		for lane, l := range d.backlogs.ByLane() {
			number(backlogDesc, prometheus.GaugeValue, float64(l.Jobs), lane)
			number(oldestDesc, prometheus.GaugeValue, l.Oldest.Seconds(), lane)
		}
	}
	leads := 0.0
	if d.leader.Leads() {
		leads = 1
	}
	number(leaderDesc, prometheus.GaugeValue, leads)
	number(idleDesc, prometheus.GaugeValue, d.planner.Idle().Seconds())
	number(hostsDesc, prometheus.GaugeValue, float64(len(d.hosts.Live())))
	number(rateDesc, prometheus.GaugeValue, d.hosts.ErrorRate().Share())
	slots, free, calls, queued := 0, 0, int64(0), int64(0)
	for _, b := range d.hosts.Live() {
		slots, free, calls, queued = slots+b.Capacity, free+min(b.Free, b.Capacity), calls+b.WaitingCalls, queued+b.WaitingJobs
	}
	number(slotsDesc, prometheus.GaugeValue, float64(free), "free")
	number(slotsDesc, prometheus.GaugeValue, float64(slots-free), "used")
	number(waitingDesc, prometheus.GaugeValue, float64(calls), string(jobs.ModeCall))
	number(waitingDesc, prometheus.GaugeValue, float64(queued), string(jobs.ModeQueue))
	for code, count := range d.calls.Refused() {
		number(refusedDesc, prometheus.CounterValue, float64(count), code)
	}
	writable, filled := d.probes.Now()
	for name, ok := range writable {
		number(writableDesc, prometheus.GaugeValue, ok, name)
	}
	for name, share := range filled {
		number(fillDesc, prometheus.GaugeValue, share, name)
	}
	number(unauditedDesc, prometheus.CounterValue, float64(d.trail.Lost()))
	number(reconnectsDesc, prometheus.CounterValue, float64(d.broker.NC.Stats().Reconnects))
	alerts, recoveries := d.alerts.Counts()
	number(alertsDesc, prometheus.CounterValue, float64(alerts), "alert")
	number(alertsDesc, prometheus.CounterValue, float64(recoveries), "recovered")
}
