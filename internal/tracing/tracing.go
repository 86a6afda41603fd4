// Package tracing makes spans of OpenTelemetry and sends them to a collector. A nil Tracer is one that is off: it costs nothing.
//
// A job's spans are made by the host that runs it. So the identity of its span is not stored but computed, from where the broker has
// stored the job and from the client's traceparent. It is the same on every host, before and after a crash.
package tracing

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/dspex/dspex/internal/contract"
)

// Tracer makes spans. Make it with Open.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	queue    *queue
	bound    uint64 // trace ids below it are sampled
	prompts  bool
}

// Kinds of spans.
const (
	Internal = trace.SpanKindInternal
	Server   = trace.SpanKindServer
	Client   = trace.SpanKindClient
	Producer = trace.SpanKindProducer
	Consumer = trace.SpanKindConsumer
)

// Attribute is one of a span.
type Attribute = attribute.KeyValue

// Text is an attribute that is a text. Texts leaves out those that are empty.
func Text(key, value string) Attribute { return attribute.String(key, value) }

// Number is an attribute that is an integer.
func Number(key string, value int64) Attribute { return attribute.Int64(key, value) }

// Float is an attribute that is a number.
func Float(key string, v float64) Attribute { return attribute.Float64(key, v) }

// Flag is an attribute that is true or false.
func Flag(key string, value bool) Attribute { return attribute.Bool(key, value) }

// Context is a span that others may be below: an id, and whether it is sampled. The zero value is none.
type Context struct{ sc trace.SpanContext }

// Parse reads a traceparent, as W3C Trace Context has it. What is none is no context.
func Parse(traceparent string) Context {
	id, span, sampled, ok := contract.ParseTraceparent(traceparent)
	if !ok {
		return Context{}
	}
	return Context{trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: span, TraceFlags: flags(sampled), Remote: true})}
}

func flags(sampled bool) trace.TraceFlags { return trace.TraceFlags(0).WithSampled(sampled) }

// Sampled reports whether spans are to be made below it.
func (c Context) Sampled() bool { return c.sc.IsSampled() }

// TraceID is the id of the trace in hex, "" if there is none.
func (c Context) TraceID() string {
	if !c.sc.HasTraceID() {
		return ""
	}
	return c.sc.TraceID().String()
}

// Traceparent is the header for whoever goes on with the trace, "" if there is none.
func (c Context) Traceparent() string {
	if !c.sc.IsValid() {
		return ""
	}
	return contract.Traceparent(c.sc.TraceID(), c.sc.SpanID(), c.sc.IsSampled())
}

// Job is where the broker keeps a job, and what its client sent of the trace.
type Job struct {
	Traceparent     string
	Tenant, Session string
	Lane            string
	Sequence        uint64
	Stored          time.Time
}

// Of is the context of the job's span, and what it is below of.
func (t *Tracer) Of(j Job) (of, parent Context) {
	if t == nil {
		return Context{}, Context{}
	}
	parent = Parse(j.Traceparent)
	if parent.sc.IsValid() && !parent.Sampled() {
		return parent, parent
	}
	sum := digest(j)
	cfg := trace.SpanContextConfig{TraceID: trace.TraceID(sum[:16]), SpanID: trace.SpanID(sum[16:24])}
	if parent.sc.IsValid() {
		cfg.TraceID, cfg.TraceFlags = parent.sc.TraceID(), flags(true)
	} else {
		cfg.TraceFlags = flags(t.chosen(cfg.TraceID))
	}
	return Context{trace.NewSpanContext(cfg)}, parent
}

func digest(j Job) [sha256.Size]byte {
	var text [256]byte
	b := append(text[:0], j.Traceparent...)
	for _, s := range []string{j.Tenant, j.Session, j.Lane} {
		b = append(append(b, 0), s...)
	}
	b = binary.BigEndian.AppendUint64(append(b, 0), j.Sequence)
	b = binary.BigEndian.AppendUint64(b, uint64(j.Stored.UnixNano()))
	return sha256.Sum256(b)
}

// chosen reports whether the trace of the id is sampled, in the same way as the SDK's sampler by ratio: all hosts agree.
func (t *Tracer) chosen(id trace.TraceID) bool { return binary.BigEndian.Uint64(id[8:])>>1 < t.bound }

func boundOf(ratio float64) uint64 {
	if ratio >= 1 {
		return math.MaxUint64
	}
	return uint64(ratio * (1 << 63))
}

// Root decides about a request that comes with or without a traceparent: the context that its span is to have, which is below parent.
func (t *Tracer) Root(traceparent string) (of, parent Context) {
	if t == nil {
		return Context{}, Context{}
	}
	parent = Parse(traceparent)
	if parent.sc.IsValid() && !parent.Sampled() {
		return parent, parent
	}
	id, span := randomTrace(), randomSpan()
	sampled := true
	if parent.sc.IsValid() {
		id = parent.sc.TraceID()
	} else {
		sampled = t.chosen(id)
	}
	return Context{trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: span, TraceFlags: flags(sampled)})}, parent
}

// Prompts reports whether texts of prompts and answers may be in spans.
func (t *Tracer) Prompts() bool { return t != nil && t.prompts }

// Span is one that is over.
type Span struct {
	Name       string
	Kind       trace.SpanKind
	Start, End time.Time
	Attributes []Attribute
	Error      string // its type; "": it succeeded
}

// Record makes a span below parent, under an id of its own, and returns its context.
func (t *Tracer) Record(parent Context, s Span) Context { return t.record(Context{}, parent, s) }

// RecordAs makes the span whose context was computed before.
func (t *Tracer) RecordAs(of, parent Context, s Span) { t.record(of, parent, s) }

func (t *Tracer) record(of, parent Context, s Span) Context {
	if t == nil || !of.Sampled() && !parent.Sampled() {
		return Context{}
	}
	ctx := context.Background()
	if parent.sc.IsValid() {
		ctx = trace.ContextWithSpanContext(ctx, parent.sc)
	}
	if of.sc.IsValid() {
		ctx = context.WithValue(ctx, presetKey{}, of.sc)
	}
	_, span := t.tracer.Start(ctx, s.Name, trace.WithSpanKind(s.Kind), trace.WithTimestamp(s.Start), trace.WithAttributes(s.Attributes...))
	if s.Error != "" {
		span.SetAttributes(attribute.String("error.type", s.Error))
		span.SetStatus(codes.Error, s.Error)
	}
	span.End(trace.WithTimestamp(s.End))
	return Context{span.SpanContext()}
}
