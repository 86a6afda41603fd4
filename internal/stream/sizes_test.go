package stream_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/natstest"
	"github.com/dspex/dspex/internal/stream"
)

func deployed(t *testing.T, s stream.Settings) (*nats.Conn, jetstream.JetStream, *stream.Writer) {
	t.Helper()
	nc := natstest.Connect(t, natstest.Run(t))
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Ensure(t.Context(), js, s); err != nil {
		t.Fatal(err)
	}
	w, err := stream.NewWriter(nc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return nc, js, w
}

var small = stream.Settings{Partitions: 4, JobsBytes: 64 << 20, ResultsBytes: 64 << 20, DeadBytes: 64 << 20}

func sizeOf(t *testing.T, js jetstream.JetStream, name string) int64 {
	t.Helper()
	s, err := js.Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().Config.MaxBytes
}

func outcomes(t *testing.T, nc *nats.Conn, w *stream.Writer, n, bytes int) {
	t.Helper()
	b := stream.NewBucket(nc, w, stream.Results)
	for i := range n {
		if _, err := b.PutSync(fmt.Sprint("r.a.job", i), make([]byte, bytes), 0, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSizesOfARunningDeploymentChangeAndHoldWhatIsThere(t *testing.T) {
	nc, js, w := deployed(t, small)
	outcomes(t, nc, w, 20, 100<<10)
	if _, err := stream.Ensure(t.Context(), js, stream.Settings{ResultsBytes: 32 << 20}); err != nil || sizeOf(t, js, stream.ResultsStream) != 64<<20 {
		t.Errorf("a size for new objects changed one that is there: %v", err)
	}
	for _, want := range []int64{128 << 20, 4 << 20} {
		if _, err := stream.Ensure(t.Context(), js, stream.Settings{Resize: true, ResultsBytes: want}); err != nil || sizeOf(t, js, stream.ResultsStream) != want {
			t.Errorf("%d MiB: got %d, %v", want>>20, sizeOf(t, js, stream.ResultsStream)>>20, err)
		}
	}
	if got := sizeOf(t, js, stream.Jobs); got != 64<<20 {
		t.Errorf("a size that nobody asked for changed to %d", got)
	}
	_, err := stream.Ensure(t.Context(), js, stream.Settings{Resize: true, ResultsBytes: 1 << 20})
	if err == nil || !strings.Contains(err.Error(), "--results-size must be at least") || sizeOf(t, js, stream.ResultsStream) != 4<<20 {
		t.Errorf("a size below what is held: %v", err)
	}
}

func TestTheOldestOutcomesAreFoundButNoneThatIsYoung(t *testing.T) {
	nc, js, w := deployed(t, small)
	b := stream.NewBucket(nc, w, stream.Results)
	if _, err := b.PutSync("t.running", nil, 0, time.Hour); err != nil { // attempts of a job that has no outcome yet
		t.Fatal(err)
	}
	outcomes(t, nc, w, 50, 1)
	border, err := b.Get(t.Context(), "r.a.job20")
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), stream.ResultsStream)
	if err != nil {
		t.Fatal(err)
	}
	find := func(before time.Time, parts uint64) uint64 {
		below, err := stream.OlderThan(t.Context(), nc, s.CachedInfo(), before, parts)
		if err != nil {
			t.Fatal(err)
		}
		return below
	}
	if got := find(border.Stored, 1); got != border.Revision {
		t.Errorf("before the 21st outcome: below %d, want %d", got, border.Revision)
	}
	if got := find(border.Stored.Add(-time.Hour), 1); got != 0 {
		t.Errorf("all are young: below %d, want 0", got)
	}
	part := find(border.Stored.Add(time.Hour), 10)
	if first := border.Revision - 20; part < first+4 || part > first+7 {
		t.Errorf("the oldest tenth of 50 from %d on: below %d", first, part)
	}
	if err := s.Purge(t.Context(), jetstream.WithPurgeSubject(stream.OutcomeSubjects), jetstream.WithPurgeSequence(border.Revision)); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]bool{"t.running": true, "r.a.job19": false, "r.a.job20": true} {
		if e, err := b.Get(t.Context(), key); err != nil || e.Exists != want {
			t.Errorf("%s: %+v %v", key, e, err)
		}
	}
}

func TestAProbeOfEachObjectLeavesNothingBehind(t *testing.T) {
	nc, js, w := deployed(t, small)
	_ = nc
	for _, name := range stream.Objects() {
		if name == stream.Audit {
			continue // its probes expire
		}
		for range 3 {
			if err := stream.Probe(t.Context(), js, w, name); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		s, err := js.Stream(context.Background(), name)
		if err != nil {
			t.Fatal(err)
		}
		want := uint64(0)
		if name == stream.Jobs {
			want = 1 // its anchor
		}
		if n := s.CachedInfo().State.Msgs; n != want {
			t.Errorf("%s holds %d messages, want %d", name, n, want)
		}
	}
}

func TestAProbeOfTheAuditTrailExpires(t *testing.T) {
	nc, js, w := deployed(t, small)
	_ = nc
	if err := stream.Probe(t.Context(), js, w, stream.Audit); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); ; <-tick.C {
		s, err := js.Stream(t.Context(), stream.Audit)
		if err != nil {
			t.Fatal(err)
		}
		switch state := s.CachedInfo().State; {
		case state.LastSeq == 0:
			t.Fatal("nothing was written")
		case state.Msgs == 0:
			return
		case time.Now().After(end):
			t.Fatalf("it holds %d messages", state.Msgs)
		}
	}
}
