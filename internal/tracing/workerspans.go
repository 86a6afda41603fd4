package tracing

import (
	"errors"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/dspex/dspex/internal/wire"
)

// mostWorkerSpans bounds the spans of one attempt that a worker may report.
const mostWorkerSpans = 128

// workerSpan is a span as a worker reports it (contract/frame.md, "Spans"): times are in microseconds since the call came.
type workerSpan struct {
	name       string
	client     bool
	start, end time.Duration
	attributes []Attribute
	parent     int64
	err        string
}

// RecordWorkerSpans makes the spans that a worker has reported of a call, below the attempt's. They lie within it: the worker's clock is its own.
func (t *Tracer) RecordWorkerSpans(attempt Context, start, end time.Time, list []byte) {
	if t == nil || list == nil || !attempt.Sampled() {
		return
	}
	in := wire.NewReader(list)
	n, err := in.Array()
	if err != nil {
		return
	}
	made := make([]Context, 0, min(n, mostWorkerSpans))
	for range min(n, mostWorkerSpans) {
		s, err := readWorkerSpan(in)
		if err != nil {
			return
		}
		parent := attempt
		if s.parent >= 0 && s.parent < int64(len(made)) {
			parent = made[s.parent]
		}
		kind := trace.SpanKindInternal
		if s.client {
			kind = trace.SpanKindClient
		}
		from, to := start.Add(s.start), start.Add(s.end)
		if to.After(end) {
			to = end
		}
		if from.After(to) {
			from = to
		}
		made = append(made, t.Record(parent, Span{Name: s.name, Kind: kind, Start: from, End: to, Attributes: s.attributes, Error: s.err}))
	}
}

func readWorkerSpan(in *wire.Reader) (s workerSpan, err error) {
	n, err := in.Array()
	if err != nil || n < 6 {
		return s, errWorkerSpan
	}
	var from, took uint64
	if s.name, err = in.Str(); err != nil {
		return s, err
	}
	if s.client, err = in.Bool(); err != nil {
		return s, err
	}
	if from, err = in.Uint(); err != nil {
		return s, err
	}
	if took, err = in.Uint(); err != nil {
		return s, err
	}
	const most = uint64(24 * time.Hour / time.Microsecond)
	s.start = time.Duration(min(from, most)) * time.Microsecond
	s.end = s.start + time.Duration(min(took, most))*time.Microsecond
	if s.parent, err = in.Int(); err != nil {
		return s, err
	}
	fields, err := in.Map()
	if err != nil {
		return s, err
	}
	for range fields {
		if err := s.readAttribute(in); err != nil {
			return s, err
		}
	}
	for range n - 6 {
		if err := in.Skip(); err != nil {
			return s, err
		}
	}
	return s, nil
}

var errWorkerSpan = errors.New("a span must be an array of six fields")

func (s *workerSpan) readAttribute(in *wire.Reader) error {
	key, err := in.Str()
	if err != nil {
		return err
	}
	switch in.Kind() {
	case wire.Str:
		v, err := in.Str()
		if key == "error.type" {
			s.err = v
		} else {
			s.attributes = append(s.attributes, Text(key, v))
		}
		return err
	case wire.Int:
		v, err := in.Int()
		s.attributes = append(s.attributes, Number(key, v))
		return err
	case wire.Float:
		v, err := in.Float()
		s.attributes = append(s.attributes, Float(key, v))
		return err
	case wire.Bool:
		v, err := in.Bool()
		s.attributes = append(s.attributes, Flag(key, v))
		return err
	}
	return in.Skip()
}
