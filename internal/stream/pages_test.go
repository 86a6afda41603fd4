package stream_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/natstest"
	"github.com/dspex/dspex/internal/stream"
)

type system struct {
	nc      *nats.Conn
	js      jetstream.JetStream
	records *stream.Bucket
}

func start(t *testing.T) system {
	t.Helper()
	nc := natstest.Connect(t, natstest.Run(t))
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Ensure(t.Context(), js, stream.Settings{JobsBytes: 64 << 20, ResultsBytes: 64 << 20}); err != nil {
		t.Fatal(err)
	}
	w, err := stream.NewWriter(nc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return system{nc: nc, js: js, records: stream.NewBucket(nc, w, stream.Sessions)}
}

func (y system) put(t *testing.T, key, value string, rev uint64) uint64 {
	t.Helper()
	rev, err := y.records.PutSync(key, []byte(value), rev, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func TestPagesBringEveryKeyOnceInTheOrderOfTheirLastWrites(t *testing.T) {
	y := start(t)
	for n := range 25 {
		y.put(t, fmt.Sprintf("s.%d", n), fmt.Sprint("state ", n), 0)
		y.put(t, fmt.Sprintf("h.%d", n), "head", 0)
	}
	e, err := y.records.Get(t.Context(), "s.3")
	if err != nil {
		t.Fatal(err)
	}
	y.put(t, "s.3", "again", e.Revision)
	var keys []string
	pages := 0
	for next := uint64(1); next > 0; pages++ {
		next, err = y.records.Page(t.Context(), "s.*", stream.Page{From: next, Messages: 10, Bytes: 1 << 20}, func(key string, e stream.Entry) error {
			keys = append(keys, key)
			if !e.Exists || len(e.Value) == 0 {
				t.Errorf("%s: %+v", key, e)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	switch {
	case len(keys) != 25:
		t.Errorf("len(keys) must be 25, got %v; %d pages: %v", len(keys), pages, keys)
	case pages != 3:
		t.Errorf("pages must be 3, got %v; %d pages: %v", pages, pages, keys)
	case keys[0] != "s.0":
		t.Errorf(`keys[0] must be "s.0", got %v; %d pages: %v`, keys[0], pages, keys)
	case keys[3] != "s.4":
		t.Errorf(`keys[3] must be "s.4", got %v; %d pages: %v`, keys[3], pages, keys)
	case keys[24] != "s.3":
		t.Errorf(`keys[24] must be "s.3", got %v; %d pages: %v`, keys[24], pages, keys)
	}
}

func TestAPageIsBoundedByItsBytesAndEndsWithTheCallersError(t *testing.T) {
	y := start(t)
	for n := range 5 {
		y.put(t, fmt.Sprintf("s.%d", n), string(make([]byte, 1000)), 0)
	}
	count := 0
	next, err := y.records.Page(t.Context(), "s.*", stream.Page{Messages: 100, Bytes: 1500}, func(string, stream.Entry) error { count++; return nil })
	if err != nil || count != 2 || next == 0 {
		t.Errorf("%d entries, next %d, %v", count, next, err)
	}
	enough := errors.New("enough")
	if _, err := y.records.Page(t.Context(), "s.*", stream.Page{Messages: 100, Bytes: 1 << 20}, func(string, stream.Entry) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
	if next, err := y.records.Page(t.Context(), "x.*", stream.Page{Messages: 100, Bytes: 1 << 20}, func(string, stream.Entry) error { return enough }); next != 0 || err != nil {
		t.Errorf("no such key: next %d, %v", next, err)
	}
}

func TestADeletedKeyIsAbsentAndItsMarkerIsTheNextRevision(t *testing.T) {
	y := start(t)
	rev := y.put(t, "s.x", "v", 0)
	if _, err := y.records.Delete("s.x", rev+1); !errors.Is(err, stream.ErrWrongRevision) {
		t.Errorf("a delete that saw another revision: %v", err)
	}
	marker, err := y.records.Delete("s.x", rev)
	if err != nil {
		t.Fatal(err)
	}
	if e, err := y.records.Get(t.Context(), "s.x"); err != nil || e.Exists || e.Revision != marker {
		t.Errorf("%+v %v", e, err)
	}
	y.put(t, "s.x", "again", marker)
}

func TestAWriteRenewsTheTimeToLive(t *testing.T) {
	y := start(t)
	rev := y.put(t, "s.x", "v", 0)
	y.put(t, "s.x", "w", rev)
	m, err := stream.GetLast(context.Background(), y.nc, "KV_"+stream.Sessions, y.records.Subject("s.x"))
	if err != nil || m.Header.Get("Nats-TTL") != "3600s" {
		t.Errorf("%+v %v", m, err)
	}
}
