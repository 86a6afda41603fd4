package gateway

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/dspex/dspex/internal/tracing"
)

// span is that of a request: below the client's, and what its jobs are below of. Without a tracer it is the client's own.
type span struct {
	of, parent  tracing.Context
	traceparent string // for what the request starts, "" if there is none
}

// beginSpan is that of a request; t may be nil.
func beginSpan(t *tracing.Tracer, r *http.Request) (s span) {
	s.traceparent = r.Header.Get("Traceparent")
	if t != nil && (strings.HasPrefix(r.URL.Path, "/v1/") || r.URL.Path == "/mcp") { // not probes, and no pages
		s.of, s.parent = t.Root(s.traceparent)
		s.traceparent = s.of.Traceparent()
	}
	return s
}

// end makes the span of a request that is answered.
func (s span) end(t *tracing.Tracer, r *http.Request, route string, status int, began time.Time) {
	if !s.of.Sampled() {
		return
	}
	made := tracing.Span{Name: r.Method, Kind: tracing.Server, Start: began, End: time.Now(), Attributes: []tracing.Attribute{
		tracing.Text("http.request.method", r.Method), tracing.Number("http.response.status_code", int64(status))}}
	if route != "" {
		made.Name = route
		_, path, _ := strings.Cut(route, " ")
		made.Attributes = append(made.Attributes, tracing.Text("http.route", cmp.Or(path, route)))
	}
	if status >= http.StatusInternalServerError {
		made.Error = http.StatusText(status)
	}
	t.RecordAs(s.of, s.parent, made)
}

// tellFailure logs an answer that is the gateway's or the pool's fault, with what finds its trace. While a broker is away there is one for each
// request: only what should never happen is a warning.
func (s span) tellFailure(log *slog.Logger, route string, status int) {
	if status < http.StatusInternalServerError {
		return
	}
	level := slog.LevelDebug
	if status == http.StatusInternalServerError {
		level = slog.LevelWarn
	}
	log.Log(context.Background(), level, "request_failed", "route", route, "status", status, "trace_id", s.id())
}

// id is that of the trace, "" if there is none.
func (s span) id() string {
	if id := s.of.TraceID(); id != "" {
		return id
	}
	return tracing.Parse(s.traceparent).TraceID()
}
