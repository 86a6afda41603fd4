package doctor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/natstest"
	"github.com/dspex/dspex/internal/stream"
)

// damaged is a broker whose jobs' stream drops jobs after an hour, and has the consumer of an earlier epoch.
func damaged(t *testing.T) jetstream.JetStream {
	t.Helper()
	s := natstest.Run(t, func(o *server.Options) { o.JetStreamMaxStore = 64 << 30 })
	js, err := jetstream.New(natstest.Connect(t, s))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(err)
	_, err = stream.Ensure(t.Context(), js, stream.Settings{Partitions: 4})
	must(err)
	at, err := js.Stream(t.Context(), stream.Jobs)
	must(err)
	cfg := at.CachedInfo().Config
	cfg.MaxAge = time.Hour
	_, err = js.UpdateStream(t.Context(), cfg)
	must(err)
	kv, err := js.KeyValue(t.Context(), stream.Assign)
	must(err)
	for range 2 {
		_, err = kv.Put(t.Context(), "p.1", []byte("h1"))
		must(err)
	}
	_, err = js.CreateConsumer(t.Context(), stream.Jobs, jetstream.ConsumerConfig{Durable: "p1-e1", AckPolicy: jetstream.AckExplicitPolicy, FilterSubject: "dspex.p.1.>"})
	must(err)
	return js
}

func TestFixMendsWhatIsSafeAndShowsBeforeAndAfter(t *testing.T) {
	js := damaged(t)
	var out bytes.Buffer
	d := on(&out, nil)
	d.stored(t.Context(), js)
	if !has(d, "streams", Wrong, "max_age of DSPEX_JOBS") || !has(d, "consumers", Wrong, "p1-e1") || !has(d, "streams", Wrong, "dspex doctor --fix") {
		t.Fatalf("got %+v", d.findings)
	}
	d = on(&out, nil)
	d.fix, d.app.Output = true, "json"
	d.stored(t.Context(), js)
	if err := d.say(); err != nil {
		t.Errorf("all of it is mended: %v", err)
	}
	var said struct {
		OK       bool
		Findings []Finding
	}
	if err := json.Unmarshal(out.Bytes(), &said); err != nil || !said.OK {
		t.Fatalf("%v: %s", err, out.String())
	}
	want := "[{streams fixed max_age of DSPEX_JOBS is not as dspex makes it  1h0m0s 0s} {consumers fixed p1-e1 was left by an earlier owner of its partition: it holds back jobs  there removed}]"
	if got := fmt.Sprint(said.Findings); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	d = on(&out, nil)
	d.stored(t.Context(), js)
	if len(d.findings) != 1 || !has(d, "streams", Fine, "as dspex makes them") {
		t.Errorf("after that: %+v", d.findings)
	}
}

func TestWhatFixCannotMendIsWrongStill(t *testing.T) {
	js := damaged(t)
	if err := js.DeleteStream(t.Context(), stream.Dead); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: stream.Dead, Subjects: []string{"dspex.dlq.>"}, Storage: jetstream.MemoryStorage, AllowDirect: true, MaxAge: 30 * 24 * time.Hour}); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	d := on(&out, nil)
	d.fix = true
	d.stored(t.Context(), js)
	if !has(d, "streams", Wrong, "storage of DSPEX_DLQ is Memory, and must be File") {
		t.Errorf("got %+v", d.findings)
	}
	if err := d.say(); err == nil {
		t.Error("the exit status says that nothing is wrong")
	}
	if !strings.Contains(out.String(), "1h0m0s → 0s") || !strings.Contains(out.String(), "2 mended") {
		t.Errorf("got %s", out.String())
	}
}

func TestSecretsThatEverybodyMayReadAreClosed(t *testing.T) {
	dir := t.TempDir()
	open, closed, key := filepath.Join(dir, "password"), filepath.Join(dir, "seed"), filepath.Join(dir, "key")
	for path, mode := range map[string]os.FileMode{open: 0o664, closed: 0o640, key: 0o644} {
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	settings := filepath.Join(dir, "dspex.yaml")
	if err := os.WriteFile(settings, []byte("nkey: "+closed+"\nlm: {profiles: {a: {provider: openai, model: m, api_key: \"file:"+key+"\"}}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"DSPEX_CONFIG": settings, "NATS_PASSWORD_FILE": open}
	d := on(new(bytes.Buffer), env)
	d.settings()
	d.secrets()
	if !has(d, "secrets", Warning, "password holds a secret") || !has(d, "secrets", Warning, "key holds a secret") || has(d, "secrets", Warning, "seed") {
		t.Errorf("got %+v", d.findings)
	}
	d = on(new(bytes.Buffer), env)
	d.fix = true
	d.settings()
	d.secrets()
	for path, want := range map[string]os.FileMode{open: 0o660, closed: 0o640, key: 0o640} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v %v, want %v", path, info.Mode().Perm(), err, want)
		}
	}
	if !has(d, "secrets", Fixed, "") {
		t.Errorf("got %+v", d.findings)
	}
}

func TestWhatTheBrokerDoesNotPermitIsANote(t *testing.T) {
	all := &server.User{Username: "all", Password: "x"}
	operator := &server.User{Username: "operator", Password: "x", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"$JS.API.DIRECT.>"}}}}
	client := &server.User{Username: "client", Password: "x", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"$JS.API.>"}}}}
	s := natstest.Run(t, func(o *server.Options) {
		o.JetStreamMaxStore, o.Users = 64<<30, []*server.User{all, operator, client}
	})
	as := func(user string) jetstream.JetStream {
		nc, err := nats.Connect(s.ClientURL(), nats.UserInfo(user, "x"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		return js
	}
	owner := as("all")
	if _, err := stream.Ensure(t.Context(), owner, stream.Settings{Partitions: 4}); err != nil {
		t.Fatal(err)
	}
	kv, err := owner.KeyValue(t.Context(), stream.Assign)
	if err == nil {
		_, err = kv.Put(t.Context(), "p.1", []byte("h1"))
	}
	if err == nil {
		_, err = owner.CreateConsumer(t.Context(), stream.Jobs, jetstream.ConsumerConfig{Durable: "p1-e1", AckPolicy: jetstream.AckExplicitPolicy, FilterSubject: "dspex.p.1.>"})
	}
	if err != nil {
		t.Fatal(err)
	}
	for user, check := range map[string]string{"operator": "leftover consumers", "client": "streams"} {
		d := on(new(bytes.Buffer), nil)
		d.stored(t.Context(), as(user))
		if !has(d, check, Note, "the permissions of a dispatcher") || has(d, check, Wrong, "") || has(d, check, Warning, "") {
			t.Errorf("%s: %+v", user, d.findings)
		}
	}
}
