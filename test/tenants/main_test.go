package tenants

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/natstest"
	"github.com/dspex/dspex/internal/programtest"
)

// patience bounds the wait for what is to come.
const patience = time.Minute

// service is the account of dispatchers and hosts; the third token of what it exports is the account that may import it.
const service = `
jetstream { store_dir: "DIR" }
accounts {
  DSPEX {
    jetstream: enabled
    users: [{user: service, password: pw}]
    mappings: {"dspex.session.*": "dspex.t.default.session.$1", "dspex.call.*": "dspex.t.default.call.$1"}
    exports: [
      {service: "dspex.t.*.rpc.>", response_type: stream, threshold: "1h", account_token_position: 3}
      {service: "dspex.t.*.session.*", account_token_position: 3}
      {service: "dspex.t.*.anonymous.*", account_token_position: 3}
      {stream: "dspex.reply.*.>", account_token_position: 3}
      {service: "dspex.rpc.>", response_type: stream, threshold: "1h", accounts: [OPERATOR]}
    ]
  }
  OPERATOR {
    users: [{user: operator, password: pw}]
    imports: [{service: {account: DSPEX, subject: "dspex.rpc.>"}}]
  }
`

// tenant is the account of one.
const tenant = `
  NAME {
    users: [{user: NAME, password: pw}]
    imports: [
      {service: {account: DSPEX, subject: "dspex.t.NAME.rpc.>"}, to: "dspex.rpc.>"}
      {service: {account: DSPEX, subject: "dspex.t.NAME.session.*"}, to: "dspex.session.*"}
      {service: {account: DSPEX, subject: "dspex.t.NAME.anonymous.*"}, to: "dspex.anonymous.*"}
      {stream: {account: DSPEX, subject: "dspex.reply.NAME.>"}, to: "dspex.reply.>"}
    ]
  }
`

// deployment is a broker with the service behind it.
type deployment struct {
	bin, dir string
	broker   *server.Server
	mu       sync.Mutex
	started  []*programtest.Running
}

var shared *deployment

func TestMain(m *testing.M) {
	os.Exit(programtest.Run(m, func(bin, dir string) (_ func(), err error) {
		if shared, err = deploy(bin, dir, nil, nil); shared == nil {
			return nil, err
		}
		return shared.stop, err
	}, "../../cmd/dispatcher", "../../cmd/worker-host"))
}

func TestResultsAreFresh(t *testing.T) { programtest.Fresh(t, "../..") }

// deploy starts a broker, a dispatcher and a host with further flags.
func deploy(bin, dir string, dispatcher, host []string) (*deployment, error) {
	d := &deployment{bin: bin, dir: dir}
	text := strings.Replace(service, "DIR", filepath.Join(dir, "data"), 1)
	for _, name := range []string{"acme", "globex"} {
		text += strings.ReplaceAll(tenant, "NAME", name)
	}
	path := filepath.Join(dir, "nats.conf")
	if err := os.WriteFile(path, []byte(text+"}\n"), 0o600); err != nil {
		return nil, err
	}
	o, err := server.ProcessConfigFile(path)
	if err != nil {
		return nil, err
	}
	d.broker, err = natstest.Start(filepath.Join(dir, "data"), func(into *server.Options) {
		o.Host, o.Port, o.NoLog, o.NoSigs = into.Host, into.Port, true, true
		*into = *o
	})
	if err != nil {
		return nil, err
	}
	// Each is ready when the other one is there.
	errs := make(chan error, 2)
	go func() {
		errs <- d.start("dispatcher", append([]string{"--name", "d1", "--partitions", "8", "--accounts"}, dispatcher...))
	}()
	go func() {
		errs <- d.start("worker-host", append([]string{"--name", "h1", "--engine", "stub", "--workers", "1", "--slots", "8"}, host...))
	}()
	return d, errors.Join(<-errs, <-errs)
}

func (d *deployment) start(program string, args []string) error {
	cmd := programtest.Guarded(filepath.Join(d.bin, program), args...)
	cmd.Env = append(os.Environ(), "NATS_URL="+d.broker.ClientURL(), "NATS_USER=service", "NATS_PASSWORD=pw")
	cmd.Stderr = os.Stderr
	p, err := programtest.Start(cmd)
	if err == nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.started = append(d.started, p)
	}
	return err
}

func (d *deployment) stop() {
	for _, p := range d.started {
		p.Stop()
	}
	d.broker.Shutdown()
	d.broker.WaitForShutdown()
}

// client is a connection of a user.
type client struct {
	*nats.Conn
	t *testing.T
}

func (d *deployment) as(t *testing.T, user string) client {
	t.Helper()
	return client{natstest.Connect(t, d.broker, nats.UserInfo(user, "pw")), t}
}

// as connects to the deployment that most tests share.
func as(t *testing.T, user string) client { t.Helper(); return shared.as(t, user) }

type m = map[string]any

// reply is what these tests read of an answer.
type reply struct {
	OK     bool            `json:"ok"`
	Result json.RawMessage `json:"result"`
	Error  struct {
		Category   string `json:"error_category"`
		Code       string `json:"code"`
		Message    string `json:"message"`
		Hint       string `json:"hint"`
		Retryable  bool   `json:"retryable"`
		RetryAfter int64  `json:"retry_after_ms"`
	} `json:"error"`
}

// ask sends a request with these headers, by pairs.
func (c client) ask(subject string, body m, headers ...string) reply {
	c.t.Helper()
	answer, err := c.RequestMsg(message(c.t, subject, body, headers...), patience)
	if err != nil {
		c.t.Fatalf("%s: %v", subject, err)
	}
	return read(c.t, answer.Data)
}

func message(t *testing.T, subject string, body m, headers ...string) *nats.Msg {
	t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	msg := &nats.Msg{Subject: subject, Data: data, Header: nats.Header{}}
	for i := 0; i < len(headers); i += 2 {
		msg.Header.Set(headers[i], headers[i+1])
	}
	return msg
}

func read(t *testing.T, data []byte) (r reply) {
	t.Helper()
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatalf("%v: %s", err, data)
	}
	return r
}

func command(name string, args m) m {
	if args == nil {
		args = m{}
	}
	return m{"command": name, "args": args}
}

// publish stores a job under an id of its own, and waits for its outcome.
func (c client) publish(subject, session, id string, body m) reply {
	c.t.Helper()
	ack, err := c.RequestMsg(message(c.t, subject, body, "Dspex-Job", id), patience)
	if err != nil {
		c.t.Fatal(err)
	}
	if !strings.Contains(string(ack.Data), `"stream":"DSPEX_`) {
		c.t.Fatalf("PubAck %s", ack.Data)
	}
	look := m{"job": id, "wait_ms": patience.Milliseconds()}
	if session != "" {
		look["session"] = session
	}
	found := c.ask("dspex.rpc.jobs.get", look)
	var job struct {
		Outcome  string
		Attempts int
		Reply    reply
	}
	if err := json.Unmarshal(found.Result, &job); err != nil {
		c.t.Fatalf("%v: %+v", err, found)
	}
	if (job.Outcome == "succeeded") != job.Reply.OK || job.Reply.Error.Code == "role_required" && job.Attempts != 0 {
		c.t.Errorf("%+v", job)
	}
	return job.Reply
}
