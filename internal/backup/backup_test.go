package backup_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
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

func silent(string, uint64, uint64) {}

func empty(t *testing.T) (*nats.Conn, jetstream.JetStream, *stream.Writer) {
	t.Helper()
	nc := natstest.Connect(t, natstest.Run(t, func(o *server.Options) { o.JetStreamMaxStore = 64 << 30 }))
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	w, err := stream.NewWriter(nc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return nc, js, w
}

// deployed has a job that waits, two sessions, and outcomes; the record of "behind" does not have the latest of its outcomes.
func deployed(t *testing.T) (nc *nats.Conn, created int64) {
	t.Helper()
	nc, js, w := empty(t)
	if _, err := stream.Ensure(t.Context(), js, stream.Settings{Partitions: 4}); err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), stream.Jobs)
	if err != nil {
		t.Fatal(err)
	}
	created = s.CachedInfo().Created.UnixNano()
	publish := func(m *nats.Msg) {
		t.Helper()
		if _, err := w.PublishSync(m); err != nil {
			t.Fatal(err)
		}
	}
	publish(&nats.Msg{Subject: "dspex.session.s1", Data: []byte("waits"), Header: nats.Header{"Dspex-Job": {"j1"}, "Dspex-Mode": {"queue"}}})
	publish(&nats.Msg{Subject: "dspex.session.s1", Data: []byte("bare")})
	put := func(bucket, key string, value []byte) {
		t.Helper()
		b := stream.NewBucket(nc, w, bucket)
		if _, err := b.PutSync(key, value, 0, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	put(stream.Sessions, "s.behind", (&jobs.Record{Stream: created, LastSequence: 7, Ended: map[uint64]jobs.Kind{9: jobs.Cancelled}, Created: now, Updated: now}).Append(nil))
	put(stream.Sessions, "h.behind", (&jobs.AttemptRecord{Stream: created, Sequence: 8, Attempt: 2}).Append(nil))
	return nc, created
}

func TestARestoreIsWhatWasCopied(t *testing.T) {
	nc, created := deployed(t)
	dir := filepath.Join(t.TempDir(), "copy")
	m, err := backup.Write(t.Context(), nc, dir, silent)
	if err != nil {
		t.Fatal(err)
	}
	to, js, w := empty(t)
	if _, err := backup.Restore(t.Context(), to, dir, 0, silent); err != nil {
		t.Fatal(err)
	}
	made := map[string]*jetstream.StreamInfo{}
	for _, o := range m.Objects {
		s, err := js.Stream(t.Context(), o.Name)
		if err != nil {
			t.Fatal(err)
		}
		least := uint64(1 << 50)
		if o.Name == stream.Jobs { // jobs wait there
			least = o.Last + 1<<24
		}
		if made[o.Name] = s.CachedInfo(); made[o.Name].State.Msgs != o.Messages || made[o.Name].State.LastSeq < least {
			t.Errorf("%s: %+v, the copy has %d messages", o.Name, made[o.Name].State, o.Messages)
		}
	}
	was, err := stream.GetSequence(t.Context(), nc, stream.Jobs, 1)
	if err != nil {
		t.Fatal(err)
	}
	is, err := stream.GetSequence(t.Context(), to, stream.Jobs, 1)
	switch {
	case err != nil:
		t.Errorf("err must be nil, got %v; %+v, %v, was %+v", err, is, err, was)
	case is.Subject != was.Subject:
		t.Errorf("is.Subject: got %v, want %v; %+v, %v, was %+v", is.Subject, was.Subject, is, err, was)
	case string(is.Data) != "waits":
		t.Errorf(`string(is.Data) must be "waits", got %v; %+v, %v, was %+v`, string(is.Data), is, err, was)
	case !is.Time.Equal(was.Time):
		t.Errorf("must hold: is.Time.Equal(was.Time); %+v, %v, was %+v", is, err, was)
	case is.Header.Get("Dspex-Job") != "j1":
		t.Errorf(`is.Header.Get("Dspex-Job") must be "j1", got %v; %+v, %v, was %+v`, is.Header.Get("Dspex-Job"), is, err, was)
	case len(is.Header) != len(was.Header):
		t.Errorf("len(is.Header): got %v, want %v; %+v, %v, was %+v", len(is.Header), len(was.Header), is, err, was)
	}
	if bare, err := stream.GetSequence(t.Context(), to, stream.Jobs, 2); err != nil || len(bare.Header) != 0 || string(bare.Data) != "bare" {
		t.Errorf("%+v, %v", bare, err)
	}
	identity := stream.Identity(made[stream.Jobs].Config, made[stream.Jobs].Created)
	e, err := stream.NewBucket(to, w, stream.Sessions).Get(t.Context(), "s.behind")
	if err != nil {
		t.Fatal(err)
	}
	switch r, err := jobs.ParseRecord(e.Value); {
	case err != nil:
		t.Errorf("err must be nil, got %v; %+v, %v", err, r, err)
	case r.Stream != identity:
		t.Errorf("r.Stream: got %v, want %v; %+v, %v", r.Stream, identity, r, err)
	case r.Stream == created:
		t.Errorf("r.Stream must not be created; %+v, %v", r, err)
	case r.LastSequence != 7:
		t.Errorf("r.LastSequence must be 7, got %v; %+v, %v", r.LastSequence, r, err)
	case len(r.Ended) != 1:
		t.Errorf("len(r.Ended) must be 1, got %v; %+v, %v", len(r.Ended), r, err)
	}
	e, err = stream.NewBucket(to, w, stream.Sessions).Get(t.Context(), "h.behind")
	if err != nil {
		t.Fatal(err)
	}
	if h, err := jobs.ParseAttemptRecord(e.Value); err != nil || h.Stream != identity || h.Attempt != 2 {
		t.Errorf("%+v, %v", h, err)
	}
	if made[stream.RecordsStream].Config.FirstSeq < 2 {
		t.Error("sessions without a record are taken for new ones")
	}
	if _, err := stream.Ensure(t.Context(), js, stream.Settings{Partitions: 4}); err != nil {
		t.Errorf("a dispatcher does not start: %v", err)
	}
}

// TestAnOutcomeThatItsRecordDoesNotKnowIsLeftOut, if it came after the copy of the records had begun.
// A consumer of nats-server finds the next job that waits for its acknowledgement by counting sequences, and its stream stands still
// meanwhile. So the gap between a job of the copy and one from after the restore must be small.
func TestARestoredQueueGoesOnBehindItsLastJobOfTheCopy(t *testing.T) {
	from, _ := deployed(t)
	dir := filepath.Join(t.TempDir(), "copy")
	if _, err := backup.Write(t.Context(), from, dir, silent); err != nil {
		t.Fatal(err)
	}
	nc, js, w := empty(t)
	if _, err := backup.Restore(t.Context(), nc, dir, 0, silent); err != nil {
		t.Fatal(err)
	}
	if _, err := w.PublishSync(&nats.Msg{Subject: "dspex.session.s1", Data: []byte("after")}); err != nil {
		t.Fatal(err)
	}
	cons, err := js.CreateConsumer(t.Context(), stream.Jobs, jetstream.ConsumerConfig{FilterSubject: "dspex.p.>", AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		t.Fatal(err)
	}
	batch, err := cons.Fetch(3, jetstream.FetchMaxWait(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	var all []jetstream.Msg
	for m := range batch.Messages() {
		all = append(all, m)
	}
	if len(all) != 3 {
		t.Fatalf("%d jobs, want 3", len(all))
	}
	for _, m := range all {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := m.DoubleAck(ctx); err != nil {
			t.Fatalf("acknowledge %s: %v", m.Data(), err)
		}
	}
}

func TestAnOutcomeThatItsRecordDoesNotKnowIsLeftOut(t *testing.T) {
	nc, _ := deployed(t)
	w, err := stream.NewWriter(nc)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	result := func(session, job string, sequence uint64) {
		b := stream.NewBucket(nc, w, stream.Results)
		if _, err := b.PutSync("r.s."+session+"."+job, (&jobs.Result{Job: job, Sequence: sequence, Kind: jobs.Succeeded, Body: []byte{0xc0}, Stored: time.Now()}).Append(nil), 0, time.Hour); err != nil {
			t.Error(err)
		}
	}
	result("gone", "old", 3) // its record has expired since
	records := false
	dir := filepath.Join(t.TempDir(), "copy")
	if _, err := backup.Write(t.Context(), nc, dir, func(name string, _, _ uint64) {
		if name == stream.RecordsStream && !records { // their copy is over
			records = true
			result("behind", "known", 7)
			result("behind", "early", 9)
			result("behind", "newer", 8)
			result("begun", "newer", 10)
		}
	}); err != nil {
		t.Fatal(err)
	}
	to, js, _ := empty(t)
	if _, err := backup.Restore(t.Context(), to, dir, 0, silent); err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), stream.Results)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := kv.Keys(t.Context())
	slices.Sort(keys)
	if want := []string{"r.s.behind.early", "r.s.behind.known", "r.s.gone.old"}; err != nil || !slices.Equal(keys, want) {
		t.Errorf("%q, %v, want %q", keys, err, want)
	}
}

func TestWhatIsNoWholeBackupIsRefused(t *testing.T) {
	nc, _ := deployed(t)
	dir := filepath.Join(t.TempDir(), "copy")
	if _, err := backup.Write(t.Context(), nc, dir, silent); err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Write(t.Context(), nc, dir, silent); err == nil || !strings.Contains(err.Error(), "must be empty") {
		t.Errorf("into what is there: %v", err)
	}
	if _, err := backup.Restore(t.Context(), nc, dir, 0, silent); err == nil || !strings.Contains(err.Error(), "must have none") {
		t.Errorf("over what is there: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	half := filepath.Join(t.TempDir(), "half")
	if _, err := backup.Write(ended, nc, half, silent); err == nil {
		t.Error("it was written without time")
	}
	to, _, _ := empty(t)
	if _, err := backup.Restore(t.Context(), to, half, 0, silent); err == nil || !strings.Contains(err.Error(), "must be a complete backup") {
		t.Errorf("half of one: %v", err)
	}
	path := filepath.Join(dir, stream.Jobs+".arc.s2")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text[:len(text)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Restore(t.Context(), to, dir, 0, silent); err == nil || !strings.Contains(err.Error(), stream.Jobs) {
		t.Errorf("a truncated file: %v", err)
	}
}
