package health

import (
	"log/slog"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/natstest"
	"github.com/dspex/dspex/internal/stream"
)

func TestTheBacklogIsWhatHasNoOutcomeByLane(t *testing.T) {
	s := natstest.Run(t, func(o *server.Options) { o.JetStreamMaxStore = 64 << 30 })
	broker, err := stream.NewAccess(natstest.Connect(t, s), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	b := NewBacklogs(broker, broker.Log)
	if b.ByLane() != nil {
		t.Error("nothing has been read")
	}
	if _, err := stream.Ensure(t.Context(), broker.JS, stream.Settings{Partitions: 4}); err != nil {
		t.Fatal(err)
	}
	if broker.Clock, err = stream.NewClock(t.Context(), broker.JS, clock.New(nil), broker.Log); err != nil {
		t.Fatal(err)
	}
	want := map[string]int64{laneSession: 0, jobs.LaneInteractive: 0, jobs.LaneBatch: 0}
	check := func() {
		t.Helper()
		have, err := b.readBacklog(t.Context())
		if err != nil || len(have) != len(want) {
			t.Fatal(have, err)
		}
		for lane, n := range want {
			if l := have[lane]; l.Jobs != n || n == 0 && l.Oldest != 0 {
				t.Errorf("%s: %+v, want %d jobs", lane, l, n)
			}
		}
	}
	check()
	for subject, lane := range map[string]string{
		"dspex.session.a": laneSession, "dspex.session.b": laneSession, "dspex.call.a": laneSession,
		"dspex.anonymous.batch": jobs.LaneBatch, "dspex.anonymous.interactive": jobs.LaneInteractive, "dspex.call.anonymous.interactive": jobs.LaneInteractive,
	} {
		if _, err := broker.JS.Publish(t.Context(), subject, []byte("{}")); err != nil {
			t.Fatal(err)
		}
		want[lane]++
	}
	for range 2 { // the leader's, and a probe's
		if _, err := broker.JS.Publish(t.Context(), stream.AnchorSubject, nil); err != nil {
			t.Fatal(err)
		}
	}
	check()
}
