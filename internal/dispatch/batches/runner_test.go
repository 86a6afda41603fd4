package batches

import (
	"context"
	"log/slog"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/batch"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/natstest"
	"github.com/dspex/dspex/internal/stream"
)

// The store of results lost the outcome of a job, and its session's record still has it.
func TestABatchThatIsCancelledTakesAnOutcomeThatTheRecordAloneHas(t *testing.T) {
	nc := natstest.Connect(t, natstest.Run(t))
	on, err := stream.NewAccess(nc, slog.New(slog.DiscardHandler))
	if err == nil {
		err = on.Begin()
	}
	if err == nil {
		_, err = on.JS.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: stream.Results})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(on.Writer.Close)
	decided := &jobs.Outcome{Kind: jobs.Succeeded, Attempt: 1, Body: batch.CancelledReply()}
	r := &runner{s: New(Config{
		Broker:  on,
		Cancel:  func(context.Context, jobs.SessionRef, string) *jobs.Error { return nil }, // it has its outcome
		Decided: func(context.Context, jobs.SessionRef, string) (*jobs.Outcome, error) { return decided, nil },
	}).store, tenant: jobs.DefaultTenant, key: "k", events: make(chan happening, 1)}
	r.cancel(t.Context(), 3, batch.Line{Session: "s"})
	h := <-r.events
	e, is := h.event.(batch.Stopped)
	if !is || e.Ended == nil {
		t.Fatalf("the event must be a batch.Stopped with an end, got %#v", h.event)
	}
	if e.Ended.Index != 3 {
		t.Errorf("the index must be 3, got %d", e.Ended.Index)
	}
	if e.Ended.Kind != jobs.Succeeded {
		t.Errorf("the end must be %v, got %v", jobs.Succeeded, e.Ended.Kind)
	}
	decided = nil
	r.cancel(t.Context(), 3, batch.Line{Session: "s"})
	if e, is := (<-r.events).event.(batch.NotStopped); !is || e.Index != 3 {
		t.Errorf("without an outcome: %#v", e)
	}
}
