package dspex_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/natstest"
)

func TestWhatIsAskedForTravelsAsTheContractSays(t *testing.T) {
	c, _ := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour) // longer than the job may take: not passed on
	defer cancel()
	reply, err := c.Execute(ctx, "s_1", "request", dspex.Args{"question": "é<b>", "n": 1 << 60, "list": []any{1, "x", nil}},
		dspex.WithTimeout(1500*time.Microsecond), dspex.WithMaxRetries(2), dspex.WithBackoff(dspex.Linear()), dspex.WithDeadline(time.Minute),
		dspex.WithJobID("j-1"), dspex.WithSignature("question -> answer"), dspex.WithModule("chain_of_thought"), dspex.WithLM("fast"),
		dspex.WithTemperature(0.5), dspex.WithOutputs("answer", "why"), dspex.WithRequireState())
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Body    json.RawMessage
		Headers map[string][]string
	}
	if err := reply.Decode(&got); err != nil {
		t.Fatal(err)
	}
	sameJSON(t, got.Body, `{"command":"request","args":{"question":"é<b>","n":1152921504606846976,"list":[1,"x",null]},"options":{
		"timeout":2,"max_retries":2,"backoff":"linear","deadline":60000,"signature":"question -> answer","module":"chain_of_thought",
		"lm":"fast","temperature":0.5,"outputs":["answer","why"],"require_state":true}}`)
	want := map[string][]string{"Content-Type": {"application/json"}, "Dspex-Job": {"j-1"}}
	if !reflect.DeepEqual(got.Headers, want) {
		t.Errorf("headers %v, want %v", got.Headers, want)
	}
	equal(t, "job", reply.Job, dspex.JobRef{Session: "s_1", ID: "j-1"})
	equal(t, "attempt", reply.Attempt, 1)
	equal(t, "worker", reply.Worker, "h1/0")
	equal(t, "run", reply.Run, 2*time.Millisecond)
	equal(t, "engine", reply.Engine, "fake 0")
}

func sameJSON(t *testing.T, got []byte, want string) {
	t.Helper()
	var g, w any
	if err := errors.Join(json.Unmarshal(got, &g), json.Unmarshal([]byte(want), &w)); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(g, w) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestTheJobIsToldWhenItsCallerLeaves(t *testing.T) {
	c, _ := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	reply, err := c.ExecuteAnonymous(ctx, "request", nil)
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Headers map[string][]string }
	if err := reply.Decode(&got); err != nil {
		t.Fatal(err)
	}
	deadline := got.Headers["Dspex-Deadline"]
	if len(deadline) != 1 {
		t.Fatalf("Dspex-Deadline %v, want one", deadline)
	}
	if ms, err := strconv.Atoi(deadline[0]); err != nil || ms < 1000 || ms > 10000 {
		t.Errorf("Dspex-Deadline %v, want 1000 to 10000", deadline)
	}
	equal(t, "host", reply.Host, "h1")
	equal(t, "session", reply.Job.Session, "")
	equal(t, "session state", reply.SessionState, "")
}

func TestAFailureKeepsWhatTheOtherSideSaid(t *testing.T) {
	c, _ := start(t)
	reply, err := c.Execute(t.Context(), "s", "busy", nil, dspex.WithJobID("b1"))
	e := failsWith(t, "busy", err, "checkout_timeout")
	equal(t, "category", e.Category, dspex.ErrResource)
	equal(t, "retryable", e.Retryable, true)
	equal(t, "retry after", e.RetryAfter, 250*time.Millisecond)
	equal(t, "job", e.Job, dspex.JobRef{Session: "s", ID: "b1"})
	equal(t, "attempt", e.Attempt, 1)
	equal(t, "hint", e.Hint, "read the documentation")
	equal(t, "severity", e.Severity, "major")
	is(t, "busy", err, dspex.ErrResource)
	if errors.Is(err, dspex.ErrTimeout) || errors.Is(err, dspex.ErrInvalid) {
		t.Error("errors.Is does not go by category")
	}
	equal(t, "host of a failed job", reply.Host, "h1")
	if b, err := json.Marshal(e); err != nil || !strings.Contains(string(b), `"error_category":"resource_error"`) || strings.Contains(string(b), "traceback") {
		t.Errorf("as JSON: %s, %v", b, err)
	}
}

func TestNobodyThereIsNotTheSameAsNoBroker(t *testing.T) {
	s := natstest.Run(t)
	c, err := dspex.Connect(t.Context(), s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, call := c.Execute(t.Context(), "s", "predict", nil)
	_, submit := c.Submit(t.Context(), "s", "predict", nil)
	_, health := c.Health(t.Context())
	var stream error
	for _, err := range c.Stream(t.Context(), "s", "predict", nil) {
		stream = err
	}
	for name, err := range map[string]error{"call": call, "submit": submit, "health": health, "stream": stream} {
		t.Run(name, func(t *testing.T) {
			e := failsWith(t, "nobody there", err, dspex.CodePoolUnavailable)
			is(t, "nobody there", err, dspex.ErrResource)
			equal(t, "message", e.Message, "Pool not available: the broker answers, but no dispatcher serves")
		})
	}
	url := s.ClientURL()
	s.Shutdown()
	s.WaitForShutdown()
	_, err = dspex.Connect(t.Context(), url)
	failsWith(t, "no broker", err, dspex.CodeBroker)
	is(t, "no broker", err, dspex.ErrConnection)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = dspex.Connect(ended, url)
	failsWith(t, "a cancelled connect", err, dspex.CodeClientCancelled)
	is(t, "a cancelled connect", err, context.Canceled)
}

func TestTheCredentialsAreNamedAsTheProblem(t *testing.T) {
	s := natstest.Run(t, func(o *server.Options) { o.Username, o.Password = "u", "p" })
	_, err := dspex.Connect(t.Context(), s.ClientURL())
	e := failsWith(t, "without credentials", err, dspex.CodeBroker)
	equal(t, "retryable", e.Retryable, false)
	if !strings.Contains(e.Message, "credentials") {
		t.Errorf("message: %s", e.Message)
	}
	c, err := dspex.Connect(t.Context(), s.ClientURL(), dspex.WithNATS(nats.UserInfo("u", "p")))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestAContextEndsTheWait(t *testing.T) {
	c, _ := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err := c.Execute(ctx, "s", "hold", nil)
	failsWith(t, "deadline", err, dspex.CodeClientTimeout)
	is(t, "deadline", err, dspex.ErrTimeout)
	is(t, "deadline", err, context.DeadlineExceeded)
	// Without a deadline of the caller's, the call's own bound ends it.
	_, err = c.GetJob(t.Context(), dspex.JobRef{Session: "s", ID: "never"})
	failsWith(t, "unknown job", err, "job_unknown")
	is(t, "unknown job", err, dspex.ErrSession)
}

func TestACancelledContextIsAnErrorOfItsOwn(t *testing.T) {
	c, _ := start(t)
	shutdown := errors.New("shutting down")
	gone, leave := context.WithCancelCause(t.Context())
	leave(shutdown)
	job := dspex.JobRef{Session: "s", ID: "x"}
	_, execute := c.Execute(gone, "s", "hold", nil)
	_, submit := c.Submit(gone, "s", "hold", nil)
	_, wait := c.Wait(gone, job)
	_, get := c.GetJob(gone, job)
	_, hosts := c.Admin().Hosts(gone)
	var stream error
	for _, err := range c.Stream(gone, "s", "hold", nil) {
		stream = err
	}
	for name, err := range map[string]error{"execute": execute, "submit": submit, "wait": wait, "get": get, "hosts": hosts, "stream": stream} {
		t.Run(name, func(t *testing.T) {
			e := failsWith(t, "cancelled", err, dspex.CodeClientCancelled)
			equal(t, "category", e.Category, "")
			equal(t, "retryable", e.Retryable, false)
			is(t, "cancelled", err, context.Canceled)
			is(t, "cancelled", err, shutdown)
			if errors.Is(err, dspex.ErrTimeout) || errors.Is(err, dspex.ErrInvalid) {
				t.Errorf("%v is no timeout and no invalid call", err)
			}
		})
	}
}

func TestABadRequestIsRefusedBeforeItIsSent(t *testing.T) {
	c := dspex.New(nil) // nothing can be sent
	ctx := t.Context()
	call := func(opts ...dspex.CallOption) error {
		_, err := c.Execute(ctx, "s", "predict", nil, opts...)
		return err
	}
	second := func(_ dspex.Receipt, err error) error { return err }
	for name, c := range map[string]struct {
		err  error
		code string
	}{
		"session with a dot":   {func() error { _, err := c.Execute(ctx, "a.b", "predict", nil); return err }(), dspex.CodeBadSession},
		"session wildcard":     {second(c.Submit(ctx, "*", "predict", nil)), dspex.CodeBadSession},
		"empty session":        {second(c.Submit(ctx, "", "predict", nil)), dspex.CodeBadSession},
		"job of reserved form": {call(dspex.WithJobID("q17")), dspex.CodeBadJob},
		"job of a replay":      {call(dspex.WithJobID("a-r2")), dspex.CodeBadJob},
		"empty job":            {call(dspex.WithJobID("")), dspex.CodeBadJob},
		"empty reply to":       {second(c.Submit(ctx, "s", "predict", nil, dspex.WithReplyTo(""))), dspex.CodeBadOption},
		"long job":             {call(dspex.WithJobID(strings.Repeat("j", 49))), dspex.CodeBadJob},
		"lookup with a space":  {func() error { _, err := c.GetJob(ctx, dspex.JobRef{Session: "s", ID: "a b"}); return err }(), dspex.CodeBadJob},
		"timeout":              {call(dspex.WithTimeout(0)), dspex.CodeBadOption},
		"deadline":             {call(dspex.WithDeadline(25 * time.Hour)), dspex.CodeBadOption},
		"retries":              {call(dspex.WithMaxRetries(21)), dspex.CodeBadOption},
		"no delays":            {call(dspex.WithBackoff(dspex.Delays())), dspex.CodeBadOption},
		"long delay":           {call(dspex.WithBackoff(dspex.Delays(time.Minute))), dspex.CodeBadOption},
		"lane":                 {second(c.SubmitAnonymous(ctx, "fast", "predict", nil)), dspex.CodeBadOption},
		"reply to a wildcard":  {second(c.Submit(ctx, "s", "predict", nil, dspex.WithReplyTo("_INBOX.*"))), dspex.CodeBadOption},
		"text":                 {second(c.Submit(ctx, "s", "predict", dspex.Args{"a": []any{"\xff"}})), dspex.CodeBadRequest},
		"key":                  {second(c.Submit(ctx, "s", "set_lm", dspex.Args{"model": "gpt-4o", "api_key": "sk-1"})), dspex.CodeSecret},
		"function":             {second(c.Submit(ctx, "s", "predict", dspex.Args{"a": func() {}})), dspex.CodeBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			e := failsWith(t, "refused", c.err, c.code)
			is(t, "refused", c.err, dspex.ErrInvalid)
			equal(t, "category", e.Category, "")
			if b, err := json.Marshal(e); err != nil || strings.Contains(string(b), "error_category") {
				t.Errorf("as JSON: %s, %v", b, err)
			}
		})
	}
}

func TestASubmittedJobIsFoundByItsId(t *testing.T) {
	c, fake := start(t)
	ctx := t.Context()
	first, err := c.Submit(ctx, "s", "hold", nil)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "receipt", first, dspex.Receipt{Job: dspex.JobRef{Session: "s", ID: "q1"}, Sequence: 1})
	named, err := c.Submit(ctx, "s", "hold", nil, dspex.WithJobID("mine"))
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "job", named.Job.String(), "s/mine")
	_, err = c.Submit(ctx, "s", "hold", nil)
	e := failsWith(t, "a full session queue", err, dspex.CodeQueueFull)
	equal(t, "retryable", e.Retryable, true)
	equal(t, "retry after", e.RetryAfter, time.Second)
	fake.Release()
	reply, err := c.Wait(ctx, named.Job)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "result", string(reply.Result), `"released"`)
	job, err := c.GetJob(ctx, named.Job)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "job", job.JobRef, named.Job)
	equal(t, "status", job.Status, dspex.JobSucceeded)
	equal(t, "final", job.Status.Final(), true)
	equal(t, "attempts", job.Attempts, 1)
	equal(t, "failure", job.Err, nil)
	equal(t, "job of the reply", job.Reply.Job, named.Job)
}

func TestAFailedJobIsAnErrorOfWaitAndAFieldOfJob(t *testing.T) {
	c, _ := start(t)
	receipt, err := c.SubmitAnonymous(t.Context(), dspex.LaneBatch, "boom", nil, dspex.WithJobID("x"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Wait(t.Context(), receipt.Job)
	is(t, "wait", err, dspex.ErrPython)
	job, err := c.GetJob(t.Context(), receipt.Job)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "status", job.Status, dspex.JobFailed)
	is(t, "failure", job.Err, dspex.ErrPython)
}

func TestTheReplyOfASubmittedJobGoesWhereItIsWanted(t *testing.T) {
	s := natstest.Run(t)
	natstest.StartFake(t, s)
	nc := natstest.Connect(t, s)
	sub, err := nc.SubscribeSync("dspex.reply.mine")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dspex.New(nc).Submit(t.Context(), "s", "echo", nil, dspex.WithReplyTo("dspex.reply.mine")); err != nil {
		t.Fatal(err)
	}
	if _, err := sub.NextMsgWithContext(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestBreakingOutOfAStreamUnsubscribes(t *testing.T) {
	s := natstest.Run(t)
	natstest.StartFake(t, s)
	nc := natstest.Connect(t, s)
	for chunk, err := range dspex.New(nc).StreamAnonymous(t.Context(), "predict", dspex.Args{"text": "a b c"}) {
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "text", chunk.Text, "a ")
		equal(t, "job", chunk.Job, dspex.JobRef{ID: "q1"})
		equal(t, "attempt", chunk.Attempt, 1)
		break
	}
	if n := nc.NumSubscriptions(); n != 0 {
		t.Errorf("%d subscriptions are left", n)
	}
}

func TestAnAnswerOfSomethingElseIsACommunicationError(t *testing.T) {
	s := natstest.Run(t)
	nc := natstest.Connect(t, s)
	for subject, body := range map[string]string{
		"dspex.rpc.session.html": "<html>", "dspex.rpc.session.odd": `{"result":1}`, "dspex.rpc.session.mute": `{"ok":false}`,
		"dspex.rpc.health.check": `{"ok":true,"result":{}}`,
	} {
		if _, err := nc.Subscribe(subject, func(m *nats.Msg) { m.Respond([]byte(body)) }); err != nil {
			t.Fatal(err)
		}
	}
	c := dspex.New(nc)
	for _, session := range []string{"html", "odd", "mute"} {
		if _, err := c.Execute(t.Context(), session, "predict", nil); !errors.Is(err, dspex.ErrCommunication) {
			t.Errorf("%s: %v", session, err)
		}
	}
	if _, err := c.Health(t.Context()); !errors.Is(err, dspex.ErrCommunication) {
		t.Errorf("health: %v", err)
	}
}

func TestAJobIsStoredInTheDomainThatTheClientAsksFor(t *testing.T) {
	s := natstest.Run(t, func(o *server.Options) { o.JetStreamDomain = "hub" })
	natstest.StartFake(t, s)
	nc := natstest.Connect(t, s)
	if _, err := dspex.New(nc, dspex.WithJetStreamDomain("hub")).Submit(t.Context(), "s", "echo", nil); err != nil {
		t.Error(err)
	}
	_, err := dspex.New(nc, dspex.WithJetStreamDomain("leaf")).Submit(t.Context(), "s", "echo", nil)
	failsWith(t, "another domain", err, dspex.CodeWrongDomain)
}

func TestEverySubjectHasTheClientsPrefix(t *testing.T) {
	s := natstest.Run(t)
	nc := natstest.Connect(t, s)
	for subject, body := range map[string]string{
		"prod.dspex.rpc.session.s": `{"ok":true,"result":1,"job":"j"}`,
		"prod.dspex.rpc.stats.get": `{"ok":true,"result":{"pool_size":4}}`,
		"prod.dspex.session.s":     `{"stream":"DSPEX_JOBS","seq":7}`,
		"prod.dspex.logs.get":      `{"process":"worker-host","name":"h1","lines":[{"at":"2026-01-02T03:04:05Z","level":"info","message":"one"}]}`,
	} {
		if _, err := nc.Subscribe(subject, func(m *nats.Msg) { m.Respond([]byte(body)) }); err != nil {
			t.Fatal(err)
		}
	}
	c := dspex.New(nc, dspex.WithSubjectPrefix("prod"))
	if _, err := c.Execute(t.Context(), "s", "predict", nil); err != nil {
		t.Errorf("call: %v", err)
	}
	if _, err := c.Stats(t.Context()); err != nil {
		t.Errorf("request: %v", err)
	}
	receipt, err := c.Submit(t.Context(), "s", "predict", nil)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "job", receipt.Job.ID, "q7")
	for chunk, err := range c.Stream(t.Context(), "s", "predict", nil) {
		if err != nil {
			t.Errorf("stream: %v", err)
		}
		equal(t, "job of the stream", chunk.Job.Session, "s")
	}
	for line, err := range c.Admin().Logs(t.Context(), dspex.LogFilter{Tail: 1}) {
		if err != nil {
			t.Errorf("logs: %v", err)
		}
		equal(t, "line of a log", line.Message, "one")
	}
}

// TestASubmitThatIsNotAcknowledgedSaysThatTheStoreIsFull: a broker whose disk is full acknowledges nothing, and dispatchers have the reason.
func TestASubmitThatIsNotAcknowledgedSaysThatTheStoreIsFull(t *testing.T) {
	s := natstest.Run(t)
	nc := natstest.Connect(t, s)
	silent, err := nc.Subscribe("dspex.session.*", func(*nats.Msg) {})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Unsubscribe() }()
	full := `{"ok":false,"error":{"category":"resource_error","code":"store_full","message":"the broker's store is full: DSPEX_JOBS","hint":"make room","retryable":true}}`
	if _, err := nc.Subscribe("dspex.rpc.health.check", func(m *nats.Msg) { _ = m.Respond([]byte(full)) }); err != nil {
		t.Fatal(err)
	}
	c, err := dspex.Connect(t.Context(), s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Submit(t.Context(), "s", "echo", nil, dspex.WithJobID("mine"))
	e := failsWith(t, "a job that no stream takes", err, dspex.CodeStoreFull)
	if e != nil {
		equal(t, "job", e.Job, dspex.JobRef{Session: "s", ID: "mine"})
		equal(t, "message", e.Message, "the broker's store is full: DSPEX_JOBS")
		equal(t, "retryable", e.Retryable, true)
	}
}

func TestAConnectThatIsCancelledLeavesNoConnection(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithCancel(t.Context())
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := silent.Accept()
		if err == nil {
			accepted <- c
		}
		cancel() // it will never send its INFO
	}()
	_, err = dspex.Connect(ctx, "nats://"+silent.Addr().String())
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want the context's error", err)
	}
	c := <-accepted
	defer c.Close()
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read %d bytes, %v; want the end of the connection", n, err)
	}
}
