package batches

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/batch"
	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/natstest"
	"github.com/dspex/dspex/internal/stream"
)

// TestTheBrokersClockSetsNoPauseOfABatch: its jobs cannot be read, and are read again after a second, though the broker's clock goes back by
// hours meanwhile.
func TestTheBrokersClockSetsNoPauseOfABatch(t *testing.T) {
	s := natstest.Run(t)
	on, err := stream.NewAccess(natstest.Connect(t, s), slog.New(slog.DiscardHandler))
	if err == nil {
		err = on.Begin()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(on.Writer.Close)
	on.Clock = &stream.Clock{Clock: clock.New(clock.System())}
	broker, reads := natstest.Connect(t, s), make(chan bool, 10)
	_, err = broker.Subscribe("$JS.API.STREAM.MSG.GET.KV_"+stream.Batches, func(m *nats.Msg) {
		_ = m.Respond([]byte(`{"error":{"code":500,"err_code":10049,"description":"the file is damaged"}}`))
		if strings.Contains(string(m.Data), batch.ChunkKey("default", "k", 0)) {
			reads <- true
		}
	})
	if err == nil {
		err = broker.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l := leader{New(Config{Broker: on, Leads: func() bool { return true }}).store}
		l.serve(ctx, &held{rec: &batch.Record{Batch: "b", Tenant: "default", Key: "k", Phase: batch.Running, Jobs: 1, Concurrency: 1}}, &use{tenant: "default"})
	}()
	defer func() { cancel(); <-ended }()
	stepping := time.NewTicker(20 * time.Millisecond)
	defer stepping.Stop()
	patience := time.After(30 * time.Second)
	stamp := time.Now()
	for n := 0; n < 3; {
		select {
		case <-reads:
			n++
		case <-stepping.C:
			stamp = stamp.Add(-time.Hour)
			now := on.Clock.Mono()
			on.Clock.Observe(stamp, now, now)
		case <-patience:
			t.Fatalf("the jobs were read %d times", n)
		}
	}
}
