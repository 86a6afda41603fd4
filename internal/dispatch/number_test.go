package dispatch_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

func setPartitions(t *testing.T, nc *nats.Conn, n int) (*nats.Msg, map[string]any) {
	t.Helper()
	m, err := nc.Request(jobs.RPCPartitionsSet, fmt.Appendf(nil, `{"partitions": %d}`, n), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var r struct{ Result map[string]any }
	if err := json.Unmarshal(m.Data, &r); err != nil {
		t.Fatal(err)
	}
	return m, r.Result
}

// TestNothingOfAnotherNumberIsAssignedBeforeAllIsGivenBack: partitions of two layouts have sessions in common.
func TestNothingOfAnotherNumberIsAssignedBeforeAllIsGivenBack(t *testing.T) {
	nc := start(t)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), stream.Assign)
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan *nats.Msg, 64)
	if _, err := nc.ChanSubscribe(jobs.SubjectControl+"h.release", asked); err != nil {
		t.Fatal(err)
	}
	ask := func(partitions int) {
		t.Helper()
		var r control.Release
		for end := time.After(30 * time.Second); len(r.Partitions) != partitions; {
			select {
			case m := <-asked:
				r = control.Release{}
				if err := json.Unmarshal(m.Data, &r); err != nil || r.Patient {
					t.Fatalf("%s: a partition whose attempts never pause holds all others up, %v", m.Data, err)
				}
			case <-end:
				t.Fatalf("the host was asked for %d partitions, not for %d", len(r.Partitions), partitions)
			}
		}
	}
	held := watchHoldings(t, nc)
	imagined(t, nc, "h", map[string]any{"releases": true, "slots": true})
	held.await("h", 64)
	switch _, now := setPartitions(t, nc, 16); {
	case now["partitions"] != 16.0:
		t.Errorf(`now["partitions"] must be 16.0, got %v; the answer is %v`, now["partitions"], now)
	case now["serving"] != 64.0:
		t.Errorf(`now["serving"] must be 64.0, got %v; the answer is %v`, now["serving"], now)
	case now["changing"] != true:
		t.Errorf(`now["changing"] must be true, got %v; the answer is %v`, now["changing"], now)
	case now["held"] != 64.0:
		t.Errorf(`now["held"] must be 64.0, got %v; the answer is %v`, now["held"], now)
	}
	ask(64) // at once
	for n := range 63 {
		if err := kv.Delete(t.Context(), jobs.AssignmentKey(n)); err != nil {
			t.Fatal(err)
		}
	}
	ask(1) // a later plan
	for n := range 63 {
		if _, err := kv.Get(t.Context(), jobs.AssignmentKey(n)); !errors.Is(err, jetstream.ErrKeyNotFound) {
			t.Errorf("partition %d was assigned while one of before was held: %v", n, err)
		}
	}
	before, err := stream.GetLast(t.Context(), nc, "KV_"+stream.Assign, "$KV."+stream.Assign+".p.40")
	if err != nil {
		t.Fatal(err)
	}
	if err := kv.Delete(t.Context(), jobs.AssignmentKey(63)); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); ; <-tick.C {
		e, err := kv.Get(t.Context(), jobs.AssignmentKey(15))
		if err == nil {
			if o, err := stream.ParseOwner(e.Value()); err != nil || !o.In(stream.Layout{Token: stream.FirstLayout, Shards: 64, Partitions: 16}) {
				t.Errorf("partition 15: %+v, %v", o, err)
			}
			break
		}
		if time.Now().After(end) {
			t.Fatalf("no partition of the new number is assigned: %v", err)
		}
	}
	// A leader of before that has read the deleted entry cannot write one of its own number.
	if after, err := stream.GetLast(t.Context(), nc, "KV_"+stream.Assign, "$KV."+stream.Assign+".p.40"); err != nil || after.Sequence <= before.Sequence {
		t.Errorf("the revision of an entry of before is %d as it was: %v", before.Sequence, err)
	}
}

// TestWhatIsNotGivenBackIsTaken: the host reports that it releases nothing, as a dead one reports nothing.
func TestWhatIsNotGivenBackIsTaken(t *testing.T) {
	nc := start(t)
	held := watchHoldings(t, nc)
	imagined(t, nc, "h", map[string]any{"slots": true})
	held.await("h", 64)
	setPartitions(t, nc, 16)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); ; <-tick.C {
		m, err := nc.Request(jobs.RPCHostsList, nil, 5*time.Second)
		if err == nil && bytes.Contains(m.Data, []byte(`"partitions":16,"unassigned":0`)) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s, %v", m.Data, err)
		}
	}
}

func TestTheNumberIsNotChangedWhileAHostCouldNotServeIt(t *testing.T) {
	nc := start(t)
	held := watchHoldings(t, nc)
	imagined(t, nc, "earlier", map[string]any{"releases": true})
	held.await("earlier", 64)
	m, _ := setPartitions(t, nc, 16)
	if !bytes.Contains(m.Data, []byte(jobs.CodePoolUnavailable)) || !bytes.Contains(m.Data, []byte("host earlier is of an earlier one")) {
		t.Errorf("the answer is %s", m.Data)
	}
}
