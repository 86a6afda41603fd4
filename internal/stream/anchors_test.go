package stream

import (
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/natstest"
)

// TestAProbeOfTheJobsClearsUpAnchorsThatWereLeft: their subject has room for as many as a session's queue.
func TestAProbeOfTheJobsClearsUpAnchorsThatWereLeft(t *testing.T) {
	nc := natstest.Connect(t, natstest.Run(t))
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Ensure(t.Context(), js, Settings{Partitions: 4, SessionQueue: 4, JobsBytes: 64 << 20, ResultsBytes: 64 << 20, DeadBytes: 64 << 20}); err != nil {
		t.Fatal(err)
	}
	w, err := NewWriter(nc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	for range 8 { // each leaves one behind, as a write does whose acknowledgement is lost
		if _, err := w.PublishSync(&nats.Msg{Subject: AnchorSubject}); err != nil {
			t.Fatal(err)
		}
		if err := Probe(t.Context(), js, w, Jobs); err != nil {
			t.Fatal(err)
		}
	}
	s, err := js.Stream(t.Context(), Jobs)
	if err != nil {
		t.Fatal(err)
	}
	if n := s.CachedInfo().State.Msgs; n != 1 {
		t.Errorf("%d anchors are left, want 1", n)
	}
}
