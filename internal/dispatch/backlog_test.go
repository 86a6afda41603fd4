package dispatch

import (
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/natstest"
	"github.com/dspex/dspex/internal/stream"
)

func TestTheBacklogIsWhatHasNoOutcomeByLane(t *testing.T) {
	s := natstest.Run(t, func(o *server.Options) { o.JetStreamMaxStore = 64 << 30 })
	d, err := New(Config{Name: "d1", NC: natstest.Connect(t, s)})
	if err != nil {
		t.Fatal(err)
	}
	if d.backlog() != nil {
		t.Error("nothing has been read")
	}
	if d.broker.JS, err = jetstream.New(d.broker.NC); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Ensure(t.Context(), d.broker.JS, stream.Settings{Partitions: 4}); err != nil {
		t.Fatal(err)
	}
	if d.broker.Clock, err = stream.NewClock(t.Context(), d.broker.JS, clock.New(nil), d.log); err != nil {
		t.Fatal(err)
	}
	want := map[string]int64{laneSession: 0, jobs.LaneInteractive: 0, jobs.LaneBatch: 0}
	check := func() {
		t.Helper()
		have, err := d.readBacklog(t.Context())
		if err != nil || len(have) != len(want) {
			t.Fatal(have, err)
		}
		for lane, n := range want {
			if l := have[lane]; l.jobs != n || n == 0 && l.oldest != 0 {
				t.Errorf("%s: %+v, want %d jobs", lane, l, n)
			}
		}
	}
	check()
	for subject, lane := range map[string]string{
		"dspex.session.a": laneSession, "dspex.session.b": laneSession, "dspex.call.a": laneSession,
		"dspex.anonymous.batch": jobs.LaneBatch, "dspex.anonymous.interactive": jobs.LaneInteractive, "dspex.call.anonymous.interactive": jobs.LaneInteractive,
	} {
		if _, err := d.broker.JS.Publish(t.Context(), subject, []byte("{}")); err != nil {
			t.Fatal(err)
		}
		want[lane]++
	}
	for range 2 { // the leader's, and a probe's
		if _, err := d.broker.JS.Publish(t.Context(), stream.AnchorSubject, nil); err != nil {
			t.Fatal(err)
		}
	}
	check()
}
