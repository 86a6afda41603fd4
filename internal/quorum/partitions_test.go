package quorum_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/natstest"
	"github.com/dspex/dspex/internal/stream"
)

// TestAStreamOfAnEarlierReleaseGetsShardsOnlyWhileEveryReplicaHasAllJobs: a server applies the transform to what it stores, also to what
// came before the change.
func TestAStreamOfAnEarlierReleaseGetsShardsOnlyWhileEveryReplicaHasAllJobs(t *testing.T) {
	c := natstest.RunCluster(t)
	js, err := jetstream.New(natstest.Connect(t, c.Servers[1]))
	if err != nil {
		t.Fatal(err)
	}
	settings := stream.Settings{Partitions: 4, Replicas: 3, JobsBytes: 64 << 20, ResultsBytes: 64 << 20, DeadBytes: 64 << 20}
	eventually(t, "the streams are there", func() error { _, err := stream.Ensure(t.Context(), js, settings); return err })
	eventually(t, "the stream is as an earlier release made it", func() error {
		s, err := js.Stream(t.Context(), stream.Jobs)
		if err != nil {
			return err
		}
		cfg := s.CachedInfo().Config
		cfg.Metadata = nil
		cfg.SubjectTransform.Destination = strings.Replace(cfg.SubjectTransform.Destination, "partition(256,", "partition(8,", 1)
		_, err = js.UpdateStream(t.Context(), cfg)
		return err
	})
	change := func(n int) error { return stream.Repartition(t.Context(), js, n) }
	c.Cut()
	eventually(t, "the other two elect a leader, and it finds one that is behind", func() error {
		_, err := js.Publish(t.Context(), "dspex.session.s", nil)
		if err == nil {
			err = change(16)
			if _, behind := errors.AsType[*stream.NotCurrentError](err); !behind {
				return errors.Join(errors.New("the change was not refused"), err)
			}
			err = nil
		}
		return err
	})
	if n, err := stream.PartitionsOf(t.Context(), js); err != nil || n != 8 {
		t.Fatalf("%d partitions, %v", n, err)
	}
	eventually(t, "what shards there are can be shared all the time", func() error { return change(4) })
	c.Mend()
	eventually(t, "more of them when the cut is over", func() error { return change(16) })
	c.Cut()
	eventually(t, "then never again", func() error { return change(250) })
	c.Mend()
}

// held are the subjects of the jobs in one broker's replica of the stream.
func held(t *testing.T, nc *nats.Conn) map[uint64]string {
	t.Helper()
	all := map[uint64]string{}
	for next := uint64(1); next > 0; {
		var err error
		next, err = stream.GetPage(t.Context(), nc, stream.Page{Stream: stream.Jobs, Subject: "dspex.>", From: next, Messages: 1000, Bytes: 1 << 20}, func(m stream.Stored) error {
			all[m.Sequence] = m.Subject
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// TestAllReplicasHoldEachJobUnderOneSubjectThoughTheNumberOfPartitionsChangesMeanwhile publishes all the time; nothing waits for a
// moment in which the replicas are of one mind.
func TestAllReplicasHoldEachJobUnderOneSubjectThoughTheNumberOfPartitionsChangesMeanwhile(t *testing.T) {
	c := natstest.RunCluster(t)
	js, err := jetstream.New(natstest.Connect(t, c.Servers[1]))
	if err != nil {
		t.Fatal(err)
	}
	settings := stream.Settings{Partitions: 4, Replicas: 3, JobsBytes: 64 << 20, ResultsBytes: 64 << 20, DeadBytes: 64 << 20}
	eventually(t, "the streams are there", func() error { _, err := stream.Ensure(t.Context(), js, settings); return err })
	const changes, each = 60, 40 // jobs for each change
	var stored atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var publishers sync.WaitGroup
	for p := range 48 {
		publishers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if _, err := js.Publish(ctx, fmt.Sprintf("dspex.session.s%d_%d", p, n), nil); err == nil {
					stored.Add(1)
				}
			}
		})
	}
	for n := range changes {
		until := int64(each * (n + 1))
		eventually(t, "jobs are stored", func() error {
			if have := stored.Load(); have < until {
				return fmt.Errorf("%d of %d", have, until)
			}
			return nil
		})
		eventually(t, "a change", func() error { return stream.Repartition(t.Context(), js, 5+n) })
	}
	stop()
	publishers.Wait()
	eventually(t, "all replicas have as many", func() error {
		s, err := js.Stream(t.Context(), stream.Jobs)
		if err != nil {
			return err
		}
		for _, r := range s.CachedInfo().Cluster.Replicas {
			if !r.Current || r.Lag > 0 {
				return fmt.Errorf("%s is behind", r.Name)
			}
		}
		return nil
	})
	first := held(t, natstest.Connect(t, c.Servers[0]))
	if len(first) < changes*each {
		t.Errorf("%d jobs are held, want at least %d", len(first), changes*each)
	}
	for n, server := range c.Servers[1:] {
		if other := held(t, natstest.Connect(t, server)); !maps.Equal(first, other) {
			different := 0
			for seq, subject := range first {
				if other[seq] != subject {
					different++
				}
			}
			t.Errorf("n0 and n%d hold %d of %d jobs under different subjects", n+1, different, len(first))
		}
	}
}
