package host

import (
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/natstest"
	"github.com/dspex/dspex/internal/stream"
)

func named(id string) jobs.SessionRef { return jobs.SessionRef{Tenant: jobs.DefaultTenant, ID: id} }

func TestSessionsThatHaveWaitedForLongAreFound(t *testing.T) {
	var w turns
	p := &partition{starts: t.Context()}
	for id, waited := range map[string]time.Duration{"old": time.Hour, "new": 0} {
		w.enter(&session{p: p, ref: named(id), wants: time.Now().Add(-waited)}) // no turn is free: nothing starts
		w.parked.PushBack(parked{session: &session{p: p, ref: named("parked-" + id), wants: time.Now().Add(-waited)}})
	}
	if got := w.waitingFor(time.Minute); !slices.Equal(got, []jobs.SessionRef{named("old"), named("parked-old")}) {
		t.Errorf("waiting: %v", got)
	}
}

func TestExtendingAKeyChangesItsLifeAlone(t *testing.T) {
	nc := natstest.Connect(t, natstest.Run(t, func(o *server.Options) { o.JetStreamMaxStore = 64 << 30 }))
	js, err := jetstream.New(nc)
	if err == nil {
		_, err = stream.Ensure(t.Context(), js, stream.Settings{})
	}
	if err != nil {
		t.Fatal(err)
	}
	w, err := stream.NewWriter(nc)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	h := &Host{records: stream.NewBucket(nc, w, stream.Sessions)}
	if _, err := h.records.PutSync("s.x", []byte("value"), 0, time.Minute); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"s.x", "s.absent"} {
		if err := h.extend(t.Context(), key, time.Hour); err != nil {
			t.Error(err)
		}
	}
	m, err := stream.GetLast(t.Context(), nc, "KV_"+stream.Sessions, h.records.Subject("s.x"))
	if err != nil || string(m.Data) != "value" || m.Header.Get("Nats-TTL") != "3600s" || m.Sequence != 2 {
		t.Errorf("%+v %v", m, err)
	}
	if e, err := h.records.Get(t.Context(), "s.absent"); err != nil || e.Exists {
		t.Errorf("made from nothing: %+v %v", e, err)
	}
}
