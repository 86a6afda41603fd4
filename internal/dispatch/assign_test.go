package dispatch_test

import (
	"encoding/json"
	"maps"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// imagined is a host that only sends heartbeats.
func imagined(t *testing.T, nc *nats.Conn, name string, more map[string]any) {
	t.Helper()
	beat := map[string]any{"host": name, "incarnation": name + "-1", "capacity": 8}
	maps.Copy(beat, more)
	body, err := json.Marshal(beat)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for tick := time.NewTicker(300 * time.Millisecond); ; {
			_ = nc.Publish(jobs.SubjectHeartbeat+name, body) // the connection outlives the test's context
			select {
			case <-t.Context().Done():
				tick.Stop()
				return
			case <-tick.C:
			}
		}
	}()
	t.Cleanup(func() { <-ended })
}

// holdings follows the assignments.
type holdings struct {
	t     *testing.T
	watch jetstream.KeyWatcher
	owner map[string]string
	moves map[string]int // "from > to"
}

func watchHoldings(t *testing.T, nc *nats.Conn) *holdings {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), stream.Assign)
	if err != nil {
		t.Fatal(err)
	}
	w, err := kv.Watch(t.Context(), jobs.AssignmentKeys)
	if err != nil {
		t.Fatal(err)
	}
	return &holdings{t: t, watch: w, owner: map[string]string{}, moves: map[string]int{}}
}

// await follows until host holds n partitions.
func (h *holdings) await(host string, n int) {
	h.t.Helper()
	limit := time.After(30 * time.Second)
	for h.count(host) != n {
		select {
		case e := <-h.watch.Updates():
			if e == nil { // all that was there has been delivered
				continue
			}
			var o stream.Owner
			if err := json.Unmarshal(e.Value(), &o); err != nil {
				h.t.Fatal(err)
			}
			h.moves[h.owner[e.Key()]+" > "+o.Host]++
			h.owner[e.Key()] = o.Host
		case <-limit:
			h.t.Fatalf("%s holds %d partitions, want %d; moves: %v", host, h.count(host), n, h.moves)
		}
	}
}

func (h *holdings) count(host string) (n int) {
	for _, o := range h.owner {
		if o == host {
			n++
		}
	}
	return n
}

func TestAHostIsAskedToReleaseIfItUnderstandsThatElseItLosesThePartition(t *testing.T) {
	nc := start(t)
	asked := map[string]chan *nats.Msg{}
	for _, name := range []string{"old", "new"} {
		asked[name] = make(chan *nats.Msg, 64)
		if _, err := nc.ChanSubscribe(jobs.SubjectControl+name+".release", asked[name]); err != nil {
			t.Fatal(err)
		}
	}
	h := watchHoldings(t, nc)
	imagined(t, nc, "old", nil) // of a release without `releases`
	h.await("old", 64)
	imagined(t, nc, "new", map[string]any{"releases": true})
	h.await("new", 32)
	imagined(t, nc, "third", nil)
	var r control.Release
	select {
	case m := <-asked["new"]:
		if err := json.Unmarshal(m.Data, &r); err != nil {
			t.Fatal(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the host that releases partitions was not asked to")
	}
	// New shall keep 22 partitions, the others 21 each: the 11 of the old host have moved, the 10 of the new one have not.
	h.await("third", 11)
	switch {
	case len(asked["old"]) > 0:
		t.Errorf(`len(asked["old"]) must be <= 0, got %v; the old host was asked %d times, moves: %v, the new host was asked %+v`, len(asked["old"]), len(asked["old"]), h.moves, r)
	case h.moves["old > third"] != 11:
		t.Errorf(`h.moves["old > third"] must be 11, got %v; the old host was asked %d times, moves: %v, the new host was asked %+v`, h.moves["old > third"], len(asked["old"]), h.moves, r)
	case len(r.Partitions) != 10:
		t.Errorf("len(r.Partitions) must be 10, got %v; the old host was asked %d times, moves: %v, the new host was asked %+v", len(r.Partitions), len(asked["old"]), h.moves, r)
	case !r.Patient:
		t.Errorf("must hold: r.Patient; the old host was asked %d times, moves: %v, the new host was asked %+v", len(asked["old"]), h.moves, r)
	}
	for n := range r.Partitions {
		if owner := h.owner[jobs.AssignmentKey(n)]; owner != "new" {
			t.Errorf("partition %d of %q is asked of the new host", n, owner)
		}
	}
}
