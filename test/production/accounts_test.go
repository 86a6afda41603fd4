package production

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/natstest"
)

// walled runs nats.conf with the accounts of docs/operations.md, and the service behind it.
func walled(t *testing.T) *server.Server {
	t.Helper()
	conf, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := regexp.MustCompile("(?s)```conf\n(accounts \\{.*?\n\\}\n)```").FindSubmatch(page)
	common, _, found := strings.Cut(string(conf), "\naccounts {")
	if shown == nil || !found {
		t.Fatal("the accounts are not where they are looked for")
	}
	path := filepath.Join(t.TempDir(), "nats.conf")
	both := strings.Replace(common, `subscribe: ["_INBOX.client.>"]`, `subscribe: ["_INBOX.client.>", "dspex.reply.>"]`, 1) + "\n" + string(shown[1])
	if err := os.WriteFile(path, []byte(both), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := server.ProcessConfigFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := natstest.Run(t, func(into *server.Options) {
		o.Host, o.Port, o.HTTPPort, o.StoreDir, o.NoLog, o.NoSigs = into.Host, into.Port, 0, into.StoreDir, true, true
		*into = *o
	})
	at := func(user string) []string { return append(environ(user), "NATS_URL="+s.ClientURL()) }
	d := startIn(t, append(at("dispatcher"), "DSPEX_ACCOUNTS=true"), "dispatcher", "--name", "d1", "--partitions", "8")
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
	if n := service.NumPendingAllResponses(); n != 0 {
		t.Errorf("the broker keeps %d calls", n)
	}
}

// TestAPublishCannotReachBeyondItsAccount aims acknowledgements at what the service keeps, and gets a reply where it may.
func TestAPublishCannotReachBeyondItsAccount(t *testing.T) {
	fresh(t)
	s := walled(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	nc := natstest.Connect(t, s, nats.UserInfo("client", password("client")), nats.CustomInboxPrefix("_INBOX.client"))
	inside := natstest.Connect(t, s, nats.UserInfo("dispatcher", password("dispatcher")), nats.CustomInboxPrefix("_INBOX.dispatcher"))
	js, err := inside.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	for stream, to := range map[string]string{
		"KV_dspex_results": "$KV.dspex_results.r.s.x.j", "KV_dspex_sessions": "$KV.dspex_sessions.s.x", "KV_dspex_assign": "$KV.dspex_assign.p.1x",
		"KV_dspex_control": "$KV.dspex_control.drain.h1", "DSPEX_DLQ": "dspex.dlq.s.x", "DSPEX_EVENTS": "dspex.events.alert.x",
	} {
		if err := nc.PublishRequest("dspex.session.x", to, []byte(`{"command":"echo","args":{}}`)); err != nil {
			t.Fatal(err)
		}
		// The next request's reply comes after what the broker did with the publish.
		if _, err := nc.RequestWithContext(ctx, "dspex.rpc.session.x", []byte(`{"command":"echo","args":{}}`)); err != nil {
			t.Fatal(err)
		}
		if _, err := js.GetLastMsg(stream, to, nats.Context(ctx)); err != nats.ErrMsgNotFound {
			t.Errorf("%s holds %s: %v", stream, to, err)
		}
	}
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
