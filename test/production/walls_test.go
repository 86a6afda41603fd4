package production

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/natstest"
)

// The walls are tried by users that may do all that their account lets them: what permissions deny a user besides is tried by
// TestEachUserHasItsOwnRightsOnly. Whoever may write where is written down here, for each bucket, stream and control subject.

// Roles by the account that they are in. The inside is what a client was in before there were accounts.
var accountOf = map[string]string{"tenant default": "default", "tenant acme": "acme", "operator": "OPERATOR", "inside": "DSPEX"}

// walls is a deployment with two tenants and a user without limits in each account.
type walls struct {
	*testing.T
	broker *server.Server
	js     jetstream.JetStream // inside
	spied  *nats.Conn          // receives all that is sent inside

	mu   sync.Mutex
	seen map[string]int // subjects that were published to inside
}

func build(t *testing.T) *walls {
	t.Helper()
	fresh(t)
	o, err := server.ProcessConfigFile(withTenants(t, "acme"))
	if err != nil {
		t.Fatal(err)
	}
	for role, account := range accountOf {
		at := slices.IndexFunc(o.Accounts, func(a *server.Account) bool { return a.Name == account })
		o.Users = append(o.Users, &server.User{Username: role, Password: password(role), Account: o.Accounts[at]})
	}
	w := &walls{T: t, broker: behind(t, natstest.Run(t, shipped(o))), seen: map[string]int{}}
	w.spied = w.as("inside")
	if w.js, err = jetstream.New(w.spied); err != nil {
		t.Fatal(err)
	}
	return w
}

// spy subscribes to all that is sent inside. It is a responder to everything.
func (w *walls) spy() {
	w.Helper()
	if _, err := w.spied.Subscribe(">", func(m *nats.Msg) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.seen[m.Subject]++
	}); err != nil {
		w.Fatal(err)
	}
	w.flush(w.spied)
}

func (w *walls) as(role string) *nats.Conn {
	w.Helper()
	return natstest.Connect(w.T, w.broker, nats.UserInfo(role, password(role)))
}

func (w *walls) flush(nc *nats.Conn) {
	w.Helper()
	if err := nc.Flush(); err != nil {
		w.Fatal(err)
	}
}

// heard reports whether somebody published to the subject inside.
func (w *walls) heard(subject string) bool {
	w.Helper()
	w.flush(w.spied)
	barrier := make(chan struct{})
	if err := w.spied.Barrier(func() { close(barrier) }); err != nil {
		w.Fatal(err)
	}
	<-barrier
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen[subject] > 0
}

// targets are what must be out of reach, one of each kind; nobody of ours writes to these very subjects.
var targets = []string{
	"$KV.dspex_assign.p.99", "$KV.dspex_sessions.s.victim", "$KV.dspex_sessions.h.victim", "$KV.dspex_sessions.a.victim",
	"$KV.dspex_results.r.s.victim.j", "$KV.dspex_results.r.a.victim", "$KV.dspex_results.t.victim", "$KV.dspex_results.r.s.acme.victim.j",
	"$O.dspex_objects.C.default.a.victim", "$O.dspex_objects.M.victim",
	"$KV.dspex_batches.i.default.victim.0", "$KV.dspex_control.drain.victim", "$KV.dspex_control.lm.victim", "$KV.dspex_control.prog.victim", "$KV.dspex_control.b.victim", "$KV.dspex_control.f.victim",
	"dspex.dlq.s.victim", "dspex.dlq.a.victim", "dspex.dlq.replayed.99", "dspex.events.alert.victim", "dspex.audit.operator.victim", "dspex.audit.tenant.victim", "dspex.telemetry.victim", "dspex.log.worker-host.victim",
	"dspex.call.victim", "dspex.call.anonymous.batch", "dspex.p.1.default.victim.session", "dspex.t.default.call.victim", "dspex.t.acme.call.victim",
	"dspex.ctl.victim.drain", "dspex.ctl.victim.release", "dspex.ctl.victim.cancel", "dspex.hb.victim", "dspex.anchor.victim", "dspex.probe.victim",
	"dspex.t.default.rpc.victim", "dspex.reply.acme.victim", "_INBOX.host.victim", "_INBOX.dispatcher.victim",
	"$JS.API.STREAM.PURGE.DSPEX_EVENTS", "$JS.API.STREAM.DELETE.DSPEX_EVENTS", "$JS.API.CONSUMER.DELETE.DSPEX_JOBS.victim",
	"$JS.API.STREAM.CREATE.VICTIM", "$JS.API.CONSUMER.CREATE.DSPEX_JOBS.victim", "$JS.API.STREAM.MSG.DELETE.DSPEX_EVENTS", "$JS.API.STREAM.PURGE.DSPEX_AUDIT", "$JS.API.STREAM.DELETE.DSPEX_AUDIT",
}

// entrances are where each role gets an acknowledgement or an answer.
func entrances(role string) []string {
	all := []string{
		"dspex.session.x1", "dspex.anonymous.batch", "dspex.rpc.session.x1", "dspex.rpc.session.a$b", "dspex.rpc.anonymous", "dspex.rpc.admin.session.x1", "dspex.rpc.admin.anonymous", "dspex.rpc.jobs.get", "dspex.rpc.jobs.cancel",
		"dspex.rpc.health.check", "dspex.rpc.stats.get", "dspex.rpc.sessions.list", "dspex.rpc.dlq.list", "dspex.rpc.breakers.list", "$SYS.REQ.USER.INFO",
	}
	if role == "operator" || role == "inside" {
		all = append(all, "$SRV.PING.dspex", "$JS.API.INFO", "$JS.API.STREAM.INFO.DSPEX_JOBS", "dspex.rpc.hosts.list", "dspex.logs.get")
	}
	return all
}

const echo = `{"command":"echo","args":{"x":1}}`

// aimed has the acknowledgement or the answer of each entrance sent to each target, and returns the targets that were reached.
func (w *walls) aimed(role string) (reached []string) {
	nc := w.as(role)
	for _, to := range targets {
		for _, at := range entrances(role) {
			if err := nc.PublishRequest(at, to, []byte(echo)); err != nil {
				w.Fatal(err)
			}
		}
	}
	for _, at := range entrances(role) { // whose own answers come after all that
		if m, err := nc.Request(at, []byte(echo), time.Minute); err != nil {
			w.Errorf("%s: %s: %v", role, at, err)
		} else if len(m.Data) == 0 {
			w.Errorf("%s: %s: no answer but %v", role, at, m.Header)
		}
	}
	for _, to := range targets {
		if w.heard(to) {
			reached = append(reached, to)
		}
	}
	return reached
}

// TestNoReplySubjectReachesBehindTheWall: the broker sends acknowledgements, and endpoints their answers, to the subject that a
// publisher names. Inside the service's account that is any subject, which the test sends as well: else it would find nothing.
func TestNoReplySubjectReachesBehindTheWall(t *testing.T) {
	w := build(t)
	w.spy()
	for _, role := range []string{"tenant default", "tenant acme", "operator"} {
		if reached := w.aimed(role); len(reached) > 0 {
			t.Errorf("%s reaches %v", role, reached)
		}
	}
	w.untouched()
	reached := w.aimed("inside")
	for _, to := range targets {
		if !slices.Contains(reached, to) {
			t.Errorf("without a wall %s is not reached: the attack is none", to)
		}
	}
}

// untouched checks that nothing lies where nobody of ours puts anything, and that nothing was taken away.
func (w *walls) untouched() {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
	defer cancel()
	for bucket, keys := range map[string][]string{
		"dspex_assign": {"p.99"}, "dspex_sessions": {"s.victim", "h.victim", "a.victim"}, "dspex_batches": {"i.default.victim.0"}, "dspex_control": {"drain.victim", "lm.victim", "b.victim", "f.victim"},
		"dspex_results": {"r.s.victim.j", "r.a.victim", "t.victim", "r.s.acme.victim.j"},
	} {
		kv, err := w.js.KeyValue(ctx, bucket)
		if err != nil {
			w.Fatal(err)
		}
		for _, key := range keys {
			if e, err := kv.Get(ctx, key); err == nil {
				w.Errorf("%s holds %s: %s", bucket, key, e.Value())
			}
		}
	}
	for _, name := range []string{"DSPEX_JOBS", "DSPEX_ANON", "DSPEX_DLQ", "DSPEX_EVENTS", "DSPEX_AUDIT"} {
		if _, err := w.js.Stream(ctx, name); err != nil {
			w.Errorf("%s: %v", name, err)
		}
	}
}

// TestADirectPublishReachesNothingBehindTheWall, and no request of the JetStream API is answered but those that an operator has.
func TestADirectPublishReachesNothingBehindTheWall(t *testing.T) {
	w := build(t)
	w.spy()
	for _, role := range []string{"tenant default", "tenant acme", "operator"} {
		nc := w.as(role)
		for _, to := range append([]string{"dspex.t.default.session.victim", "dspex.t.acme.session.victim", "dspex.t.acme.rpc.session.victim", "$JS.ACK.DSPEX_JOBS.victim", "_R_.victim"}, targets...) {
			if err := nc.Publish(to, []byte("mine")); err != nil {
				t.Fatal(err)
			}
			w.flush(nc)
			if w.heard(to) {
				t.Errorf("%s publishes to %s", role, to)
			}
		}
		for _, request := range []string{
			"STREAM.PURGE.KV_dspex_results", "STREAM.DELETE.DSPEX_JOBS", "STREAM.UPDATE.DSPEX_JOBS", "STREAM.CREATE.MINE", "STREAM.MSG.DELETE.DSPEX_JOBS", "STREAM.SNAPSHOT.DSPEX_JOBS",
			"STREAM.RESTORE.MINE", "CONSUMER.CREATE.DSPEX_JOBS", "CONSUMER.CREATE.DSPEX_JOBS.mine", "CONSUMER.CREATE.DSPEX_JOBS.mine.dspex.p.1.>", "CONSUMER.DURABLE.CREATE.DSPEX_JOBS.mine",
			"CONSUMER.DELETE.DSPEX_ANON.batch", "CONSUMER.MSG.NEXT.DSPEX_ANON.batch", "CONSUMER.PAUSE.DSPEX_ANON.batch", "DIRECT.GET.KV_dspex_results", "DIRECT.GET.KV_dspex_results.$KV.dspex_results.r.a.x",
			"STREAM.PEER.REMOVE.DSPEX_JOBS", "STREAM.LEADER.STEPDOWN.DSPEX_JOBS",
		} {
			if m, err := nc.Request("$JS.API."+request, []byte("{}"), 5*time.Second); err != nats.ErrNoResponders && !refuses(m) {
				t.Errorf("%s: %s: %v, %v", role, request, m, err)
			}
		}
	}
	w.untouched()
}

// refuses reports an answer of JetStream that nothing was done: the request came to the asker's own account, which has none.
func refuses(m *nats.Msg) bool {
	return m != nil && (strings.Contains(string(m.Data), "not enabled for account") || strings.Contains(string(m.Data), "clustering support required"))
}

// TestNobodyHearsWhatIsSaidBehindTheWall subscribes to everything that an account can, while others work.
func TestNobodyHearsWhatIsSaidBehindTheWall(t *testing.T) {
	w := build(t)
	for role, theirs := range map[string][]string{
		"tenant acme": {"_INBOX.", "dspex.rpc.session.own", "dspex.reply.own"},
		"operator":    {"_INBOX.", "$SYS.", "$JS.EVENT.ADVISORY.", "dspex.telemetry.", "dspex.events.", "dspex.log."},
	} {
		nc, other := w.as(role), w.as("tenant default")
		all, err := nc.SubscribeSync(">")
		if err != nil {
			t.Fatal(err)
		}
		w.flush(nc)
		for _, m := range []*nats.Msg{
			{Subject: "dspex.rpc.session.secret", Data: []byte(echo)},
			{Subject: "dspex.session.secret", Data: []byte(echo), Header: nats.Header{"Dspex-Reply-To": {"dspex.reply.secret"}}},
			{Subject: "dspex.session.secret", Data: []byte(echo), Header: nats.Header{"Dspex-Reply-To": {"dspex.reply.acme.secret"}}},
			{Subject: "dspex.rpc.session.secret", Data: []byte(echo)},
		} {
			if _, err := other.RequestMsg(m, time.Minute); err != nil {
				t.Fatal(err)
			}
		}
		if role == "tenant acme" { // what is its own it receives
			if _, err := nc.Request("dspex.rpc.session.own", []byte(echo), time.Minute); err != nil {
				t.Fatal(err)
			}
		}
		w.flush(w.spied)
		w.flush(nc)
		for n, _, _ := all.Pending(); n > 0; n, _, _ = all.Pending() {
			m, err := all.NextMsg(time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(theirs, func(prefix string) bool { return strings.HasPrefix(m.Subject, prefix) }) {
				t.Errorf("%s hears %s: %s", role, m.Subject, m.Data)
			}
		}
	}
}

// TestNoReplySubjectEndsADelivery: an import leaves reply subjects under $JS.ACK. as they are, where consumers listen. The broker
// refuses them from clients, and an answer is no acknowledgement.
func TestNoReplySubjectEndsADelivery(t *testing.T) {
	w := build(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	delivered := make(chan string, 8)
	if _, err := w.spied.Subscribe("_INBOX.host.>", func(m *nats.Msg) {
		if strings.HasPrefix(m.Reply, "$JS.ACK.DSPEX_JOBS.") {
			delivered <- m.Reply
		}
	}); err != nil {
		t.Fatal(err)
	}
	w.flush(w.spied)
	const long = `{"command":"sleep","args":{"ms":600000},"options":{"timeout":"15m"}}`
	if _, err := w.as("tenant default").Request("dspex.session.victim", []byte(long), time.Minute); err != nil {
		t.Fatal(err)
	}
	ack := <-delivered
	for _, role := range []string{"tenant acme", "tenant default", "operator"} {
		refused := make(chan error, 1)
		nc := natstest.Connect(t, w.broker, nats.UserInfo(role, password(role)), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
		for _, at := range append(entrances(role), "dspex.rpc.no.such.endpoint") {
			for _, body := range []string{"", echo} {
				if err := nc.PublishRequest(at, ack, []byte(body)); err != nil {
					t.Fatal(err)
				}
				w.flush(nc)
				if err := <-refused; !strings.Contains(err.Error(), "Permissions Violation for Publish with Reply") {
					t.Errorf("%s at %s: %v", role, at, err)
				}
			}
		}
	}
	s, err := w.js.Stream(ctx, "DSPEX_JOBS")
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Consumer(ctx, strings.Split(ack, ".")[3])
	if err != nil {
		t.Fatal(err)
	}
	// What comes there all the same, as an answer of the stream's.
	if err := w.spied.PublishMsg(&nats.Msg{Subject: "dspex.t.default.session.other", Reply: ack, Data: []byte(echo)}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.as("tenant default").Request("dspex.session.other", []byte(echo), time.Minute); err != nil {
		t.Fatal(err)
	}
	if _, err := s.GetLastMsgForSubject(ctx, "dspex.p.*.default.victim.session"); err != nil {
		t.Errorf("the job that runs was acknowledged: %v", err)
	}
	if info, err := c.Info(ctx); err != nil || info.NumAckPending == 0 {
		t.Errorf("the consumer waits for no acknowledgement: %+v, %v", info, err)
	}
}

// TestTenantsReachTheirOwnAlone requests, as one tenant, what is another's, and for what is nobody's but the operator's.
func TestTenantsReachTheirOwnAlone(t *testing.T) {
	w := build(t)
	own, other := w.as("tenant default"), w.as("tenant acme")
	ask := func(nc *nats.Conn, subject, body string, header nats.Header) string {
		t.Helper()
		m, err := nc.RequestMsg(&nats.Msg{Subject: subject, Data: []byte(body), Header: header}, time.Minute)
		if err != nil {
			return err.Error()
		}
		return string(m.Data)
	}
	job := nats.Header{"Dspex-Job": {"order1"}}
	for nc, x := range map[*nats.Conn]string{own: "mine", other: "theirs"} {
		if got := ask(nc, "dspex.rpc.session.carol", fmt.Sprintf(`{"command":"append","args":{"x":%q}}`, x), job); !strings.Contains(got, x) || strings.Contains(got, "conflict") {
			t.Errorf("%s: %s", x, got)
		}
	}
	if got := ask(other, "dspex.rpc.jobs.get", `{"session":"carol","job":"order1"}`, nil); !strings.Contains(got, "theirs") || strings.Contains(got, "mine") {
		t.Errorf("the outcome is %s", got)
	}
	if got := ask(own, "dspex.rpc.session.dave", `{"command":"append","args":{"x":1}}`, job); !strings.Contains(got, `"ok":true`) {
		t.Error(got)
	}
	for subject, body := range map[string]string{
		"dspex.rpc.jobs.get": `{"session":"dave","job":"order1"}`, "dspex.rpc.jobs.cancel": `{"session":"dave","job":"order1"}`, "dspex.rpc.sessions.get": `{"session":"dave"}`,
		"dspex.rpc.sessions.export": `{"session":"dave"}`, "dspex.rpc.sessions.cleanup": `{"session":"dave"}`, "dspex.rpc.sessions.erase": `{"session":"dave"}`,
		"dspex.rpc.objects.get": `{"session":"dave","job":"order1","object":"ABCDEFGHIJKLMNOPQRSTUVWXYZ"}`, "dspex.rpc.objects.upload": `{"session":"dave","data":"e30="}`,
	} {
		_ = ask(other, subject, body, nil) // whatever it names as a session of its own
		if got := ask(other, subject, body, nats.Header{"Dspex-Tenant": {"default"}}); !strings.Contains(got, "bad_header") {
			t.Errorf("%s with another's name: %s", subject, got)
		}
	}
	if got := ask(own, "dspex.rpc.session.dave", `{"command":"append","args":{"x":2}}`, nil); !strings.Contains(got, "[1,2]") {
		t.Errorf("another tenant touched the session: %s", got)
	}
	// A large result is its tenant's alone, by whatever reference.
	var large struct {
		Job    string
		Object struct{ Object string } `json:"result_object"`
	}
	said := ask(own, "dspex.rpc.session.erin", `{"command":"echo","args":{"x":"`+strings.Repeat("x", 400<<10)+`"}}`, nil)
	if err := json.Unmarshal([]byte(said), &large); err != nil || large.Object.Object == "" {
		t.Fatalf("%v: %.200s", err, said)
	}
	get := fmt.Sprintf(`{"session":"erin","job":%q,"object":%q}`, large.Job, large.Object.Object)
	if got := ask(own, "dspex.rpc.objects.get", get, nil); !strings.Contains(got, `"ok":true`) {
		t.Errorf("its own object: %.200s", got)
	}
	if got := ask(other, "dspex.rpc.objects.get", get, nil); !strings.Contains(got, "object_unknown") {
		t.Errorf("another tenant's object: %.200s", got)
	}
	for _, subject := range []string{
		"dspex.rpc.hosts.list", "dspex.rpc.hosts.drain", "dspex.rpc.hosts.resume", "dspex.rpc.hosts.reload", "dspex.rpc.partitions.get", "dspex.rpc.partitions.set",
		"dspex.rpc.consumers.list", "dspex.rpc.consumers.remove", "dspex.rpc.breakers.reset", "dspex.logs.get", "dspex.t.default.rpc.session.carol", "$SRV.PING", "$SRV.STATS.dspex",
	} {
		if _, err := other.Request(subject, nil, 5*time.Second); err != nats.ErrNoResponders {
			t.Errorf("%s: %v", subject, err)
		}
	}
}

// TestRightsInsideAreOfTheRoleAlone writes down who of those inside may publish where; what is refused the broker reports.
func TestRightsInsideAreOfTheRoleAlone(t *testing.T) {
	w := build(t)
	may := map[string][]string{
		"host": {
			"$KV.dspex_assign.", "$KV.dspex_sessions.", "$KV.dspex_results.", "$KV.dspex_control.lm.", "$KV.dspex_control.prog.", "$KV.dspex_control.prog.", "$KV.dspex_control.b.", "$KV.dspex_control.f.",
			"$O.dspex_objects.", "dspex.dlq.", "dspex.events.", "dspex.telemetry.", "dspex.log.", "dspex.hb.", "dspex.reply.", "_INBOX.", "$JS.API.CONSUMER.DELETE.DSPEX_JOBS.", "$JS.API.CONSUMER.CREATE.DSPEX_JOBS.victim",
		},
		"dispatcher": {"$KV.dspex_assign.", "$KV.dspex_control.", "$KV.dspex_batches.", "$KV.dspex_results.r.a.", "$O.dspex_objects.", "dspex.", "_INBOX.", "$JS.API."},
	}
	for _, role := range slices.Sorted(maps.Keys(may)) {
		refused := make(chan error, len(targets))
		nc := natstest.Connect(t, w.broker, nats.UserInfo(role, password(role)), nats.CustomInboxPrefix("_INBOX."+role),
			nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
		for _, to := range targets {
			if slices.ContainsFunc(may[role], func(prefix string) bool { return strings.HasPrefix(to, prefix) }) {
				continue
			}
			if err := nc.Publish(to, []byte("mine")); err != nil {
				t.Fatal(err)
			}
			w.flush(nc)
			select {
			case err := <-refused:
				if !strings.Contains(err.Error(), "Permissions Violation for Publish") {
					t.Errorf("%s to %s: %v", role, to, err)
				}
			case <-time.After(10 * time.Second): // a refusal takes a millisecond
				t.Errorf("%s publishes to %s", role, to)
			}
		}
	}
}

// TestNoAccountImportsWhatIsAnothers: the server refuses a configuration in which one tenant imports the subjects of another one,
// or what is the operator's. Without account_token_position it takes it, so the test would fail if that were gone.
func TestNoAccountImportsWhatIsAnothers(t *testing.T) {
	fresh(t)
	for _, foreign := range []string{
		`{service: {account: DSPEX, subject: "dspex.t.default.rpc.>"}, to: "mine.rpc.>"}`,
		`{service: {account: DSPEX, subject: "dspex.t.default.session.*"}, to: "mine.session.*"}`,
		`{service: {account: DSPEX, subject: "dspex.t.*.anonymous.*"}}`,
		`{stream: {account: DSPEX, subject: "dspex.reply.default.>"}, to: "mine.reply.>"}`,
		`{service: {account: DSPEX, subject: "dspex.rpc.>"}, to: "mine.rpc.>"}`,
		`{service: {account: DSPEX, subject: "$JS.API.STREAM.INFO.*"}, to: "mine.info.*"}`,
		`{service: {account: DSPEX, subject: "$JS.API.>"}, to: "mine.api.>"}`,
		`{service: {account: DSPEX, subject: "dspex.call.*"}, to: "mine.call.*"}`,
		`{stream: {account: DSPEX, subject: "dspex.telemetry.>"}, to: "mine.telemetry.>"}`,
		`{stream: {account: DSPEX, subject: "dspex.log.*.*"}, to: "mine.log.*.*"}`,
		`{service: {account: DSPEX, subject: "dspex.logs.get"}, to: "mine.logs.get"}`,
		`{stream: {account: DSPEX, subject: "$KV.>"}, to: "mine.kv.>"}`,
	} {
		path := withTenants(t, "acme")
		file := filepath.Join(filepath.Dir(path), "tenants", "acme.conf")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(strings.Replace(string(text), "imports: [", "imports: [\n"+foreign, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := server.ProcessConfigFile(path); err == nil || !strings.Contains(err.Error(), "not authorized") {
			t.Errorf("%s: %v", foreign, err)
		}
	}
}
