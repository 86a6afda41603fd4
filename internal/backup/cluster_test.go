package backup_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/backup"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/natstest"
	"github.com/dspex/dspex/internal/stream"
)

// TestARestoredStreamIsTheSameWhoeverLeadsIt: after an election the sequences in records would else count nothing, and what was
// committed and not acknowledged would run again.
func TestARestoredStreamIsTheSameWhoeverLeadsIt(t *testing.T) {
	from, _ := deployed(t)
	dir := filepath.Join(t.TempDir(), "copy")
	if _, err := backup.Write(t.Context(), from, dir, silent); err != nil {
		t.Fatal(err)
	}
	nc := natstest.Connect(t, natstest.RunCluster(t, func(o *server.Options) { o.JetStreamMaxStore = 64 << 30 }).Servers[1])
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := backup.Restore(ctx, nc, dir, 3, silent); err != nil {
		t.Fatal(err)
	}
	identities, made := map[int64]bool{}, map[string]time.Time{}
	for len(made) < 3 {
		info, err := leading(ctx, js, stream.Jobs)
		if err != nil {
			t.Fatal(err)
		}
		identities[stream.Identity(info.Config, info.Created)], made[info.Cluster.Leader] = true, info.Created
		if _, err := nc.RequestWithContext(ctx, "$JS.API.STREAM.LEADER.STEPDOWN."+stream.Jobs, nil); err != nil && !errors.Is(err, nats.ErrNoResponders) {
			t.Fatal(err)
		}
	}
	if len(identities) != 1 {
		t.Errorf("identities %v, made %v", identities, made)
	}
	w, err := stream.NewWriter(nc)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	e, err := stream.NewBucket(nc, w, stream.Sessions).Get(ctx, "s.behind")
	if err != nil {
		t.Fatal(err)
	}
	if r, err := jobs.ParseRecord(e.Value); err != nil || !identities[r.Stream] {
		t.Errorf("the record counts in %d of %v, %v", r.Stream, identities, err)
	}
}

// leading waits for a leader that has all replicas.
func leading(ctx context.Context, js jetstream.JetStream, name string) (*jetstream.StreamInfo, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		ask, cancel := context.WithTimeout(ctx, time.Second) // without a leader there is no answer
		s, err := js.Stream(ask, name)
		cancel()
		if ctx.Err() != nil {
			return nil, errors.Join(ctx.Err(), err)
		}
		if err == nil {
			if c := s.CachedInfo().Cluster; c != nil && c.Leader != "" && len(c.Replicas) == 2 && c.Replicas[0].Current && c.Replicas[1].Current {
				return s.CachedInfo(), nil
			}
		}
		<-tick.C
	}
}
