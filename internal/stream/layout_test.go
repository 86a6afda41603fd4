package stream

import (
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/natstest"
)

func TestJobsOfAnEarlierLayoutAreServedFirst(t *testing.T) {
	nc := natstest.Connect(t, natstest.Run(t))
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if _, err := Ensure(ctx, js, Settings{Partitions: 64, JobsBytes: 64 << 20, ResultsBytes: 64 << 20, DeadBytes: 64 << 20}); err != nil {
		t.Fatal(err)
	}
	publish := func() uint64 {
		t.Helper()
		ack, err := js.Publish(ctx, "dspex.session.alice", nil)
		if err != nil {
			t.Fatal(err)
		}
		return ack.Sequence
	}
	remove := func(seq uint64) {
		t.Helper()
		s, err := js.Stream(ctx, Jobs)
		if err == nil {
			err = s.DeleteMsg(ctx, seq)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	is := func(serving, next int) {
		t.Helper()
		l, err := ReadLayouts(ctx, js)
		if err != nil || l.Serving.Partitions != serving || l.Next.Partitions != next {
			t.Errorf("%+v, %v: expected %d, then %d", l, err, serving, next)
		}
	}
	is(64, 64)
	var stored []uint64
	for _, n := range []int{16, 64, 16, 250} {
		stored = append(stored, publish())
		if err := Repartition(ctx, js, n); err != nil {
			t.Fatal(err)
		}
	}
	for i, serving := range []int{64, 16, 64, 16} {
		is(serving, 250)
		remove(stored[i])
	}
	is(250, 250)
	if err := Repartition(ctx, js, 250); err != nil {
		t.Fatal(err)
	}
	if m, err := GetSequence(ctx, nc, Jobs, publish()); err != nil || !strings.HasPrefix(m.Subject, "dspex.p250-4.") {
		t.Errorf("it lies under %s, %v", m.Subject, err)
	}
}
