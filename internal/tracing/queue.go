package tracing

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// Bounds of what waits for the collector.
const (
	mostQueued   = 4096            // spans; more are dropped and counted
	mostBatch    = 512             // in one request
	sendEach     = 2 * time.Second // a batch, if it is not full before
	sendWithin   = 5 * time.Second // else it is dropped and counted
	closeWithin  = 5 * time.Second // at the end
	mostSpanText = 16 << 10        // bytes of one text in a span
	mostOfSpan   = 64              // attributes
)

// queue is the SDK's processor in batches with a bound that is counted: a span that finds no room is dropped, and no job waits.
type queue struct {
	sdk.SpanProcessor
	exporter sdk.SpanExporter
	log      *slog.Logger

	waiting               atomic.Int64
	sent, dropped, failed atomic.Int64
	logged                atomic.Int64 // unix s, when a failure was logged last
}

func newQueue(exporter sdk.SpanExporter, log *slog.Logger) *queue {
	q := &queue{exporter: exporter, log: log}
	q.SpanProcessor = sdk.NewBatchSpanProcessor(counted{q}, sdk.WithMaxQueueSize(mostQueued+mostBatch), sdk.WithMaxExportBatchSize(mostBatch),
		sdk.WithBatchTimeout(sendEach), sdk.WithExportTimeout(3*sendWithin))
	return q
}

// OnEnd takes a span, unless there is no room.
func (q *queue) OnEnd(s sdk.ReadOnlySpan) {
	if q.waiting.Add(1) > mostQueued {
		q.waiting.Add(-1)
		q.dropped.Add(1)
		return
	}
	q.SpanProcessor.OnEnd(s)
}

// counted is the exporter behind the queue.
type counted struct{ *queue }

// ExportSpans sends a batch; one that cannot be sent is given up.
func (c counted) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := c.exporter.ExportSpans(ctx, spans)
	n := int64(len(spans))
	c.waiting.Add(-n)
	if err == nil {
		c.sent.Add(n)
		return nil
	}
	c.failed.Add(n)
	const silence = 60 // seconds between two words of the log
	now := time.Now().Unix()
	if last := c.logged.Load(); now-last >= silence && c.logged.CompareAndSwap(last, now) {
		c.log.Warn("spans_not_sent", "error", err, "hint", "the collector of --traces-endpoint does not take them; jobs go on")
	}
	return nil // the SDK would write to the standard error
}

// Shutdown ends the exporter.
func (c counted) Shutdown(ctx context.Context) error { return c.exporter.Shutdown(ctx) }

func (q *queue) metrics() []prometheus.Collector {
	count := func(result, help string, n *atomic.Int64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "dspex_trace_spans_total", Help: help, ConstLabels: prometheus.Labels{"result": result}},
			func() float64 { return float64(n.Load()) })
	}
	const help = "Spans, by what became of them: sent, dropped because too many waited, failed because the collector did not take them."
	return []prometheus.Collector{count("sent", help, &q.sent), count("dropped", help, &q.dropped), count("failed", help, &q.failed)}
}
