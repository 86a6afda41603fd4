package quorum_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/link"
	"github.com/dspex/dspex/internal/natstest"
	"github.com/dspex/dspex/internal/quorum"
	"github.com/dspex/dspex/internal/stream"
)

const patience = 90 * time.Second

// eventually waits until f is content.
func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// deployment is a cluster with a replicated stream of jobs, and a watched connection to one of its brokers.
type deployment struct {
	*natstest.Cluster
	nc   *nats.Conn // watched
	far  *nats.Conn // to the second broker
	ends sync.WaitGroup
}

func deploy(t *testing.T, leader string, watched int) *deployment {
	t.Helper()
	d := &deployment{Cluster: natstest.RunCluster(t)}
	d.far = natstest.Connect(t, d.Servers[1])
	js, err := jetstream.New(d.far)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a replicated stream", func() error {
		_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: stream.Jobs, Subjects: []string{"jobs"}, Replicas: 3})
		return err
	})
	eventually(t, leader+" leads", func() error {
		check, err := json.Marshal(map[string]any{"placement": map[string]any{"preferred": leader}})
		if err != nil {
			return err
		}
		if d.leader(t) == leader {
			return nil
		}
		_, err = d.far.Request("$JS.API.STREAM.LEADER.STEPDOWN."+stream.Jobs, check, time.Second)
		return errors.Join(err, fmt.Errorf("%s leads", d.leader(t)))
	})
	d.nc = natstest.Connect(t, d.Servers[watched], link.ConnectOptions("watched")...)
	eventually(t, "the servers are known", func() error {
		if n := len(d.nc.Servers()); n != 3 {
			return fmt.Errorf("%d of them", n)
		}
		return stream.CheckQuorum(t.Context(), d.nc)
	})
	ctx, cancel := context.WithCancel(t.Context())
	d.ends.Go(func() { quorum.New(d.nc, stream.CheckQuorum, slog.New(slog.DiscardHandler)).Run(ctx) })
	t.Cleanup(func() { cancel(); d.ends.Wait() })
	return d
}

func (d *deployment) leader(t *testing.T) string {
	t.Helper()
	js, err := jetstream.New(d.far)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), stream.Jobs)
	if err != nil {
		return ""
	}
	return s.CachedInfo().Cluster.Leader
}

func TestACutOffBrokerIsLeftForOneThatHasQuorum(t *testing.T) {
	for name, leader := range map[string]string{"it follows": "n1", "it leads": "n0"} {
		t.Run(name, func(t *testing.T) {
			d := deploy(t, leader, 0)
			d.Cut()
			began := time.Now()
			eventually(t, "the cut-off broker is left", func() error {
				if d.nc.ConnectedServerName() == "n0" || !d.nc.IsConnected() {
					return fmt.Errorf("still on %s, %v", d.nc.ConnectedServerName(), d.nc.Status())
				}
				return nil
			})
			t.Logf("left after %v", time.Since(began).Round(100*time.Millisecond))
			eventually(t, "something is stored", func() error {
				js, err := jetstream.New(d.nc)
				if err != nil {
					return err
				}
				_, err = js.Publish(t.Context(), "jobs", nil)
				return err
			})
			d.Mend()
		})
	}
}

func TestAnElectionMovesNobody(t *testing.T) {
	d := deploy(t, "n0", 1)
	js, err := jetstream.New(d.nc)
	if err != nil {
		t.Fatal(err)
	}
	d.Cut() // the leader is gone, without a word
	began := time.Now()
	eventually(t, "something is stored by the next leader", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := js.Publish(ctx, "jobs", nil)
		return err
	})
	t.Logf("the election took %v", time.Since(began).Round(100*time.Millisecond))
	eventually(t, "the broker answers", func() error { return stream.CheckQuorum(t.Context(), d.nc) })
	if n := d.nc.Stats().Reconnects; n != 0 || d.nc.ConnectedServerName() != "n1" {
		t.Errorf("%d reconnects, connected to %s", n, d.nc.ConnectedServerName())
	}
	d.Mend()
}
