// Package telemetry is what a host reports of its work: metrics, telemetry events, and the counts of its heartbeats. Nothing here
// decides anything.
package telemetry

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dspex/dspex/internal/breaker"
	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
	"github.com/dspex/dspex/internal/stream"
	"github.com/dspex/dspex/internal/tracing"
)

// Recorder counts what happens on a host, and publishes the telemetry events while there is a subscriber.
type Recorder struct {
	Stats    Stats
	Tenants  Tenants
	Blocked  Blocked
	Queues   Queues
	Progress Progress
	Latency  Latencies

	metrics *metrics
	events  *events
	spans   spans
}

// Stats are the host's counters since it started.
type Stats struct {
	Requests, Errors, RunMillis atomic.Int64
	Ran                         atomic.Int64 // jobs that had a slot
	Requested                   atomic.Int64 // of the errors: those whose reason is the request
	Hits, Misses, Moves         atomic.Int64
	Sessions                    atomic.Int64
}

// New counts from zero. Without a tracer there are no spans.
func New(traces *tracing.Tracer, host string) *Recorder {
	return &Recorder{metrics: newMetrics(), spans: spans{tracer: traces, host: host}}
}

// Listen makes the recorder publish events until stop is called.
func (r *Recorder) Listen(on *stream.Access, host string) (stop func(), err error) {
	r.spans.clock.Store(on.Clock)
	r.events, stop, err = newEvents(on, host)
	return stop, err
}

// TraceID is the trace of the task, "" if it is not sampled.
func (r *Recorder) TraceID(t *lifecycle.Task) string {
	if of, _ := r.spans.of(t); of.Sampled() {
		return of.TraceID()
	}
	return ""
}

// TraceOf is the trace of a job as operators look it up: that of its span, or the one that its client named though it is not sampled.
func (r *Recorder) TraceOf(j *lifecycle.Job, from jobs.Source) string {
	if j.Env.Trace == contract.Untraced {
		return ""
	}
	of, _ := r.spans.tracer.Of(tracing.Job{Traceparent: j.Env.Trace, Tenant: from.Session.Tenant, Session: from.Session.ID, Lane: from.Lane, Sequence: j.Sequence, Stored: j.Stored})
	if of.Sampled() {
		return of.TraceID()
	}
	return jobs.TraceID(j.Env.Trace)
}

// ReportFlags are what the worker is to report of a call (contract/frame.md).
func (r *Recorder) ReportFlags(t *lifecycle.Task) uint64 {
	switch of, _ := r.spans.of(t); {
	case !of.Sampled():
		return 0
	case r.spans.tracer.Prompts():
		return frame.CallSpans | frame.CallTexts
	}
	return frame.CallSpans
}

// Counted are the metrics that are counted.
func (r *Recorder) Counted() []prometheus.Collector { return r.metrics.all() }

// Attempted records an attempt that ran in a worker: when it began, and what the worker has reported of its spans, nil if nothing.
func (r *Recorder) Attempted(t *lifecycle.Task, out *lifecycle.Output, began time.Time, spans []byte) {
	r.spans.attempted(t, out, began, spans)
	r.metrics.ran(out, r.TraceID(t))
	r.events.emit(ofExecute, t, out.Slot.Worker, out.Ran, out.Err)
	if out.Err != nil {
		r.events.emit(ofError, t, out.Slot.Worker, out.Ran, out.Err)
	}
}

// Waited records the wait for a slot of worker, "" if there was none.
func (r *Recorder) Waited(t *lifecycle.Task, worker string, began time.Time, e *jobs.Error) {
	took := time.Since(began)
	r.spans.waited(t, worker, began, e)
	r.metrics.waited(t, took, r.spans.age(t), e, r.TraceID(t))
	r.events.emit(ofCheckout, t, worker, took, e)
	if e != nil {
		r.events.emit(ofError, t, "", took, e)
	}
}

// KeptOut records a call that a circuit breaker kept out.
func (r *Recorder) KeptOut(t *lifecycle.Task, e *jobs.Error) {
	r.metrics.failed(e)
	r.events.emit(ofError, t, "", 0, e)
}

// Changed records a change of a circuit breaker that this host found out.
func (r *Recorder) Changed(c breaker.Change) { r.metrics.changes.WithLabelValues(string(c)).Inc() }

// Ended records the outcome of a job, whose last attempt ran for ran.
func (r *Recorder) Ended(t *lifecycle.Task, ran time.Duration, e *jobs.Error) {
	r.spans.ended(t, e)
	r.Tenants.ended(t.Session.Tenant, ran, e)
	age := r.spans.age(t)
	r.Latency.ended(t.Env.Mode, age)
	r.metrics.latency(t, age, r.TraceID(t))
	r.metrics.jobs.WithLabelValues(string(lifecycle.KindOf(e))).Inc()
	r.Stats.Requests.Add(1)
	r.Stats.RunMillis.Add(ran.Milliseconds())
	if ran > 0 {
		r.Stats.Ran.Add(1)
	}
	if e != nil {
		r.Stats.Errors.Add(1)
		if e.Requested() {
			r.Stats.Requested.Add(1)
		}
	}
}

// Affinity counts an attempt of a session whose state the worker warm held (0: none did) and that ran in worker ran.
func (c *Stats) Affinity(warm, ran uint64) {
	switch warm {
	case 0:
		c.Misses.Add(1)
	case ran:
		c.Hits.Add(1)
	default: // warm had no free slot, or the attempt before failed there
		c.Moves.Add(1)
	}
}
