package gateway

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dspex/dspex"
)

// metrics are the gateway's numbers. Labels have few values: patterns of paths, not paths.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	active   prometheus.Gauge
	left     prometheus.Counter
	streams  prometheus.Gauge
	broker   prometheus.GaugeFunc
}

func newMetrics(client *dspex.Client) *metrics {
	return &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "dspex_gateway_requests_total", Help: "Requests that were answered."}, []string{"route", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "dspex_gateway_request_seconds", Help: "From a request's headers to the end of its answer.",
			Buckets: []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300}}, []string{"route"}),
		active: prometheus.NewGauge(prometheus.GaugeOpts{Name: "dspex_gateway_active_requests", Help: "Requests that are being served."}),
		left:   prometheus.NewCounter(prometheus.CounterOpts{Name: "dspex_gateway_left_jobs_total", Help: "Jobs cancelled because their client disconnected and the request had cancel_on_disconnect."}),
		broker: prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "dspex_gateway_broker_connected", Help: "1 while the gateway has a connection to the broker."}, func() float64 {
			if client.Connected() {
				return 1
			}
			return 0
		}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{Name: "dspex_gateway_streams", Help: "Clients that read the events of a job."}),
	}
}

func (m *metrics) register(r *prometheus.Registry) error {
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.active, m.left, m.streams, m.broker} {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}

// served counts a request that is answered.
func (m *metrics) served(route string, status int, began time.Time, s span) {
	if route == "" || route == "/" {
		route = "none" // refused before it had one
	}
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	of := m.seconds.WithLabelValues(route)
	if exemplar, ok := of.(prometheus.ExemplarObserver); ok && s.of.Sampled() {
		exemplar.ObserveWithExemplar(time.Since(began).Seconds(), prometheus.Labels{"trace_id": s.id()})
		return
	}
	of.Observe(time.Since(began).Seconds())
}
