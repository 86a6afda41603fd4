package dispatch_test

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/dispatch"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/natstest"
	"github.com/dspex/dspex/internal/stream"
)

// probing runs a dispatcher that probes often, and a host that only sends heartbeats.
func probing(t *testing.T, set func(*dispatch.Config)) (*nats.Conn, *dispatch.Dispatcher) {
	t.Helper()
	s := natstest.Run(t, func(o *server.Options) { o.JetStreamMaxStore = 64 << 30 })
	cfg := dispatch.Config{Name: "d1", NC: natstest.Connect(t, s), ProbeEach: 50 * time.Millisecond, Settings: stream.Settings{ResultsBytes: 1 << 20}}
	if set != nil {
		set(&cfg)
	}
	d, err := dispatch.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	nc := natstest.Connect(t, s)
	beat, err := json.Marshal(control.Heartbeat{Host: "h1", Incarnation: "1", Workers: 1, Active: 1, Capacity: 1, Free: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"beat", "ping"} {
		if _, err := nc.Subscribe(jobs.SubjectControl+"h1."+verb, func(m *nats.Msg) { _ = m.Respond(beat) }); err != nil {
			t.Fatal(err)
		}
	}
	var done sync.WaitGroup
	done.Go(func() {
		if err := d.Run(t.Context()); err != nil {
			t.Error(err)
		}
	})
	done.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for t.Context().Err() == nil {
			_ = nc.Publish(jobs.SubjectHeartbeat+"h1", beat)
			<-tick.C
		}
	})
	t.Cleanup(done.Wait)
	return nc, d
}

type healthy struct {
	OK     bool
	Result struct {
		Status  string
		Reasons []string
	}
	Error struct{ Code string }
}

// healthIs reads the health until it is as expected.
func healthIs(t *testing.T, nc *nats.Conn, wanted func(healthy) bool) {
	t.Helper()
	last := ""
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(30 * time.Second); ; {
		m, err := nc.Request(jobs.RPCHealth, nil, 5*time.Second)
		var h healthy
		if err == nil {
			last = string(m.Data)
		}
		if err == nil && json.Unmarshal(m.Data, &h) == nil && wanted(h) {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("the health stays %s (%v)", last, err)
		}
	}
}

func fillResults(t *testing.T, nc *nats.Conn, bytes int) {
	t.Helper()
	w, err := stream.NewWriter(nc)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	b := stream.NewBucket(nc, w, stream.Results)
	for n := range bytes >> 13 {
		if _, err := b.PutSync("r.a.filler"+string(rune('a'+n/26%26))+string(rune('a'+n%26))+string(rune('a'+n/676)), make([]byte, 8000), 0, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
}

func warns(h healthy) bool {
	return slices.ContainsFunc(h.Result.Reasons, func(r string) bool {
		return strings.Contains(r, "KV_dspex_results uses ") && strings.Contains(r, "--results-size")
	})
}

func TestHealthWarnsWhileOutcomesUseMostOfTheirRoom(t *testing.T) {
	nc, d := probing(t, nil)
	healthIs(t, nc, func(h healthy) bool { return h.OK && !warns(h) })
	fillResults(t, nc, 3<<18) // three quarters
	healthIs(t, nc, func(h healthy) bool { return h.OK && h.Result.Status == "degraded" && warns(h) })
	registry := prometheus.NewRegistry()
	registry.MustRegister(d)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "dspex_stream_fill" && m.GetLabel()[0].GetValue() == stream.ResultsStream && m.GetGauge().GetValue() < 0.7 {
				t.Errorf("fill %v", m.GetGauge().GetValue())
			}
		}
	}
}

func TestAStreamWithoutRoomRefusesTheHealthCheckAndHealsByItself(t *testing.T) {
	nc, _ := probing(t, nil)
	healthIs(t, nc, func(h healthy) bool { return h.OK })
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	bound := func(bytes int64) {
		s, err := js.Stream(t.Context(), stream.RecordsStream)
		if err != nil {
			t.Fatal(err)
		}
		cfg := s.CachedInfo().Config
		cfg.MaxBytes = bytes
		if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	bound(1)
	healthIs(t, nc, func(h healthy) bool { return h.Error.Code == "store_full" })
	bound(-1)
	healthIs(t, nc, func(h healthy) bool { return h.OK })
}

func TestOldOutcomesGoBeforeNewOnesAreRefusedIfThatIsConfigured(t *testing.T) {
	nc, _ := probing(t, func(c *dispatch.Config) { c.ResultsMinAge = time.Nanosecond })
	healthIs(t, nc, func(h healthy) bool { return h.OK })
	fillResults(t, nc, 15<<16) // more than 85 %
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	healthIs(t, nc, func(h healthy) bool {
		s, err := js.Stream(t.Context(), stream.ResultsStream)
		return err == nil && h.OK && s.CachedInfo().State.Bytes < 85<<20/100
	})
}
