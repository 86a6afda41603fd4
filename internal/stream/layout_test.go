package stream

import (
	"strconv"
	"strings"
	"testing"
	"time"

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

func TestALayoutSettlesThoughTheBrokersClockWasSetBack(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		changed  time.Duration // before now
		replicas int
		want     bool
	}{
		"just changed":                  {time.Second, 3, true},
		"just changed, on one server":   {time.Second, 1, false},
		"a while ago":                   {6 * time.Second, 3, false},
		"by a clock that is a bit slow": {-time.Second, 3, true},
		"by a clock of an hour ahead":   {-time.Hour, 3, false},
	} {
		cfg := jetstream.StreamConfig{Replicas: c.replicas, Metadata: map[string]string{layoutSince: strconv.FormatInt(now.Add(-c.changed).UnixMilli(), 10)}}
		if got := unsettled(cfg, now); got != c.want {
			t.Errorf("%s: unsettled is %v, want %v", name, got, c.want)
		}
	}
}
