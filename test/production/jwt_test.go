package production

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/dspex/dspex/internal/natstest"
)

// issuer makes accounts and users of a broker in operator mode, as docs/operations.md describes them.
type issuer struct {
	*testing.T
	operator nkeys.KeyPair
	resolver server.MemAccResolver
}

func (i *issuer) must(err error) {
	i.Helper()
	if err != nil {
		i.Fatal(err)
	}
}

func (i *issuer) key(make func() (nkeys.KeyPair, error)) (nkeys.KeyPair, string) {
	i.Helper()
	k, err := make()
	i.must(err)
	public, err := k.PublicKey()
	i.must(err)
	return k, public
}

// account makes one; claims get what it exports and imports.
func (i *issuer) account(name string, claims func(*jwt.AccountClaims)) (nkeys.KeyPair, string) {
	i.Helper()
	key, public := i.key(nkeys.CreateAccount)
	c := jwt.NewAccountClaims(public)
	c.Name = name
	claims(c)
	token, err := c.Encode(i.operator)
	i.must(err)
	i.must(i.resolver.Store(public, token))
	return key, public
}

// creds writes the credentials of a new user of the account, who may do all in it unless permissions allow less.
func (i *issuer) creds(account nkeys.KeyPair, rights ...jwt.Permissions) string {
	i.Helper()
	key, public := i.key(nkeys.CreateUser)
	claims := jwt.NewUserClaims(public)
	for _, r := range rights {
		claims.Permissions = r
	}
	token, err := claims.Encode(account)
	i.must(err)
	seed, err := key.Seed()
	i.must(err)
	text, err := jwt.FormatUserConfig(token, seed)
	i.must(err)
	path := filepath.Join(i.TempDir(), "user.creds")
	i.must(os.WriteFile(path, text, 0o600))
	return path
}

// service is the account of dispatchers and hosts.
func service(c *jwt.AccountClaims) {
	c.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: jwt.NoLimit, DiskStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit}
	c.Mappings = jwt.Mapping{
		"dspex.session.*": {{Subject: "dspex.t.default.session.$1", Weight: 100}},
		"dspex.call.*":    {{Subject: "dspex.t.default.call.$1", Weight: 100}},
	}
	c.Exports = jwt.Exports{
		{Name: "rpc", Subject: "dspex.t.*.rpc.>", Type: jwt.Service, ResponseType: jwt.ResponseTypeStream, ResponseThreshold: time.Hour, AccountTokenPosition: 3},
		{Name: "session", Subject: "dspex.t.*.session.*", Type: jwt.Service, AccountTokenPosition: 3},
		{Name: "anonymous", Subject: "dspex.t.*.anonymous.*", Type: jwt.Service, AccountTokenPosition: 3},
		{Name: "reply", Subject: "dspex.reply.*.>", Type: jwt.Stream, AccountTokenPosition: 3},
	}
}

// imports are those of a tenant, under the name of as.
func imports(from, as string) jwt.Imports {
	return jwt.Imports{
		{Name: "rpc", Account: from, Subject: jwt.Subject("dspex.t." + as + ".rpc.>"), LocalSubject: "dspex.rpc.>", Type: jwt.Service},
		{Name: "session", Account: from, Subject: jwt.Subject("dspex.t." + as + ".session.*"), LocalSubject: "dspex.session.*", Type: jwt.Service},
		{Name: "anonymous", Account: from, Subject: jwt.Subject("dspex.t." + as + ".anonymous.*"), LocalSubject: "dspex.anonymous.*", Type: jwt.Service},
		{Name: "reply", Account: from, Subject: jwt.Subject("dspex.reply." + as + ".>"), LocalSubject: "dspex.reply.>", Type: jwt.Stream},
	}
}

// issue makes an operator and its system account.
func issue(t *testing.T) (i *issuer, operator *jwt.OperatorClaims, system string) {
	t.Helper()
	i = &issuer{T: t}
	var public string
	i.operator, public = i.key(nkeys.CreateOperator)
	operator = jwt.NewOperatorClaims(public)
	_, system = i.account("SYS", func(*jwt.AccountClaims) {})
	operator.SystemAccount = system
	token, err := operator.Encode(i.operator)
	i.must(err)
	operator, err = jwt.DecodeOperatorClaims(token)
	i.must(err)
	return i, operator, system
}

// broker runs one that trusts the operator, on an empty store.
func (i *issuer) broker(operator *jwt.OperatorClaims, system string) *server.Server {
	i.Helper()
	return natstest.Run(i, func(o *server.Options) {
		o.TrustedOperators, o.AccountResolver, o.SystemAccount = []*jwt.OperatorClaims{operator}, &i.resolver, system
		o.JetStreamMaxStore = 20 << 30
	})
}

// serve starts a dispatcher and a host as users of the service's account.
func (i *issuer) serve(s *server.Server, inside nkeys.KeyPair) []*process {
	i.Helper()
	at := append(os.Environ(), "NATS_URL="+s.ClientURL(), "DSPEX_ACCOUNTS=true")
	d := startIn(i.T, at, "dispatcher", "--name", "d1", "--partitions", "8", "--creds", i.creds(inside))
	h := startIn(i.T, at, "worker-host", "--name", "h1", "--engine", "stub", "--workers", "1", "--creds", i.creds(inside))
	for _, p := range []*process{h, d} {
		if line := <-p.ready; !strings.HasPrefix(line, "ready ") {
			i.Fatalf("it said %q", line)
		}
	}
	return []*process{h, d}
}

// TestABrokerInOperatorModeHasTheSameWalls: the tenant is the public key of its account, and an account that imports another's
// subjects reaches nothing by them.
func TestABrokerInOperatorModeHasTheSameWalls(t *testing.T) {
	fresh(t)
	i, operator, system := issue(t)
	inside, dspex := i.account("DSPEX", service)
	acme, acmeID := i.account("acme", func(c *jwt.AccountClaims) { c.Imports = imports(dspex, c.Subject) })
	evil, evilID := i.account("evil", func(c *jwt.AccountClaims) { c.Imports = imports(dspex, acmeID) })
	s := i.broker(operator, system)
	i.serve(s, inside)
	own, thief := natstest.Connect(t, s, nats.UserCredentials(i.creds(acme))), natstest.Connect(t, s, nats.UserCredentials(i.creds(evil)))
	if m, err := own.Request("dspex.rpc.session.carol", []byte(`{"command":"append","args":{"x":1}}`), time.Minute); err != nil || !strings.Contains(string(m.Data), `"ok":true`) {
		t.Fatalf("%v, %v", m, err)
	}
	for _, subject := range []string{"dspex.rpc.session.carol", "dspex.session.carol", "dspex.anonymous.batch", "dspex.t." + evilID + ".session.carol", "dspex.t." + acmeID + ".session.carol"} {
		if m, err := thief.Request(subject, []byte(echo), 5*time.Second); err != nats.ErrNoResponders {
			t.Errorf("%s: %v, %v", subject, m, err)
		}
	}
	replies, err := own.SubscribeSync("dspex.reply.>")
	i.must(err)
	heard, err := thief.SubscribeSync(">")
	i.must(err)
	if m, err := own.RequestMsg(&nats.Msg{Subject: "dspex.session.carol", Data: []byte(echo), Header: nats.Header{"Dspex-Reply-To": {"dspex.reply.mine"}}}, time.Minute); err != nil || strings.Contains(string(m.Data), "error") {
		t.Fatalf("%v, %v", m, err)
	}
	if _, err := replies.NextMsg(time.Minute); err != nil {
		t.Errorf("the reply to a published job: %v", err)
	}
	if m, err := heard.NextMsg(100 * time.Millisecond); err == nil {
		t.Errorf("another tenant hears %s: %s", m.Subject, m.Data)
	}
}

// TestABackupInOperatorModeIsADeploymentAgain: a user of the service's account makes it who has the permissions of BACKUP_RIGHTS in nats.conf.
func TestABackupInOperatorModeIsADeploymentAgain(t *testing.T) {
	fresh(t)
	i, operator, system := issue(t)
	inside, dspex := i.account("DSPEX", service)
	acme, _ := i.account("acme", func(c *jwt.AccountClaims) { c.Imports = imports(dspex, c.Subject) })
	copier, tenant := i.creds(inside, jwt.Permissions{
		Pub: jwt.Permission{Allow: jwt.StringList{"$JS.API.STREAM.INFO.*", "$JS.API.STREAM.MSG.GET.*", "$JS.API.DIRECT.GET.*", "$JS.API.STREAM.RESTORE.*", "$JS.SNAPSHOT.RESTORE.>", "$SRV.PING.dspex"}},
		Sub: jwt.Permission{Allow: jwt.StringList{"dspex.hb.*", "_INBOX.backup.>"}},
	}), i.creds(acme)
	run := func(s *server.Server, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "dspex"), args...)
		cmd.Env = append(os.Environ(), "NATS_URL="+s.ClientURL(), "NATS_CREDS="+copier, "NATS_INBOX_PREFIX=_INBOX.backup")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	turn := func(s *server.Server, n int) {
		t.Helper()
		nc := natstest.Connect(t, s, nats.UserCredentials(tenant))
		m, err := nc.Request("dspex.rpc.session.carol", []byte(fmt.Sprintf(`{"command":"append","args":{"x":%d}}`, n)), time.Minute)
		if err != nil || listOf(string(m.Data)) != numbers(n+1) {
			t.Fatalf("turn %d: %+v, %v", n, m, err)
		}
	}
	before := i.broker(operator, system)
	processes := i.serve(before, inside)
	turn(before, 0)
	turn(before, 1)
	dir := filepath.Join(t.TempDir(), "copy")
	run(before, "backup", dir)
	for _, p := range processes {
		_ = p.kill()
	}
	before.Shutdown()
	before.WaitForShutdown()

	after := i.broker(operator, system)
	run(after, "restore", dir)
	i.serve(after, inside)
	turn(after, 2)
}
