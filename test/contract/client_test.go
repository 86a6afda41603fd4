package contract

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/vmihailenco/msgpack/v5"
)

const (
	jsonType    = "application/json"
	msgpackType = "application/msgpack"
	// patience is how long a test waits for what must come; nothing is asserted about speed.
	patience = 60 * time.Second
)

// reply is a reply body with the fields of job.md, "Reply"; others are refused.
type reply struct {
	OK      bool           `json:"ok"`
	Result  any            `json:"result"`
	Object  any            `json:"result_object"`
	Error   *failure       `json:"error"`
	Job     string         `json:"job"`
	Attempt int            `json:"attempt"`
	Session *place         `json:"session"`
	RanOn   *place         `json:"ran_on"`
	Engine  string         `json:"engine"`
	Timing  *timing        `json:"timing"`
	Usage   map[string]any `json:"usage"`

	header nats.Header
	keys   map[string]json.RawMessage
}

type place struct {
	ID     string `json:"id"`
	Host   string `json:"host"`
	Worker string `json:"worker"`
	State  string `json:"state"`
}

type timing struct {
	QueuedMS int `json:"queued_ms"`
	RunMS    int `json:"run_ms"`
}

type failure struct {
	Category     string `json:"error_category"`
	Code         string `json:"code"`
	Message      string `json:"message"`
	Hint         string `json:"hint"`
	Retryable    *bool  `json:"retryable"`
	RetryAfterMS int    `json:"retry_after_ms"`
	RetryAfter   int    `json:"retry_after"` // the same
	Job          string `json:"job"`
	Severity     string `json:"severity"`
	Strategy     string `json:"recovery_strategy"`
	Recoverable  *bool  `json:"recoverable"`
	Expected     string `json:"expected"`
	Path         string `json:"path"`
	Attempt      int    `json:"attempt"`
	Worker       string `json:"worker"`
	PythonType   string `json:"python_type"`
	Traceback    string `json:"traceback"`
}

// text is a JSON body.
func text(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func packed(v any) []byte {
	b, err := msgpack.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

type m = map[string]any

// body is a request body.
func body(command string, args m, options ...m) m {
	b := m{"command": command}
	if args != nil {
		b["args"] = args
	}
	for _, o := range options {
		b["options"] = o
	}
	return b
}

// message builds a message; headers are name, value, name, value.
func message(subject string, data []byte, headers ...string) *nats.Msg {
	msg := &nats.Msg{Subject: subject, Data: data, Header: nats.Header{}}
	for pair := range slices.Chunk(headers, 2) {
		msg.Header[pair[0]] = append(msg.Header[pair[0]], pair[1])
	}
	return msg
}

// request sends a request and reads its reply in the form that the reply's header names.
func (s *service) request(t *testing.T, subject string, data []byte, headers ...string) reply {
	t.Helper()
	answer, err := s.nc.RequestMsg(message(subject, data, headers...), patience)
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	return read(t, answer)
}

// call runs a command in a session, or anonymously.
func (s *service) call(t *testing.T, session, command string, args m, options ...m) reply {
	t.Helper()
	subject := "dspex.rpc.anonymous"
	if session != "" {
		subject = "dspex.rpc.session." + session
	}
	return s.request(t, subject, text(body(command, args, options...)))
}

// later publishes a job and waits for its reply: unlike a call it may wait for as long as a worker takes to start.
func (s *service) later(t *testing.T, session, command string, args m) reply {
	t.Helper()
	subject := "dspex.anonymous.interactive"
	if session != "" {
		subject = "dspex.session." + session
	}
	_, r := s.wait(t, session, s.publish(t, subject, text(body(command, args))))
	return r
}

func read(t *testing.T, answer *nats.Msg) reply {
	t.Helper()
	data := answer.Data
	switch kind := answer.Header.Get("Content-Type"); kind {
	case jsonType:
	case msgpackType:
		data = asJSON(t, data)
	default:
		t.Fatalf("content type %q of %q", kind, data)
	}
	r := readBody(t, data)
	r.header = answer.Header
	if code := answer.Header.Get("Nats-Service-Error-Code"); (code == "") != r.OK {
		t.Errorf("error code %q in the header of %s", code, data)
	}
	return r
}

func readBody(t *testing.T, data []byte) reply {
	t.Helper()
	r := reply{}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	d.UseNumber()
	if err := d.Decode(&r); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
	if err := json.Unmarshal(data, &r.keys); err != nil {
		t.Fatal(err)
	}
	return r
}

func decode(t *testing.T, data []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
}

// asJSON spells a MessagePack value in JSON, for tests that do not care about the difference.
func asJSON(t *testing.T, data []byte) []byte {
	t.Helper()
	d := msgpack.NewDecoder(bytes.NewReader(data))
	v, err := d.DecodeInterface()
	if err != nil || d.Buffered() == nil {
		t.Fatalf("not MessagePack: %x: %v", data, err)
	}
	return text(v)
}

// publish stores a job durably and returns its id.
func (s *service) publish(t *testing.T, subject string, data []byte, headers ...string) string {
	t.Helper()
	js, err := jetstream.New(s.nc)
	if err != nil {
		t.Fatal(err)
	}
	msg := message(subject, data, headers...)
	ack, err := js.PublishMsg(t.Context(), msg)
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	if id := msg.Header.Get("Dspex-Job"); id != "" {
		return id
	}
	return "q" + strconv.FormatUint(ack.Sequence, 10)
}

// outcome is the answer of dspex.rpc.jobs.get.
type outcome struct {
	Job      string          `json:"job"`
	Session  string          `json:"session"`
	Outcome  string          `json:"outcome"`
	RetryIn  *int64          `json:"retry_in_ms"`
	Attempts int             `json:"attempts"`
	Reply    json.RawMessage `json:"reply"`
}

func (s *service) lookUp(t *testing.T, ask m) (outcome, reply) {
	t.Helper()
	r := s.request(t, "dspex.rpc.jobs.get", text(ask))
	var o outcome
	if r.OK {
		d := json.NewDecoder(bytes.NewReader(r.keys["result"]))
		d.DisallowUnknownFields()
		if err := d.Decode(&o); err != nil {
			t.Fatalf("%v in %s", err, r.keys["result"])
		}
	}
	return o, r
}

// wait returns how a job ended, with its reply.
func (s *service) wait(t *testing.T, session, job string) (outcome, reply) {
	t.Helper()
	ask := m{"job": job, "wait_ms": patience.Milliseconds()}
	if session != "" {
		ask["session"] = session
	}
	o, r := s.lookUp(t, ask)
	if !r.OK || o.Reply == nil {
		t.Fatalf("job %s of %q: %+v %+v", job, session, o, r.Error)
	}
	return o, readBody(t, o.Reply)
}

// traits are the constants of the categories.
var traits = map[string][2]string{
	"initialization": {"critical", "circuit_break"}, "connection": {"major", "backoff_retry"}, "communication": {"major", "immediate_retry"},
	"timeout": {"major", "backoff_retry"}, "resource_error": {"critical", "circuit_break"}, "health_check": {"minor", "backoff_retry"},
	"session": {"minor", "immediate_retry"}, "python": {"major", "failover"}, "system_error": {"critical", "abandon"},
}

// fails checks everything that holds for each failure, and that it is this one.
func (r reply) fails(t *testing.T, category, code string) {
	t.Helper()
	e := r.Error
	if r.OK || e == nil || r.keys["result"] != nil {
		t.Fatalf("expected the failure %s/%s, got %+v", category, code, r)
	}
	if e.Category != category || e.Code != code {
		t.Errorf("got %s/%s (%s), want %s/%s", e.Category, e.Code, e.Message, category, code)
	}
	if want := traits[e.Category]; e.Severity != want[0] || e.Strategy != want[1] {
		t.Errorf("%s is %s with %s, want %v", e.Category, e.Severity, e.Strategy, want)
	}
	switch {
	case e.Message == "":
		t.Errorf(`e.Message must not be ""; incomplete: %+v`, *e)
	case e.Retryable == nil:
		t.Errorf("e.Retryable must not be nil; incomplete: %+v", *e)
	case e.Recoverable == nil:
		t.Errorf("e.Recoverable must not be nil; incomplete: %+v", *e)
	case *e.Retryable != *e.Recoverable:
		t.Errorf("*e.Retryable must be *e.Recoverable, got %v; incomplete: %+v", *e.Retryable, *e)
	}
	if r.header == nil {
		return
	}
	number, err := strconv.Atoi(r.header.Get("Nats-Service-Error-Code"))
	switch {
	case err != nil:
		t.Errorf("err must be nil, got %v; headers %v", err, r.header)
	case number < 400:
		t.Errorf("number must be >= 400, got %v; headers %v", number, r.header)
	case number > 599:
		t.Errorf("number must be <= 599, got %v; headers %v", number, r.header)
	case r.header.Get("Nats-Service-Error") == "":
		t.Errorf(`r.header.Get("Nats-Service-Error") must not be ""; headers %v`, r.header)
	}
}

// refused checks a failure that no retry can cure and that names what would have been right.
func (r reply) refused(t *testing.T, category, code, path string) {
	t.Helper()
	r.fails(t, category, code)
	switch e := r.Error; {
	case e == nil:
		t.Error("e must not be nil")
	case *e.Retryable:
		t.Errorf("must not hold: *e.Retryable; path %q, expected %q, retryable %v: want the path %q and what was expected", e.Path, e.Expected, *e.Retryable, path)
	case e.Expected == "":
		t.Errorf(`e.Expected must not be ""; path %q, expected %q, retryable %v: want the path %q and what was expected`, e.Path, e.Expected, *e.Retryable, path)
	case e.Path != path:
		t.Errorf("e.Path: got %v, want %v; path %q, expected %q, retryable %v: want the path %q and what was expected", e.Path, path, e.Path, e.Expected, *e.Retryable, path)
	}
}

// succeeds checks what holds for each success.
func (r reply) succeeds(t *testing.T) {
	t.Helper()
	if !r.OK || r.Error != nil {
		t.Fatalf("failed: %+v", r.Error)
	}
}

func unpack(t *testing.T, data []byte, v any) {
	t.Helper()
	if err := msgpack.Unmarshal(data, v); err != nil {
		t.Fatal(err)
	}
}
