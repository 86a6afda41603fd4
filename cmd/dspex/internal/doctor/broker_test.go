package doctor

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/daemon"
	"github.com/dspex/dspex/internal/natstest"
	"github.com/dspex/dspex/internal/stream"
)

// TestTheBrokersSettingsAreReadFromItsMonitoring: a broker that writes to the disk later than it accepts is found, and one with little room.
func TestTheBrokersSettingsAreReadFromItsMonitoring(t *testing.T) {
	for always, want := range map[bool]Level{true: Fine, false: Warning} {
		s := natstest.Run(t, func(o *server.Options) {
			o.HTTPHost, o.HTTPPort, o.SyncAlways, o.SyncInterval = "127.0.0.1", -1, always, time.Minute
		})
		d := on(new(bytes.Buffer), nil)
		d.monitor = "http://" + s.MonitorAddr().String()
		d.monitored(t.Context(), natstest.Connect(t, s))
		if !has(d, "broker", want, "sync_interval is ") {
			t.Errorf("%v: %+v", always, d.findings)
		}
		d = on(new(bytes.Buffer), nil)
		d.monitored(t.Context(), natstest.Connect(t, s))
		if !has(d, "broker", Note, "--monitor") {
			t.Errorf("another broker's monitoring counts for this one: %+v", d.findings)
		}
	}
	d := on(new(bytes.Buffer), nil)
	d.monitor = "http://" + natstest.FreeAddress(t)
	d.monitored(t.Context(), natstest.Connect(t, natstest.Run(t)))
	if !has(d, "broker", Warning, "--monitor: ") {
		t.Errorf("%+v", d.findings)
	}
}

func TestAnAccountThatIsNearlyFullIsFound(t *testing.T) {
	for _, of := range []struct {
		stored, most int64
		level        Level
		part         string
	}{{5 << 30, -1, Fine, "5.0 GiB stored; the account has no limit"}, {5 << 30, 10 << 30, Fine, "5.0 GiB stored, of 10.0 GiB"}, {9 << 30, 10 << 30, Warning, "9.0 GiB stored, of 10.0 GiB"}} {
		d := on(new(bytes.Buffer), nil)
		if d.stores(of.stored, of.most); !has(d, "storage", of.level, of.part) {
			t.Errorf("got %+v", d.findings)
		}
	}
	js, err := jetstream.New(natstest.Connect(t, natstest.Run(t)))
	if err != nil {
		t.Fatal(err)
	}
	d := on(new(bytes.Buffer), nil)
	if d.account(t.Context(), js); !has(d, "storage", Fine, "0 B stored") {
		t.Errorf("got %+v", d.findings)
	}
	without, err := jetstream.New(natstest.Connect(t, natstest.Run(t, func(o *server.Options) { o.JetStream = false })))
	if err != nil {
		t.Fatal(err)
	}
	d = on(new(bytes.Buffer), nil)
	if d.account(t.Context(), without); !has(d, "storage", Wrong, "JetStream is not enabled") {
		t.Errorf("got %+v", d.findings)
	}
}

func TestClocksThatAreOffAreFound(t *testing.T) {
	d := on(new(bytes.Buffer), nil)
	d.clocks(dspex.Hosts{Raw: json.RawMessage(`{"hosts": [{"host": "a", "clock_off_ms": 1}, {"host": "b", "clock_off_ms": -3600000}, {"host": "c"}]}`)})
	if !has(d, "clocks", Warning, "the clock of host b is off by -1h0m0s") || len(d.findings) != 1 {
		t.Errorf("got %+v", d.findings)
	}
	d = on(new(bytes.Buffer), nil)
	d.clocks(dspex.Hosts{Raw: json.RawMessage(`{"hosts": [{"host": "a", "clock_off_ms": 1}]}`)})
	if !has(d, "clocks", Fine, "within") {
		t.Errorf("got %+v", d.findings)
	}
	now := time.Now()
	d = on(new(bytes.Buffer), nil)
	d.ownClock(now, now.Add(time.Second), now.Add(2*time.Second))
	if len(d.findings) > 0 {
		t.Errorf("a slow answer is no wrong clock: %+v", d.findings)
	}
	d.ownClock(now, now.Add(-time.Minute), now)
	if !has(d, "clocks", Warning, "the clock of this machine is off by 1m0s") {
		t.Errorf("got %+v", d.findings)
	}
}

// TestWhatIsOnThisMachineIsChecked: room and packages; one without an environment is a note.
func TestWhatIsOnThisMachineIsChecked(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	d := on(new(bytes.Buffer), map[string]string{"HOME": t.TempDir()})
	d.disks()
	d.environment(t.Context())
	if !has(d, "disk", Fine, "free for temporary files") && !has(d, "disk", Warning, "make room") || !has(d, "dspy", Note, "dspex env sync") {
		t.Errorf("got %+v", d.findings)
	}
}

func TestWhatWasNotPermittedIsSummedUp(t *testing.T) {
	d := on(new(bytes.Buffer), nil)
	d.denied(t.Context(), "hosts", jetstream.ErrStreamNotFound)
	d.unseen(t.Context(), "streams", jetstream.ErrStreamNotFound)
	if d.permissions(); !has(d, "permissions", Note, "hosts, streams") {
		t.Errorf("got %+v", d.findings)
	}
	d = on(new(bytes.Buffer), nil)
	if d.permissions(); !has(d, "permissions", Fine, "operators") {
		t.Errorf("got %+v", d.findings)
	}
}

func TestTheVersionsOfDispatchersStandBesideTheOthers(t *testing.T) {
	nc := natstest.Connect(t, natstest.Run(t))
	for name, version := range map[string]string{"d1": daemon.Version(), "d2": "v9.9.9"} {
		if _, err := micro.AddService(nc, micro.Config{Name: "dspex", Version: "0.1.0", Metadata: map[string]string{"dispatcher": name, "version": version}}); err != nil {
			t.Fatal(err)
		}
	}
	d := on(new(bytes.Buffer), nil)
	d.versions(nc, dspex.Hosts{Hosts: []dspex.HostInfo{{Host: "a", Version: daemon.Version(), Engine: "dspy 3.4.1"}}})
	if !has(d, "versions", Note, "dispatcher d1 "+daemon.Version()+", dispatcher d2 v9.9.9, host a "+daemon.Version()) {
		t.Errorf("got %+v", d.findings)
	}
}

// connected is a doctor and its connection, as one of the users.
func connected(t *testing.T, s *server.Server, user string) (*doctor, *nats.Conn) {
	t.Helper()
	d := on(new(bytes.Buffer), nil)
	nc, err := nats.Connect(s.ClientURL(), nats.UserInfo(user, "x"), nats.ErrorHandler(d.denials.come))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return d, nc
}

// TestWhatIsDeniedEndsItsCheckAlone: the denial is quoted, and a check that is permitted is done.
func TestWhatIsDeniedEndsItsCheckAlone(t *testing.T) {
	s := natstest.Run(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "client", Password: "x", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Allow: []string{"$JS.API.INFO"}}}}}
	})
	d, nc := connected(t, s, "client")
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	c := dspex.New(nc)
	d.service(t.Context(), c)
	d.operation(t.Context(), c, nc)
	d.account(t.Context(), js)
	d.stored(t.Context(), js)
	for check, subject := range map[string]string{"health": "dspex.rpc.health.check", "hosts": "dspex.rpc.hosts.list", "streams": "$JS.API.STREAM.INFO.KV_" + stream.Assign} {
		if !has(d, check, Note, `permission denied: Publish to "`+subject+`"`) {
			t.Errorf("no %s in %+v", subject, d.findings)
		}
	}
	if !has(d, "storage", Fine, "stored") {
		t.Errorf("got %+v", d.findings)
	}
}

func TestAnInboxPrefixThatKeepsAnswersAwayIsNamed(t *testing.T) {
	own := &server.Permissions{Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.own.>"}}}
	s := natstest.Run(t, func(o *server.Options) { o.Users = []*server.User{{Username: "own", Password: "x", Permissions: own}} })
	for prefix, named := range map[string]bool{"": true, "_INBOX.other": true, "_INBOX.own": false} {
		d := on(new(bytes.Buffer), map[string]string{"NATS_URL": s.ClientURL(), "NATS_USER": "own", "NATS_PASSWORD": "x", "NATS_INBOX_PREFIX": prefix})
		d.deployment(t.Context())
		if has(d, "permissions", Wrong, `permission denied: Subscription to "_INBOX.`) != named || has(d, "permissions", Wrong, "set $NATS_INBOX_PREFIX") != named {
			t.Errorf("%q: %+v", prefix, d.findings)
		}
		if has(d, "hosts", Note, "") == named {
			t.Errorf("%q: what follows from it is listed too, or nothing else is: %+v", prefix, d.findings)
		}
	}
}
