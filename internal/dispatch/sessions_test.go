package dispatch_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/dispatch"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/natstest"
	"github.com/dspex/dspex/internal/stream"
)

// start runs a dispatcher, without hosts, and returns a connection to its broker.
func start(t *testing.T) *nats.Conn {
	t.Helper()
	s := natstest.Run(t, func(o *server.Options) { o.JetStreamMaxStore = 64 << 30 })
	d, err := dispatch.New(dispatch.Config{Name: "d1", NC: natstest.Connect(t, s)})
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		if err := d.Run(t.Context()); err != nil { // ends before the test's clean-up
			t.Error(err)
		}
	})
	t.Cleanup(done.Wait)
	nc := natstest.Connect(t, s)
	for end := time.Now().Add(30 * time.Second); ; {
		_, err := nc.Request(jobs.RPCStats, nil, 5*time.Second)
		if err == nil {
			return nc
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// write puts records of n sessions into the bucket.
func write(t *testing.T, nc *nats.Conn, n int, record func(n int) (id string, r jobs.Record)) {
	t.Helper()
	w, err := stream.NewWriter(nc)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	bucket := stream.NewBucket(nc, w, stream.Sessions)
	var wg sync.WaitGroup
	window := make(chan struct{}, 256)
	for i := range n {
		id, r := record(i)
		wg.Add(1)
		window <- struct{}{}
		bucket.Put(jobs.SessionRef{Tenant: jobs.DefaultTenant, ID: id}.RecordKey(), r.Append(nil), 0, time.Hour, func(_ uint64, err error) {
			defer wg.Done()
			<-window
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

type page struct {
	OK     bool
	Result struct {
		Sessions []struct {
			SessionID  string `json:"session_id"`
			Unreadable string
			Expired    bool
			Operations int
		}
		Cursor string
	}
}

func list(t *testing.T, nc *nats.Conn, ask map[string]any) page {
	t.Helper()
	body, err := json.Marshal(ask)
	if err != nil {
		t.Fatal(err)
	}
	m, err := nc.Request(jobs.RPCSessionsList, body, 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var p page
	if err := json.Unmarshal(m.Data, &p); err != nil || !p.OK {
		t.Fatalf("%s %v", m.Data, err)
	}
	return p
}

func session(n int) (string, jobs.Record) {
	now := time.Now()
	return fmt.Sprintf("s%d", n), jobs.Record{Created: now, Updated: now, Jobs: uint64(n + 1)}
}

// A page may also end early because it took its time. The dispatcher's own probes of the bucket take a few sequences.
func TestOneListRequestLooksAtABoundedNumberOfRecords(t *testing.T) {
	const most, probed = 10_000, 64
	nc := start(t)
	write(t, nc, most+600, session)
	ask := map[string]any{"prefix": fmt.Sprintf("s%d", most+599)}
	found, pages, before := 0, 0, 0
	for cursor := "0"; cursor != ""; pages++ {
		p := list(t, nc, ask)
		found += len(p.Result.Sessions)
		if cursor = p.Result.Cursor; cursor == "" {
			continue
		}
		at, err := strconv.Atoi(cursor)
		if err != nil || at <= before || at > before+most+probed {
			t.Fatalf("page %d ends at %q, the one before at %d: %v", pages+1, cursor, before, err)
		}
		ask["cursor"], before = cursor, at
	}
	if found != 1 || pages < 2 {
		t.Errorf("the session was found %d times on %d pages", found, pages)
	}
}

func TestAListTellsEmptyExpiredAndUnreadableRecordsApart(t *testing.T) {
	nc := start(t)
	write(t, nc, 4, func(n int) (string, jobs.Record) {
		id, r := session(n)
		switch n {
		case 1:
			r.Jobs = 0 // after a cleanup
		case 2:
			r.Updated = r.Updated.Add(-2 * time.Hour)
		}
		return id, r
	})
	w, err := stream.NewWriter(nc)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := stream.NewBucket(nc, w, stream.Sessions).PutSync(jobs.SessionRef{Tenant: jobs.DefaultTenant, ID: "bad"}.RecordKey(), []byte("?"), 0, time.Hour); err != nil {
		t.Fatal(err)
	}
	got := list(t, nc, map[string]any{}).Result.Sessions
	switch {
	case len(got) != 4:
		t.Errorf("len(got) must be 4, got %v; %+v", len(got), got)
	case got[0].SessionID != "s0":
		t.Errorf(`got[0].SessionID must be "s0", got %v; %+v`, got[0].SessionID, got)
	case got[0].Expired:
		t.Errorf("must not hold: got[0].Expired; %+v", got)
	case got[1].SessionID != "s2":
		t.Errorf(`got[1].SessionID must be "s2", got %v; %+v`, got[1].SessionID, got)
	case !got[1].Expired:
		t.Errorf("must hold: got[1].Expired; %+v", got)
	case got[2].SessionID != "s3":
		t.Errorf(`got[2].SessionID must be "s3", got %v; %+v`, got[2].SessionID, got)
	case got[3].SessionID != "bad":
		t.Errorf(`got[3].SessionID must be "bad", got %v; %+v`, got[3].SessionID, got)
	case got[3].Unreadable == "":
		t.Errorf(`got[3].Unreadable must not be ""; %+v`, got)
	}
}
