package stream

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/affinity"
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
	for _, n := range []int{16, 65, 250, 64} {
		stored = append(stored, publish())
		if err := Repartition(ctx, js, n); err != nil {
			t.Fatal(err)
		}
		if n == 16 {
			is(16, 16)
		}
	}
	serves := func(want Layout) {
		t.Helper()
		if l, err := ReadLayouts(ctx, js); err != nil || l.Serving != want || l.Next != (Layout{"p256-1", 256, 64}) {
			t.Errorf("%+v, %v: %+v is to be served", l, err, want)
		}
	}
	serves(Layout{FirstLayout, 64, 64})
	remove(stored[0])
	serves(Layout{FirstLayout, 64, 64})
	remove(stored[1])
	serves(Layout{"p256-1", 256, 64})
	if l, err := ReadLayouts(ctx, js); err != nil || l.Serving != l.Next || l.Before != 250 {
		t.Errorf("%+v, %v", l, err)
	}
	if err := Repartition(ctx, js, 250); err != nil {
		t.Fatal(err)
	}
	is(250, 250)
	if m, err := GetSequence(ctx, nc, Jobs, publish()); err != nil || !strings.HasPrefix(m.Subject, "dspex.p256-1.") {
		t.Errorf("it lies under %s, %v", m.Subject, err)
	}
}

// TestALayoutThatAnEarlierReleaseMadeHasAsManyShards: its jobs are found where they lie, and another number needs no other transform.
func TestALayoutThatAnEarlierReleaseMadeHasAsManyShards(t *testing.T) {
	nc := natstest.Connect(t, natstest.Run(t))
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	settings := Settings{Partitions: 64, JobsBytes: 64 << 20, ResultsBytes: 64 << 20, DeadBytes: 64 << 20}
	if _, err := Ensure(ctx, js, settings); err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(ctx, Jobs)
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	cfg.SubjectTransform.Destination = strings.Replace(cfg.SubjectTransform.Destination, "dspex.p.{{partition(64,", "dspex.p16-1.{{partition(16,", 1)
	cfg.Metadata = map[string]string{firstCount: "64", layoutBefore: "p", layoutSince: "1"}
	if _, err := js.UpdateStream(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	if n, err := Ensure(ctx, js, settings); err != nil || n != 16 {
		t.Fatalf("%d partitions, %v", n, err)
	}
	for _, c := range []struct {
		partitions int
		want       Layout
	}{{16, Layout{"p16-1", 16, 16}}, {5, Layout{"p16-1", 16, 5}}, {32, Layout{"p256-2", 256, 32}}} {
		if err := Repartition(ctx, js, c.partitions); err != nil {
			t.Fatal(err)
		}
		if l, err := ReadLayouts(ctx, js); err != nil || l.Serving != c.want || l.Next != c.want {
			t.Errorf("%d partitions: %+v, %v; want %+v", c.partitions, l, err, c.want)
		}
	}
}

func TestEveryShardIsInOnePartition(t *testing.T) {
	for _, l := range []Layout{{FirstLayout, 64, 64}, {FirstLayout, 64, 7}, {"p256-1", 256, 1}, {"p256-1", 256, 250}} {
		found := map[string]int{}
		for n := range l.Partitions {
			o := OwnerIn(l, "h", "")
			if got := o.Filters(n); !slices.Equal(got, l.Filters(n)) || len(got) == 0 || !o.In(l) {
				t.Errorf("%+v, partition %d: %v by its entry, %v by the layout", l, n, got, l.Filters(n))
			}
			for _, f := range l.Filters(n) {
				found[f]++
			}
		}
		if len(found) != l.Shards {
			t.Errorf("%+v: %d of its shards are in partitions", l, len(found))
		}
		for session := range 100 {
			id := strconv.Itoa(session)
			want := Layout{l.Token, l.Shards, l.Shards}.Filters(affinity.Partition(id, l.Shards))[0]
			if !slices.Contains(l.Filters(l.Partition(id)), want) {
				t.Errorf("%+v: session %s lies under %s, not in its partition", l, id, want)
			}
		}
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
		if got := changing(cfg, now); got != c.want {
			t.Errorf("%s: unsettled is %v, want %v", name, got, c.want)
		}
	}
}
