package host_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/dispatch"
	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/host"
	"github.com/dspex/dspex/internal/host/workers"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/pyproc"
	"github.com/dspex/dspex/internal/wire"
)

// pool is a worker in Go: `append` keeps a list per session in the state that the host passes, like the stub engine does.
type pool struct {
	slots    chan struct{}
	room     chan struct{} // closed and renewed when a slot has come free
	turn     sync.Mutex    // of those that take all slots
	runs     atomic.Int64
	gone     atomic.Bool   // no worker serves
	died     atomic.Uint64 // workers that have died
	mu       sync.Mutex
	none     func() error // why no slot can be had; nil, or a nil error: it can
	hook     func(ctx context.Context, call frame.CallBody) (frame.Frame, error, bool)
	held     map[string]uint64 // session -> state version in this worker
	state    map[string][]byte
	received []string // by SendAll
	told     []frame.Frame
	wants    []workers.Want
}

func newPool(slots int) *pool {
	p := &pool{slots: make(chan struct{}, slots), room: make(chan struct{}), held: map[string]uint64{}, state: map[string][]byte{}}
	return p
}

func (p *pool) Checkout(want workers.Want, wait workers.Wait) (workers.Slot, error) {
	p.mu.Lock()
	none := p.none
	p.wants = append(p.wants, want)
	p.mu.Unlock()
	if none != nil {
		if err := none(); err != nil {
			return nil, err
		}
	}
	s := &slot{p, 1, 7 + p.died.Load()}
	if want.Alone {
		p.turn.Lock() // two that each hold half of the slots would wait for ever
		defer p.turn.Unlock()
		s.n = cap(p.slots)
	}
	for n := range s.n {
		if err := p.takeOne(wait); err != nil {
			(&slot{p: p, n: n}).Release()
			return nil, err
		}
	}
	return s, nil
}

func (p *pool) takeOne(wait workers.Wait) error {
	select {
	case p.slots <- struct{}{}:
		return nil
	default:
	}
	got, quit := make(chan struct{}), make(chan struct{})
	var asking sync.WaitGroup
	asking.Go(func() {
		select {
		case p.slots <- struct{}{}:
			close(got)
		case <-quit:
		}
	})
	err := wait(got)
	close(quit)
	asking.Wait()
	select {
	case <-got:
		if err != nil {
			<-p.slots
		}
	default:
	}
	return err
}

func (p *pool) SendAll(t frame.Type, body []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.received = append(p.received, t.String()+" "+string(body))
}

// fill takes all slots, and empty gives them back.
func (p *pool) fill() {
	for range cap(p.slots) {
		p.slots <- struct{}{}
	}
}

func (p *pool) empty() {
	for range cap(p.slots) {
		<-p.slots
	}
}

func (p *pool) Free() int { return cap(p.slots) - len(p.slots) }

func (p *pool) Room() (free, allowed int, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.Free(), 0, p.room
}

func (p *pool) Workers() workers.Counts {
	if p.gone.Load() {
		return workers.Counts{Size: 1}
	}
	return workers.Counts{Size: 1, Active: 1, Available: 1}
}

type slot struct {
	p *pool
	n int // of the pool's slots

	worker uint64
}

func (s *slot) WorkerID() uint64   { return s.worker }
func (s *slot) WorkerName() string { return "w/0" }
func (s *slot) Engine() string     { return "fake 1" }
func (s *slot) Send(t frame.Type, body []byte) error {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.p.told = append(s.p.told, frame.Frame{Type: t, Body: body})
	return nil
}
func (s *slot) Exclusive(command string) bool { return command == "alone" }
func (s *slot) Release() {
	for range s.n {
		<-s.p.slots
	}
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	close(s.p.room)
	s.p.room = make(chan struct{})
}
func (s *slot) Call(body []byte, _ func([]byte), wait workers.Wait) (f frame.Frame, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan struct{})
	go func() { defer close(ended); f, err = s.call(ctx, body) }()
	if gaveUp := wait(ended); gaveUp != nil {
		cancel()
		<-ended
		return frame.Frame{}, gaveUp
	}
	return f, err
}

func (s *slot) call(ctx context.Context, body []byte) (frame.Frame, error) {
	c, err := frame.ParseCall(body)
	if err != nil {
		return frame.Frame{}, err
	}
	s.p.runs.Add(1)
	s.p.mu.Lock()
	hook := s.p.hook
	s.p.mu.Unlock()
	if hook != nil {
		if f, err, done := hook(ctx, c); done {
			if _, dead := errors.AsType[*pyproc.ExitError](err); dead { // all that was in it ends with it
				s.p.died.CompareAndSwap(s.worker-7, s.worker-7+1)
			}
			return f, err
		}
	}
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	state := c.State
	if state == nil && c.StateVersion > 0 {
		if s.p.held[c.Session] != c.StateVersion {
			return failure("session", "state_missing", true), nil
		}
		state = s.p.state[c.Session]
	}
	var list []any
	if state != nil {
		if err := wire.Decode(state, &list); err != nil {
			return frame.Frame{}, err
		}
	}
	list = append(list, c.Job)
	next, err := wire.Encode(list)
	if err != nil {
		return frame.Frame{}, err
	}
	p := s.p
	p.held[c.Session], p.state[c.Session] = c.StateVersion+1, next
	r := frame.ResultBody{Value: next, Meta: wire.AppendMap(nil, 0), State: next, StateVersion: c.StateVersion + 1}
	return frame.Frame{Type: frame.Result, Body: r.AppendBody(nil)}, nil
}

func failure(category, code string, retryable bool) frame.Frame {
	return failureAfter(category, code, retryable, 0)
}

// failureAfter is a failure with a time before which it must not be repeated.
func failureAfter(category, code string, retryable bool, after uint64) frame.Frame {
	detail := wire.AppendBool(wire.AppendStr(wire.AppendMap(nil, 2), "retryable"), retryable)
	detail = wire.AppendUint(wire.AppendStr(detail, "retry_after_ms"), after)
	return frame.Frame{Type: frame.Error, Body: frame.ErrorBody{Category: category, Code: code, Message: "scripted", Detail: detail}.AppendBody(nil)}
}

// noModels has no default; each name is a model of its own.
type noModels struct{}

func (noModels) Named(name string) (jobs.Model, *jobs.Error) {
	return jobs.Model{Key: name, Profile: []byte{0x80}, Breaker: "lm.test/" + name}, nil
}
func (noModels) Chosen([]byte) (jobs.Model, *jobs.Error) { return jobs.Model{}, nil }
func (noModels) Default() (jobs.Model, *jobs.Error)      { return jobs.Model{}, nil }
func (noModels) SetDefault([]byte) *jobs.Error           { return nil }

type system struct {
	t     *testing.T
	dir   string
	srv   *server.Server
	nc    *nats.Conn
	pool  *pool
	line  *line // to the broker; nil: the one that was started
	conns []*nats.Conn
	host  *host.Host // of run
	stop  context.CancelFunc
	done  sync.WaitGroup
}

func broker(t *testing.T, dir string) *server.Server {
	t.Helper()
	s, err := server.NewServer(&server.Options{ServerName: "t", DontListen: true, JetStream: true, StoreDir: dir, NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("broker not ready")
	}
	return s
}

func start(t *testing.T, dir string) *system {
	t.Helper()
	y := &system{t: t, dir: dir, srv: broker(t, dir), pool: newPool(8)}
	y.nc = y.connect()
	y.run("h1")
	t.Cleanup(y.close)
	return y
}

func (y *system) connect() *nats.Conn {
	var to nats.InProcessConnProvider = y.srv
	if y.line != nil {
		to = y.line
	}
	nc, err := nats.Connect("", nats.InProcessServer(to), nats.ReconnectBufSize(-1), nats.MaxReconnects(-1))
	if err != nil {
		y.t.Fatal(err)
	}
	y.conns = append(y.conns, nc)
	return nc
}

func (y *system) run(name string) {
	ctx, stop := context.WithCancel(context.Background())
	y.stop = stop
	ready := make(chan struct{})
	d, err := dispatch.New(dispatch.Config{Name: "d1", NC: y.connect(), OnReady: func() { close(ready) }})
	if err != nil {
		y.t.Fatal(err)
	}
	y.done.Go(func() {
		if err := d.Run(ctx); err != nil {
			y.t.Error(err)
		}
	})
	h, err := host.New(host.Config{Name: name, NC: y.connect(), Pool: y.pool, Models: noModels{}, Capacity: 8})
	if err != nil {
		y.t.Fatal(err)
	}
	y.host = h
	y.done.Go(func() {
		if err := h.Run(ctx); err != nil {
			y.t.Error(err)
		}
	})
	select {
	case <-ready:
	case <-time.After(30 * time.Second):
		y.t.Fatal("not ready")
	}
}

func (y *system) close() {
	y.stop()
	y.done.Wait()
	for _, nc := range y.conns {
		nc.Close()
	}
	y.conns = nil
	y.srv.Shutdown()
	y.srv.WaitForShutdown()
}

type reply struct {
	OK      bool                   `json:"ok"`
	Result  json.RawMessage        `json:"result"`
	Job     string                 `json:"job"`
	Attempt int                    `json:"attempt"`
	Session struct{ State string } `json:"session"`
	Error   struct {
		Category   string `json:"error_category"`
		Code       string `json:"code"`
		Message    string `json:"message"`
		Expected   string `json:"expected"`
		Retryable  bool   `json:"retryable"`
		RetryAfter int    `json:"retry_after_ms"`
	} `json:"error"`
}

func (y *system) call(subject, job, body string) reply {
	y.t.Helper()
	return y.callFor(subject, job, body, 20*time.Second)
}

func (y *system) callFor(subject, job, body string, d time.Duration) reply {
	y.t.Helper()
	m := &nats.Msg{Subject: subject, Data: []byte(body), Header: nats.Header{}}
	if job != "" {
		m.Header.Set("Dspex-Job", job)
	}
	r, err := y.nc.RequestMsg(m, d)
	if err != nil {
		y.t.Fatalf("%s: %v", subject, err)
	}
	var v reply
	if err := json.Unmarshal(r.Data, &v); err != nil {
		y.t.Fatalf("%s: %q: %v", subject, r.Data, err)
	}
	if !v.OK && r.Header.Get("Nats-Service-Error-Code") == "" {
		y.t.Errorf("%s: a failure without its header", subject)
	}
	return v
}

const echo = `{"command": "append"}`

func TestCallsOfASessionRunInOrderAndKeepState(t *testing.T) {
	y := start(t, t.TempDir())
	for n := 1; n <= 3; n++ {
		r := y.call("dspex.rpc.session.user_1", "j"+strconv.Itoa(n), echo)
		var list []string
		if err := json.Unmarshal(r.Result, &list); err != nil || len(list) != n || list[n-1] != "j"+strconv.Itoa(n) {
			t.Fatalf("call %d: %s %+v", n, r.Result, r)
		}
		if want := map[bool]string{true: "none", false: "warm"}[n == 1]; r.Session.State != want {
			t.Errorf("call %d: state %q, want %q", n, r.Session.State, want)
		}
	}
}

func TestARepeatedIdGetsTheFirstOutcomeAndAnotherPayloadIsAConflict(t *testing.T) {
	y := start(t, t.TempDir())
	first := y.call("dspex.rpc.session.s", "job-1", echo)
	again := y.call("dspex.rpc.session.s", "job-1", `{"args": {}, "command":"append"}`)
	if y.pool.runs.Load() != 1 && string(first.Result) != string(again.Result) {
		t.Errorf("runs %d, first %s, again %s", y.pool.runs.Load(), first.Result, again.Result)
	}
	other := y.call("dspex.rpc.session.s", "job-1", `{"command":"append","args":{"x":1}}`)
	if other.Error.Code != "conflict" || other.Error.Category != "session" {
		t.Errorf("another payload: %+v", other)
	}
	// The answer to the body without args differs in its canonical form only if args is spelt out.
	if same := y.call("dspex.rpc.session.s", "job-1", echo); string(same.Result) != string(first.Result) {
		t.Errorf("repeat: %s, first %s", same.Result, first.Result)
	}
}

func TestBadInputIsRefusedAtTheEndpointWithWhatWasExpected(t *testing.T) {
	y := start(t, t.TempDir())
	for name, c := range map[string]struct{ subject, body, code string }{
		"not json":       {"dspex.rpc.session.a", `{`, "bad_request"},
		"no command":     {"dspex.rpc.session.a", `{}`, "bad_request"},
		"unknown key":    {"dspex.rpc.session.a", `{"command":"x","arg":{}}`, "bad_request"},
		"unknown option": {"dspex.rpc.session.a", `{"command":"x","options":{"tiemout":1}}`, "bad_option"},
		"duplicate key":  {"dspex.rpc.session.a", `{"command":"x","command":"y"}`, "bad_request"},
		"case variant":   {"dspex.rpc.session.a", `{"command":"x","Command":"y"}`, "bad_request"},
		"secret":         {"dspex.rpc.anonymous", `{"command":"set_lm","args":{"model":"m","api_key":"sk-1"}}`, "secret_in_request"},
	} {
		if r := y.call(c.subject, "", c.body); r.OK || r.Error.Code != c.code || r.Error.Expected == "" {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if y.pool.runs.Load() != 0 {
		t.Error("something ran")
	}
}

func TestAPublishedJobHasAnOutcomeToFetch(t *testing.T) {
	y := start(t, t.TempDir())
	js, err := jetstream.New(y.nc)
	if err != nil {
		t.Fatal(err)
	}
	ack, err := js.Publish(context.Background(), "dspex.session.s9", []byte(echo))
	if err != nil {
		t.Fatal(err)
	}
	r := y.call("dspex.rpc.jobs.get", "", fmt.Sprintf(`{"session":"s9","job":"q%d","wait_ms":10000}`, ack.Sequence))
	var v struct{ Outcome string }
	if err := json.Unmarshal(r.Result, &v); err != nil || v.Outcome != "succeeded" {
		t.Errorf("%s %v", r.Result, r.Error)
	}
	if r := y.call("dspex.rpc.jobs.get", "", `{"session":"s9","job":"never"}`); r.Error.Code != "job_unknown" {
		t.Errorf("unknown job: %+v", r)
	}
}

func TestRetriesKeepTheSessionsOrderAndMaxRetriesZeroStartsOnce(t *testing.T) {
	y := start(t, t.TempDir())
	y.pool.mu.Lock()
	y.pool.hook = func(_ context.Context, c frame.CallBody) (frame.Frame, error, bool) {
		if c.Job == "flaky" && c.Attempt < 3 || c.Job == "never" {
			return failure("connection", "lost", true), nil, true
		}
		return frame.Frame{}, nil, false
	}
	y.pool.mu.Unlock()
	js, err := jetstream.New(y.nc)
	if err != nil {
		t.Fatal(err)
	}
	for _, job := range []string{"flaky", "after"} {
		m := &nats.Msg{Subject: "dspex.session.r", Data: []byte(`{"command":"append","options":{"max_retries":3,"backoff":[1]}}`), Header: nats.Header{"Dspex-Job": {job}}}
		if _, err := js.PublishMsg(context.Background(), m); err != nil {
			t.Fatal(err)
		}
	}
	r := y.call("dspex.rpc.jobs.get", "", `{"session":"r","job":"after","wait_ms":15000}`)
	var v struct{ Reply struct{ Result []string } }
	if err := json.Unmarshal(r.Result, &v); err != nil || fmt.Sprint(v.Reply.Result) != "[flaky after]" {
		t.Errorf("order: %s", r.Result)
	}
	before := y.pool.runs.Load()
	never := y.call("dspex.rpc.session.r", "never", `{"command":"append","options":{"max_retries":0}}`)
	if never.OK || never.Attempt != 1 || y.pool.runs.Load() != before+1 {
		t.Errorf("max_retries 0: %+v, %d runs", never, y.pool.runs.Load()-before)
	}
}

func TestAnonymousJobsAnswer(t *testing.T) {
	y := start(t, t.TempDir())
	if r := y.call("dspex.rpc.anonymous", "", echo); !r.OK {
		t.Errorf("%+v", r)
	}
}

func TestStateAndOutcomesSurviveABrokerAndHostRestart(t *testing.T) {
	dir := t.TempDir()
	y := start(t, dir)
	first := y.call("dspex.rpc.session.keep", "one", echo)
	y.close()
	y.srv, y.pool = broker(t, dir), newPool(8)
	y.nc = y.connect()
	y.run("h2") // another host
	if r := y.call("dspex.rpc.session.keep", "one", echo); string(r.Result) != string(first.Result) || y.pool.runs.Load() != 0 {
		t.Errorf("repeat after the restart: %+v", r)
	}
	r := y.call("dspex.rpc.session.keep", "two", echo)
	if string(r.Result) != `["one","two"]` || r.Session.State != "restored" {
		t.Errorf("after the restart: %s, state %s", r.Result, r.Session.State)
	}
}
