package stream_test

import (
	"log/slog"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/stream"
)

func TestErasingLeavesAloneWhatCameAfterwardsAndWhatIsAnothers(t *testing.T) {
	y := start(t)
	publish := func(subject string) {
		if _, err := y.js.PublishMsg(t.Context(), &nats.Msg{Subject: subject, Data: []byte("x")}); err != nil {
			t.Fatal(err)
		}
	}
	publish("dspex.dlq.s.mine")
	publish("dspex.dlq.s.other")
	e, err := stream.NewEraser(t.Context(), y.js, stream.Dead, "dspex.dlq.s.mine")
	if err != nil {
		t.Fatal(err)
	}
	publish("dspex.dlq.s.mine")
	for range 2 {
		if err := e.Erase(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var left []uint64
	switch _, err := stream.GetPage(t.Context(), y.nc, stream.Page{Stream: stream.Dead, Subject: "dspex.dlq.>", Messages: 10, Bytes: 1 << 20}, func(m stream.Stored) error {
		left = append(left, m.Sequence)
		return nil
	}); {
	case err != nil:
		t.Errorf("err must be nil, got %v; left %v, %v", err, left, err)
	case len(left) != 2:
		t.Errorf("len(left) must be 2, got %v; left %v, %v", len(left), left, err)
	case left[0] != 2:
		t.Errorf("left[0] must be 2, got %v; left %v, %v", left[0], left, err)
	case left[1] != 3:
		t.Errorf("left[1] must be 3, got %v; left %v, %v", left[1], left, err)
	}
}

func TestFollowTellsWhatIsThereAndEveryChange(t *testing.T) {
	y := start(t)
	rev := y.put(t, "s.x", "one", 0)
	type change struct{ key, value string }
	seen := make(chan change, 4)
	go stream.Follow(t.Context(), y.js, stream.Sessions, "s.*", slog.New(slog.DiscardHandler), func(key string, value []byte) { seen <- change{key, string(value)} })
	if c := <-seen; c != (change{"s.x", "one"}) {
		t.Errorf("first %v", c)
	}
	y.put(t, "h.x", "not asked for", 0)
	rev = y.put(t, "s.x", "two", rev)
	if c := <-seen; c != (change{"s.x", "two"}) { // before the next one: the bucket keeps the last of each key
		t.Errorf("then %v", c)
	}
	if _, err := y.records.Delete("s.x", rev); err != nil {
		t.Fatal(err)
	}
	if c := <-seen; c != (change{"s.x", ""}) {
		t.Errorf("last %v", c)
	}
}
