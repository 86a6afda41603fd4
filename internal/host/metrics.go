package host

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dspex/dspex/internal/breaker"
	"github.com/dspex/dspex/internal/host/telemetry"
)

// Metrics of a host that are read when they are requested (docs/metrics.md); package telemetry has those that are counted.

// gauge is a number that is read when it is requested.
type gauge struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(h *Host) float64
}

func gaugeOf(name, help string, read func(h *Host) float64) gauge {
	return gauge{prometheus.NewDesc(name, help, nil, nil), prometheus.GaugeValue, read}
}

// ofParts is a gauge that is 0 until the host has its stores.
func ofParts(name, help string, read func(r *parts) float64) gauge {
	return gaugeOf(name, help, func(h *Host) float64 {
		if r := h.parts.Load(); r != nil {
			return read(r)
		}
		return 0
	})
}

var (
	gauges = []gauge{
		gaugeOf("dspex_pool_size", "Configured workers.", func(h *Host) float64 { return float64(h.cfg.Pool.Workers().Size) }),
		gaugeOf("dspex_pool_active_workers", "Configured workers that serve.", func(h *Host) float64 { return float64(h.cfg.Pool.Workers().Active) }),
		gaugeOf("dspex_pool_available_workers", "Active workers that have a free slot.", func(h *Host) float64 { return float64(h.cfg.Pool.Workers().Available) }),
		gaugeOf("dspex_pool_overflow_workers", "Workers that serve beyond the configured ones.", func(h *Host) float64 { return float64(h.cfg.Pool.Workers().Overflow) }),
		gaugeOf("dspex_pool_slots", "Slots of the configured workers.", func(h *Host) float64 { return float64(h.settings.Load().Capacity) }),
		gaugeOf("dspex_pool_free_slots", "Slots that are free, those of overflow workers included.", func(h *Host) float64 { return float64(h.cfg.Pool.Free()) }),
		gaugeOf("dspex_sessions", "Sessions in memory.", func(h *Host) float64 { return float64(h.telemetry.Stats.Sessions.Load()) }),
		ofParts("dspex_busy_sessions", "Sessions that have work.", func(r *parts) (sum float64) {
			for _, n := range r.sessions.Busy() {
				sum += float64(n)
			}
			return sum
		}),
		ofParts("dspex_partitions", "Partitions that this host serves.", func(r *parts) float64 { return float64(r.sessions.Partitions()) }),
		ofParts("dspex_waiting_payload_bytes", "Bytes of waiting jobs' payloads in memory.", func(r *parts) float64 { return float64(r.drivers.Payloads.Held()) }),
		ofParts("dspex_store_full", "1 while the broker has no room for records or outcomes, and no job runs.", func(r *parts) float64 {
			if r.drivers.Full() {
				return 1
			}
			return 0
		}),
		ofParts("dspex_pool_stalled_seconds", "Seconds in which nothing was finished though there is work, once that is longer than calls usually take; 0 otherwise.", func(r *parts) float64 {
			stalled, _ := r.progress()
			return stalled.Seconds()
		}),
		{
			prometheus.NewDesc("dspex_reconnects_total", "Lost and re-established connections to the broker: it was away, or dropped this process because it read too slowly.", nil, prometheus.Labels{"process": "worker-host"}), prometheus.CounterValue,
			func(h *Host) float64 { return float64(h.cfg.NC.Stats().Reconnects) },
		},
	}
	blockedDesc  = prometheus.NewDesc("dspex_blocked_jobs", "Blocked jobs, by the step that fails (operations.md).", []string{"step"}, nil)
	affinityDesc = prometheus.NewDesc("dspex_session_affinity_total",
		"Attempts of session jobs that ran where the session was warm (hit), whose session was warm nowhere (miss), whose session was warm in a worker without a free slot (move).",
		[]string{"result"}, nil)
	breakerDesc = prometheus.NewDesc("dspex_breaker_state", "Circuit breakers: 0 closed, 1 half_open, 2 open.", []string{"breaker"}, nil)
)

// Describe implements prometheus.Collector.
func (h *Host) Describe(to chan<- *prometheus.Desc) {
	for _, c := range h.telemetry.Counted() {
		c.Describe(to)
	}
	for _, g := range gauges {
		to <- g.desc
	}
	to <- blockedDesc
	to <- affinityDesc
	to <- breakerDesc
}

// Collect implements prometheus.Collector.
func (h *Host) Collect(to chan<- prometheus.Metric) {
	for _, c := range h.telemetry.Counted() {
		c.Collect(to)
	}
	for _, g := range gauges {
		to <- prometheus.MustNewConstMetric(g.desc, g.kind, g.read(h))
	}
	for result, n := range map[string]int64{"hit": h.telemetry.Stats.Hits.Load(), "miss": h.telemetry.Stats.Misses.Load(), "move": h.telemetry.Stats.Moves.Load()} {
		to <- prometheus.MustNewConstMetric(affinityDesc, prometheus.CounterValue, float64(n), result)
	}
	held := h.telemetry.Blocked.Steps()
	for _, step := range telemetry.Steps {
		to <- prometheus.MustNewConstMetric(blockedDesc, prometheus.GaugeValue, float64(held[string(step)]), string(step))
	}
	state := map[breaker.State]float64{breaker.Closed: 0, breaker.HalfOpen: 1, breaker.Open: 2}
	for _, i := range h.breakers.Infos() {
		to <- prometheus.MustNewConstMetric(breakerDesc, prometheus.GaugeValue, state[i.State], i.Name)
	}
}
