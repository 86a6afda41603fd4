package telemetry

import (
	"sync/atomic"
	"time"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
	"github.com/dspex/dspex/internal/stream"
	"github.com/dspex/dspex/internal/tracing"
)

// spans makes the spans of jobs. Times are the broker's, so that those of several hosts fit together.
type spans struct {
	tracer *tracing.Tracer
	host   string
	clock  atomic.Pointer[stream.Clock]
}

// of is the context of a task's job, and what it is below of.
func (s *spans) of(t *lifecycle.Task) (of, parent tracing.Context) {
	if s.tracer == nil || t.Trace == "" { // as TraceOf has found
		return tracing.Context{}, tracing.Context{}
	}
	return s.tracer.Of(tracing.Job{Traceparent: t.Env.Trace, Tenant: t.Session.Tenant, Session: t.Session.ID, Lane: t.Lane, Sequence: t.Sequence, Stored: t.Stored})
}

// at is the broker's time of a local one.
func (s *spans) at(local time.Time) time.Time {
	if c := s.clock.Load(); c != nil {
		return c.Now().Add(-time.Since(local))
	}
	return local
}

// age is how long ago the broker has stored the job.
func (s *spans) age(t *lifecycle.Task) time.Duration {
	if c := s.clock.Load(); c != nil && !t.Stored.IsZero() {
		return c.Age(t.Stored)
	}
	return 0
}

// waited makes the spans of a wait for a slot: of the job in its queue before its first attempt, and for the slot itself.
func (s *spans) waited(t *lifecycle.Task, worker string, began time.Time, e *jobs.Error) {
	of, _ := s.of(t)
	if !of.Sampled() {
		return
	}
	start := s.at(began)
	if t.Attempt == 0 && worker != "" {
		end := start
		if end.Before(t.Stored) { // our estimate of the broker's clock is a little behind
			end = t.Stored
		}
		s.tracer.Record(of, tracing.Span{Name: "queue", Kind: tracing.Internal, Start: t.Stored, End: end})
	}
	w := tracing.Span{Name: "checkout", Kind: tracing.Internal, Start: start, End: s.at(time.Now()), Error: code(e),
		Attributes: []tracing.Attribute{tracing.Number("dspex.attempt", int64(t.Attempt+1)), tracing.Text("dspex.host", s.host)}}
	if worker != "" {
		w.Attributes = append(w.Attributes, tracing.Text("dspex.worker", worker))
	}
	s.tracer.Record(of, w)
}

// attempted makes the span of an attempt, and below it those that the worker has reported.
func (s *spans) attempted(t *lifecycle.Task, out *lifecycle.Output, began time.Time, spans []byte) {
	of, _ := s.of(t)
	if !of.Sampled() || began.IsZero() {
		return
	}
	start, end := s.at(began), s.at(time.Now())
	a := s.tracer.Record(of, tracing.Span{Name: "attempt", Kind: tracing.Internal, Start: start, End: end, Error: code(out.Err), Attributes: []tracing.Attribute{
		tracing.Number("dspex.attempt", int64(t.Attempt)), tracing.Text("dspex.host", s.host), tracing.Text("dspex.worker", out.Slot.Worker), tracing.Flag("dspex.gave_up", out.GaveUp)}})
	s.tracer.RecordWorkerSpans(a, start, end, spans)
}

// ended makes the span of a job that has an outcome.
func (s *spans) ended(t *lifecycle.Task, e *jobs.Error) {
	of, parent := s.of(t)
	if !of.Sampled() {
		return
	}
	now := s.at(time.Now())
	span := tracing.Span{Name: "job " + t.Req.Command, Kind: tracing.Consumer, Start: t.Stored, End: now, Error: code(e), Attributes: []tracing.Attribute{
		tracing.Text("messaging.system", "nats"), tracing.Text("messaging.operation.type", "process"), tracing.Text("dspex.job", t.Env.Job),
		tracing.Text("dspex.command", t.Req.Command), tracing.Text("dspex.tenant", t.Session.Tenant), tracing.Text("dspex.lane", laneOf(t)),
		tracing.Text("dspex.outcome", string(lifecycle.KindOf(e))), tracing.Number("dspex.attempts", int64(t.Attempt)), tracing.Text("dspex.host", s.host)}}
	if t.Session.ID != "" {
		span.Attributes = append(span.Attributes, tracing.Text("dspex.session", t.Session.ID))
	}
	s.tracer.RecordAs(of, parent, span)
}

func code(e *jobs.Error) string {
	if e == nil {
		return ""
	}
	return e.Code
}
