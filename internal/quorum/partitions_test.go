package quorum_test

import (
	"errors"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/natstest"
	"github.com/dspex/dspex/internal/stream"
)

// TestTheNumberOfPartitionsChangesOnlyWhileEveryReplicaHasAllJobs: a server applies the transform to what it stores, also to what came
// before the change.
func TestTheNumberOfPartitionsChangesOnlyWhileEveryReplicaHasAllJobs(t *testing.T) {
	c := natstest.RunCluster(t)
	js, err := jetstream.New(natstest.Connect(t, c.Servers[1]))
	if err != nil {
		t.Fatal(err)
	}
	settings := stream.Settings{Partitions: 4, Replicas: 3, JobsBytes: 64 << 20, ResultsBytes: 64 << 20, DeadBytes: 64 << 20}
	eventually(t, "the streams are there", func() error { _, err := stream.Ensure(t.Context(), js, settings); return err })
	change := func(n int) error { return stream.Repartition(t.Context(), js, n) }
	eventually(t, "a change", func() error { return change(8) })
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
	c.Mend()
	eventually(t, "a change when the cut is over", func() error { return change(16) })
}
