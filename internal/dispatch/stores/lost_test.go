package stores

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/dispatch/alerts"
	"github.com/dspex/dspex/internal/dispatch/fleet"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/natstest"
	"github.com/dspex/dspex/internal/stream"
)

type fixed struct{}

func (fixed) Partitions() int              { return 4 }
func (fixed) Reread(context.Context) error { return nil }
func (fixed) Wake()                        {}

// TestALostStoreBeginsAboveItsNumbersThoughNobodyReportedThem: hosts ignore assignments below those that they have seen.
func TestALostStoreBeginsAboveItsNumbersThoughNobodyReportedThem(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	nc := natstest.Connect(t, natstest.Run(t, func(o *server.Options) { o.JetStreamMaxStore = 64 << 30 }))
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	settings := stream.Settings{Partitions: 4}
	if _, err := stream.Ensure(t.Context(), js, settings); err != nil {
		t.Fatal(err)
	}
	on, err := stream.NewAccess(nc, log)
	if err != nil {
		t.Fatal(err)
	}
	hosts := fleet.New(on, fleet.NewThreshold(0.1))
	s := New("d1", settings, on, hosts, alerts.New("d1", alerts.Config{}, on, log), NewProbes(on, hosts, log, false, time.Second, time.Second), fixed{}, log)
	for _, name := range stream.Objects() {
		if err := js.DeleteStream(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.lookAtStores(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	for _, name := range stream.Objects() {
		info, err := js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if first := info.CachedInfo().Config.FirstSeq; first < 1<<24 {
			t.Errorf("%s begins at %d", name, first)
		}
	}
}

// TestADispatcherThatIsThereBeforeTheHostsWaitsForThem: on a broker without objects it queries twice. Hosts have connected by then.
func TestADispatcherThatIsThereBeforeTheHostsWaitsForThem(t *testing.T) {
	s := natstest.Run(t)
	on, err := stream.NewAccess(natstest.Connect(t, s), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	host, requests := natstest.Connect(t, s), 0
	_, err = host.Subscribe(jobs.SubjectBeat, func(m *nats.Msg) {
		answer := nats.NewMsg(m.Reply)
		if requests++; requests == 1 {
			answer.Header.Set("Status", "503") // as if nobody were there
		} else {
			answer.Data = []byte(`{"highest_epoch":77}`)
		}
		_ = host.PublishMsg(answer)
	})
	if err == nil {
		err = host.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	highest, err := (&Stores{broker: on}).HighestKnown(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if highest != 77 {
		t.Errorf("the highest known number must be 77, got %d", highest)
	}
}
