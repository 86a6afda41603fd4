package tracing_test

import (
	"testing"
	"time"

	"github.com/dspex/dspex/internal/tracing"
)

func TestATracerThatIsOffAllocatesNothing(t *testing.T) {
	var off *tracing.Tracer
	job := tracing.Job{Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Tenant: "default", Session: "s", Sequence: 7, Stored: time.Unix(1, 0)}
	if n := testing.AllocsPerRun(100, func() {
		of, parent := off.Of(job)
		root, above := off.Root(job.Traceparent)
		for at, c := range [...]tracing.Context{of, parent, root, above} {
			if c.Sampled() {
				t.Errorf("span %d is sampled", at)
			}
		}
		if got := root.Traceparent(); got != "" {
			t.Errorf("traceparent: got %s, want none", got)
		}
		if off.Prompts() {
			t.Error("prompts are requested")
		}
		off.RecordAs(of, parent, tracing.Span{Name: "x"})
		off.RecordWorkerSpans(of, job.Stored, job.Stored, nil)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
