package dispatch

import (
	"github.com/nats-io/nats.go/micro"
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics of a dispatcher (docs/metrics.md).
var (
	endpointRequestsDesc = prometheus.NewDesc("dspex_endpoint_requests_total", "Requests, by the endpoint of the micro service.", []string{"endpoint"}, nil)
	endpointErrorsDesc   = prometheus.NewDesc("dspex_endpoint_errors_total", "Requests that the dispatcher refused; what becomes of the jobs is the hosts' to tell.", []string{"endpoint"}, nil)
	leaderDesc           = prometheus.NewDesc("dspex_leader", "1 while this dispatcher leads.", nil, nil)
	hostsDesc            = prometheus.NewDesc("dspex_hosts", "Worker-hosts that are alive.", nil, nil)
	rateDesc             = prometheus.NewDesc("dspex_error_rate", "Share of jobs that failed in the last 60 s, on all hosts.", nil, nil)
	alertsDesc           = prometheus.NewDesc("dspex_alerts_total", "Alerts and recoveries that this dispatcher told of.", []string{"event"}, nil)
)

// Describe implements prometheus.Collector.
func (d *Dispatcher) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{endpointRequestsDesc, endpointErrorsDesc, leaderDesc, hostsDesc, rateDesc, alertsDesc} {
		to <- desc
	}
}

// Collect implements prometheus.Collector.
func (d *Dispatcher) Collect(to chan<- prometheus.Metric) {
	number := func(desc *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, kind, v, labels...)
	}
	if read := d.endpoints.Load(); read != nil {
		for _, e := range (*read)() {
			number(endpointRequestsDesc, prometheus.CounterValue, float64(e.NumRequests), e.Name)
			number(endpointErrorsDesc, prometheus.CounterValue, float64(d.refused(e.Name)), e.Name)
		}
	}
	leads := 0.0
	if d.leads.Load() {
		leads = 1
	}
	number(leaderDesc, prometheus.GaugeValue, leads)
	number(hostsDesc, prometheus.GaugeValue, float64(len(d.hosts.live())))
	number(rateDesc, prometheus.GaugeValue, d.hosts.errors.now().share())
	number(alertsDesc, prometheus.CounterValue, float64(d.alerts.Load()), "alert")
	number(alertsDesc, prometheus.CounterValue, float64(d.recoveries.Load()), "recovered")
}

// endpointStats reads the counters of the micro service's endpoints.
type endpointStats = func() []*micro.EndpointStats
