package quorum_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/link"
	"github.com/dspex/dspex/internal/natstest"
	"github.com/dspex/dspex/internal/stream"
)

// readers are the ways in which a process waits for something of the broker: a partition, a lane, and a key of a bucket.
type readers struct {
	js       jetstream.JetStream
	on       *stream.Access
	runs     sync.WaitGroup
	received chan string
}

// read starts them on a connection, with all objects on three servers.
func read(t *testing.T, nc *nats.Conn) *readers {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	small := int64(16 << 20)
	eventually(t, "the broker objects", func() error {
		_, err := stream.Ensure(t.Context(), js, stream.Settings{Partitions: 1, Replicas: 3, JobsBytes: small, ResultsBytes: small, DeadBytes: small, AuditBytes: small, BatchBytes: small})
		return err
	})
	on, err := stream.Open(t.Context(), nc, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r := &readers{js: js, on: on, received: make(chan string, 1024)}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() { cancel(); r.runs.Wait(); on.Close() })
	r.runs.Go(func() { r.partition(ctx) })
	r.runs.Go(func() { r.lane(ctx) })
	r.runs.Go(func() {
		on.Follow(ctx, stream.Control, "seen.>", func(key string, _ stream.Entry) { r.received <- key })
	})
	return r
}

// partition takes the partition again, as a new epoch, whenever its consumer is lost.
func (r *readers) partition(ctx context.Context) {
	owner := stream.OwnerIn(stream.Layout{Token: stream.FirstLayout, Shards: stream.ManyShards, Partitions: 1}, "h", "h-1")
	seen := uint64(0)
	for ctx.Err() == nil {
		epoch, err := r.on.Claims.Write("p.0", owner, seen)
		if err != nil {
			_, seen, _ = r.on.Claims.Read(ctx, "p.0")
			continue
		}
		seen = epoch
		taken, err := r.on.Claims.Take(ctx, stream.Consumer{Key: "p.0", Prefix: "p0-e", Name: fmt.Sprintf("p0-e%d", epoch), Filters: owner.Filters(0), Epoch: epoch})
		if err != nil {
			continue
		}
		over := make(chan error, 16)
		stop, err := taken.Consume(func(d stream.Delivery) { r.received <- d.Header["Dspex-Job"][0] }, func(err error) { over <- err })
		if err != nil {
			continue
		}
		select {
		case <-ctx.Done():
		case <-over:
		}
		stop()
	}
}

func (r *readers) lane(ctx context.Context) {
	for ctx.Err() == nil {
		l, err := r.on.OpenLane(ctx, "batch", []string{"dspex.anonymous.batch"})
		if err != nil {
			continue
		}
		for err == nil && ctx.Err() == nil {
			err = l.Fetch(8, time.Second, func(d stream.Delivery) {
				_ = r.on.Send(d.Reply, nil, stream.AckDone)
				r.received <- d.Header["Dspex-Job"][0]
			})
		}
	}
}

// write has something for each of them, and returns what they are to get. A write that an election meets is made again.
func (r *readers) write(t *testing.T, round string) (all []string) {
	t.Helper()
	job := func(kind string) map[string][]string { return map[string][]string{"Dspex-Job": {kind + round}} }
	eventually(t, "a job of the session", func() error { return r.on.Store("dspex.session.s", job("partition"), []byte("{}")) })
	eventually(t, "a job of the lane", func() error { return r.on.Store("dspex.anonymous.batch", job("lane"), []byte("{}")) })
	eventually(t, "a key", func() error {
		_, err := r.on.Control.PutSync("seen."+round, []byte("{}"), 0, 0)
		if errors.Is(err, stream.ErrWrongRevision) { // it was written
			return nil
		}
		return err
	})
	return []string{"partition" + round, "lane" + round, "seen." + round}
}

func (r *readers) await(t *testing.T, all []string) {
	t.Helper()
	for end := time.After(time.Minute); len(all) > 0; {
		select {
		case got := <-r.received:
			all = slices.DeleteFunc(all, func(s string) bool { return s == got })
		case <-end:
			t.Fatalf("not within a minute: %v", all)
		}
	}
}

// TestWhoReadsTheBrokerGetsWhatComesAfterTheLossOfAServer: of the one that it is connected to, of the one that leads what it reads, and of
// the third. What is written after the loss arrives, whatever it is read by.
func TestWhoReadsTheBrokerGetsWhatComesAfterTheLossOfAServer(t *testing.T) {
	for lost := range 3 {
		t.Run(fmt.Sprint("server ", lost), func(t *testing.T) {
			c := natstest.RunCluster(t, func(o *server.Options) { o.JetStreamMaxStore = 64 << 30 })
			nc := natstest.Connect(t, c.Servers[1], link.ConnectOptions("reader")...)
			r := read(t, nc)
			r.await(t, r.write(t, "before"))
			for _, name := range []string{stream.Jobs, stream.Anonymous, "KV_" + stream.Control} {
				if s, err := r.js.Stream(t.Context(), name); err == nil {
					t.Logf("%s is led by %s", name, s.CachedInfo().Cluster.Leader)
				}
			}
			c.Servers[lost].Shutdown()
			c.Servers[lost].WaitForShutdown()
			r.await(t, r.write(t, "after"))
		})
	}
}
