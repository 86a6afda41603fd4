package production

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/dspex/dspex/internal/natstest"
)

// walled runs a broker with the shipped configuration, and the service behind it, for a test that looks at the broker's own books.
func walled(t *testing.T) *server.Server {
	t.Helper()
	o, err := server.ProcessConfigFile(config)
	if err != nil {
		t.Fatal(err)
	}
	return behind(t, natstest.Run(t, shipped(o)))
}

// behind runs the service on a broker.
func behind(t *testing.T, s *server.Server) *server.Server {
	t.Helper()
	at := func(user string) []string { return append(environ(user), "NATS_URL="+s.ClientURL()) }
	d := startIn(t, at("dispatcher"), "dispatcher", "--name", "d1", "--partitions", "8")
	h := startIn(t, at("host"), "worker-host", "--name", "h1", "--engine", "stub", "--workers", "1", "--slots", "4")
	for _, p := range []*process{h, d} {
		if line := <-p.ready; !strings.HasPrefix(line, "ready ") {
			t.Fatalf("it said %q", line)
		}
	}
	return s
}

// answers reads what comes to a call's inbox up to the empty message that is behind its last reply.
func answers(t *testing.T, nc *nats.Conn, m *nats.Msg) (all []*nats.Msg) {
	t.Helper()
	m.Reply = nc.NewInbox()
	sub, err := nc.SubscribeSync(m.Reply)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := nc.PublishMsg(m); err != nil {
		t.Fatal(err)
	}
	for {
		got, err := sub.NextMsg(30 * time.Second)
		if err != nil {
			t.Fatalf("after %d messages: %v", len(all), err)
		}
		if len(got.Data) == 0 && len(got.Header) == 0 {
			return all
		}
		all = append(all, got)
	}
}

// TestCallsFromAnotherAccountLeaveNothingBehind ends calls in every way and looks what the broker still keeps of them.
func TestCallsFromAnotherAccountLeaveNothingBehind(t *testing.T) {
	fresh(t)
	s := walled(t)
	nc := natstest.Connect(t, s, nats.UserInfo("client", password("client")), nats.CustomInboxPrefix("_INBOX.client"))
	echo := `{"command":"echo","args":{"x":1}}`
	for name, c := range map[string]struct{ subject, body, want string }{
		"a session's job":                {"dspex.rpc.session.s1", echo, `"ok":true`},
		"one without session":            {"dspex.rpc.anonymous", echo, `"ok":true`},
		"with partials":                  {"dspex.rpc.session.s2", `{"command":"predict","args":{"question":"a b c d"},"options":{"stream":true}}`, `"ok":true`},
		"one that fails":                 {"dspex.rpc.session.s3", `{"command":"no_such_command","args":{}}`, `"ok":false`},
		"one that is refused":            {"dspex.rpc.session.s4", `{`, `"ok":false`},
		"a session id that is not one":   {"dspex.rpc.session.a$b", echo, `bad_session_id`},
		"a look at health":               {"dspex.rpc.health.check", ``, `"ok":true`},
		"the outcome of an unknown job":  {"dspex.rpc.jobs.get", `{"session":"s9","job":"nope"}`, `"ok":false`},
		"a job that is over when it has": {"dspex.rpc.session.s5", `{"command":"echo","args":{},"options":{"deadline":1}}`, `"ok":`},
	} {
		t.Run(name, func(t *testing.T) {
			all := answers(t, nc, &nats.Msg{Subject: c.subject, Data: []byte(c.body)})
			if len(all) == 0 {
				t.Fatal("the empty message came first")
			}
			for i, m := range all {
				if partial, last := m.Header.Get("Dspex-Partial") != "", i == len(all)-1; partial == last {
					t.Errorf("message %d of %d: %v %s", i+1, len(all), m.Header, m.Data)
				}
			}
			if last := string(all[len(all)-1].Data); !strings.Contains(last, c.want) {
				t.Errorf("got %s, want %s", last, c.want)
			}
		})
	}
	service, err := s.LookupAccount("DSPEX")
	if err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(10 * time.Millisecond) // the broker clears up after it has delivered the last message
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); service.NumPendingAllResponses() != 0; <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("the broker keeps %d calls", service.NumPendingAllResponses())
		}
	}
}

// TestTheReplyToAPublishedJobReachesItsTenant by the subject that the client named.
func TestTheReplyToAPublishedJobReachesItsTenant(t *testing.T) {
	fresh(t)
	s := walled(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	nc := natstest.Connect(t, s, nats.UserInfo("client", password("client")), nats.CustomInboxPrefix("_INBOX.client"))
	sub, err := nc.SubscribeSync("dspex.reply.mine")
	if err != nil {
		t.Fatal(err)
	}
	m := &nats.Msg{Subject: "dspex.session.y", Data: []byte(`{"command":"echo","args":{"x":1}}`), Header: nats.Header{"Dspex-Reply-To": {"dspex.reply.mine"}}}
	if _, err := nc.RequestMsgWithContext(ctx, m); err != nil {
		t.Fatal(err)
	}
	if got, err := sub.NextMsgWithContext(ctx); err != nil || !strings.Contains(string(got.Data), `"ok":true`) {
		t.Errorf("the reply is %v, %v", got, err)
	}
}

// withTenants copies the shipped configuration and adds tenants.
func withTenants(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "tenants"), os.DirFS("../../tenants")); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "nats.conf")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		addTenant(t, path, name)
	}
	return path
}

func addTenant(t *testing.T, config, name string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(password(name)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tenants(t, config, "add", name, "--password-file", file)
	natstest.QuickHash(t, filepath.Join(filepath.Dir(config), "tenants", name+".conf"), password(name))
}

func nkey(t *testing.T) (public string, key nkeys.KeyPair) {
	t.Helper()
	key, err := nkeys.CreateUser()
	if err == nil {
		public, err = key.PublicKey()
	}
	if err != nil {
		t.Fatal(err)
	}
	return public, key
}

// tenants runs the command line beside the broker's configuration.
func tenants(t *testing.T, config string, args ...string) {
	t.Helper()
	cmd := exec.Command(filepath.Join(bin, "dspex"), append([]string{"tenants"}, args...)...)
	cmd.Dir = filepath.Dir(config)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tenants %v: %v\n%s", args, err, out)
	}
}

// TestTenantsComeAndGoUnderLoad: the broker reads what `dspex tenants` writes without a restart, and what others have under way
// goes on.
func TestTenantsComeAndGoUnderLoad(t *testing.T) {
	fresh(t)
	path := withTenants(t)
	read := func() *server.Options {
		o, err := server.ProcessConfigFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	store := t.TempDir()
	mine := func(o *server.Options) *server.Options {
		o.Host, o.Port, o.HTTPPort, o.StoreDir, o.NoLog, o.NoSigs = "127.0.0.1", -1, 0, store, true, true
		return o
	}
	s := behind(t, natstest.Run(t, func(into *server.Options) { *into = *mine(read()) }))
	reload := func() {
		t.Helper()
		// As the signal does. nats-server 2.15.2 makes the imports of a new account at the second one.
		if err := s.ReloadOptions(mine(read())); err != nil {
			t.Fatal(err)
		}
	}
	public, key := nkey(t) // a password's hash would take a loaded machine seconds to check
	connect := func(user string, more ...nats.Option) (*nats.Conn, error) {
		who := nats.UserInfo(user, password(user))
		if user == "acme" {
			who = nats.Nkey(public, key.Sign)
		}
		return nats.Connect(s.ClientURL(), append([]nats.Option{who, nats.CustomInboxPrefix("_INBOX.client"), nats.NoReconnect(), nats.Timeout(30 * time.Second)}, more...)...)
	}
	first, err := connect("client")
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	// One call is under way across each change.
	under := func(change func()) {
		t.Helper()
		answered := make(chan string, 1)
		sub, err := first.SubscribeSync(first.NewInbox())
		if err != nil {
			t.Fatal(err)
		}
		if err := first.PublishRequest("dspex.rpc.session.running", sub.Subject, []byte(`{"command":"sleep","args":{"ms":1500}}`)); err != nil {
			t.Fatal(err)
		}
		go func() {
			m, err := sub.NextMsg(time.Minute)
			if err != nil {
				answered <- err.Error()
				return
			}
			answered <- string(m.Data)
		}()
		// It is in the stream once a call of another session, sent later, is answered.
		if _, err := first.Request("dspex.rpc.session.behind", []byte(echo), time.Minute); err != nil {
			t.Fatal(err)
		}
		change()
		if got := <-answered; !strings.Contains(got, `"ok":true`) {
			t.Errorf("a call under way across the change: %s", got)
		}
	}
	under(func() {
		tenants(t, path, "add", "acme", "--nkey", public, "--max-connections", "1", "--max-payload", "64KiB")
		reload()
		reload()
	})
	closed := make(chan error, 1)
	acme, err := connect("acme", nats.ClosedHandler(func(nc *nats.Conn) { closed <- nc.LastError() }))
	if err != nil {
		t.Fatal(err)
	}
	if m, err := acme.Request("dspex.rpc.session.running", []byte(`{"command":"append","args":{"x":1}}`), time.Minute); err != nil || !strings.Contains(string(m.Data), `"none"`) {
		t.Errorf("%v, %v", m, err)
	}
	if acme.MaxPayload() != 64<<10 {
		t.Errorf("the largest message has %d bytes", acme.MaxPayload())
	}
	if nc, err := connect("acme"); err == nil {
		nc.Close()
		t.Error("a second connection is not refused")
	}
	under(func() { tenants(t, path, "remove", "acme"); reload() })
	if err := <-closed; err == nil {
		t.Error("a removed tenant was disconnected without a reason")
	}
	if nc, err := connect("acme"); err == nil {
		nc.Close()
		t.Error("a removed tenant still connects")
	}
	if n := first.Stats().Reconnects; n != 0 || !first.IsConnected() {
		t.Errorf("the other tenant was disconnected")
	}
}

// TestADispatcherForOneAccountDoesNotStartWhereThereAreMore: it would take the streams back from the tenants.
func TestADispatcherForOneAccountDoesNotStartWhereThereAreMore(t *testing.T) {
	fresh(t)
	s := walled(t)
	cmd := exec.Command(filepath.Join(bin, "dispatcher"), "--name", "d2")
	cmd.Env = append(environ("dispatcher"), "NATS_URL="+s.ClientURL(), "DSPEX_ACCOUNTS=")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "must be started with --accounts") || !strings.Contains(string(out), "DSPEX_ACCOUNTS=true") {
		t.Errorf("%v\n%s", err, out)
	}
	nc := natstest.Connect(t, s, nats.UserInfo("client", password("client")), nats.CustomInboxPrefix("_INBOX.client"))
	if _, err := nc.Request("dspex.session.x", []byte(echo), time.Minute); err != nil {
		t.Errorf("the streams are not as they were: %v", err)
	}
}
