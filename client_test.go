package dspex_test

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
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
		dspex.WithJob("j-1"), dspex.WithSignature("question -> answer"), dspex.WithModule("chain_of_thought"), dspex.WithLM("fast"),
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
	if reply.Job != "j-1" || reply.Attempt != 1 || reply.Session.Worker != "h1/0" || reply.Run != 2*time.Millisecond || reply.Engine == "" {
		t.Errorf("reply %+v", reply)
	}
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
	if len(deadline) != 1 || len(deadline[0]) < 4 || deadline[0] > "9999" && len(deadline[0]) == 4 {
		t.Errorf("Dspex-Deadline %v, want up to 10000", deadline)
	}
	if reply.RanOn == nil || reply.Session != nil {
		t.Errorf("an anonymous reply: %+v", reply)
	}
}

func TestAFailureKeepsWhatTheOtherSideSaid(t *testing.T) {
	c, _ := start(t)
	reply, err := c.Execute(t.Context(), "s", "busy", nil, dspex.WithJob("b1"))
	var e *dspex.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v", err)
	}
	if e.Category != dspex.ErrResource || e.Code != "checkout_timeout" || !e.Retryable || e.RetryAfter != 250*time.Millisecond || e.Job != "b1" || e.Attempt != 1 || e.Hint == "" || e.Severity != "major" {
		t.Errorf("got %+v", e)
	}
	if !errors.Is(err, dspex.ErrResource) || errors.Is(err, dspex.ErrTimeout) {
		t.Error("errors.Is does not go by category")
	}
	if reply.Session == nil || reply.Session.Host != "h1" {
		t.Errorf("a failed job also ran somewhere: %+v", reply)
	}
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
		var e *dspex.Error
		if !errors.As(err, &e) || e.Code != dspex.CodePoolUnavailable || !errors.Is(err, dspex.ErrResource) || !strings.HasPrefix(e.Message, "Pool not available") {
			t.Errorf("%s: %v", name, err)
		}
	}
	url := s.ClientURL()
	s.Shutdown()
	s.WaitForShutdown()
	_, err = dspex.Connect(t.Context(), url)
	var e *dspex.Error
	if !errors.As(err, &e) || e.Code != dspex.CodeBroker || !errors.Is(err, dspex.ErrConnection) {
		t.Errorf("no broker: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := dspex.Connect(ended, url); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled connect: %v", err)
	}
}

func TestTheCredentialsAreNamedAsTheProblem(t *testing.T) {
	s := natstest.Run(t, func(o *server.Options) { o.Username, o.Password = "u", "p" })
	_, err := dspex.Connect(t.Context(), s.ClientURL())
	var e *dspex.Error
	if !errors.As(err, &e) || e.Retryable || !strings.Contains(e.Message, "credentials") {
		t.Errorf("got %v", err)
	}
	c, err := dspex.Connect(t.Context(), s.ClientURL(), nats.UserInfo("u", "p"))
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
	var e *dspex.Error
	if !errors.As(err, &e) || e.Code != dspex.CodeClientTimeout || !errors.Is(err, dspex.ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("deadline: %v", err)
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if _, err := c.Execute(gone, "s", "hold", nil); !errors.Is(err, context.Canceled) || errors.As(err, &e) {
		t.Errorf("cancelled: %v", err)
	}
	for _, err := range c.Stream(gone, "s", "hold", nil) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("stream: %v", err)
		}
	}
	if _, err := c.Wait(gone, "s", "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("wait: %v", err)
	}
	// Without a deadline of the caller's, the call's own bound ends it.
	_, err = c.Job(t.Context(), "s", "never")
	if !errors.Is(err, dspex.ErrSession) {
		t.Errorf("unknown job: %v", err)
	}
}

func TestABadRequestIsRefusedBeforeItIsSent(t *testing.T) {
	c := dspex.New(nil) // nothing can be sent
	ctx := t.Context()
	call := func(opts ...dspex.Option) error {
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
		"job of reserved form": {call(dspex.WithJob("q17")), dspex.CodeBadJob},
		"job of a replay":      {call(dspex.WithJob("a-r2")), dspex.CodeBadJob},
		"empty job":            {call(dspex.WithJob("")), dspex.CodeBadJob},
		"empty reply to":       {second(c.Submit(ctx, "s", "predict", nil, dspex.WithReplyTo(""))), dspex.CodeBadOption},
		"long job":             {call(dspex.WithJob(strings.Repeat("j", 49))), dspex.CodeBadJob},
		"lookup with a space":  {func() error { _, err := c.Job(ctx, "s", "a b"); return err }(), dspex.CodeBadJob},
		"timeout":              {call(dspex.WithTimeout(0)), dspex.CodeBadOption},
		"deadline":             {call(dspex.WithDeadline(25 * time.Hour)), dspex.CodeBadOption},
		"retries":              {call(dspex.WithMaxRetries(21)), dspex.CodeBadOption},
		"no delays":            {call(dspex.WithBackoff(dspex.Delays())), dspex.CodeBadOption},
		"long delay":           {call(dspex.WithBackoff(dspex.Delays(time.Minute))), dspex.CodeBadOption},
		"lane":                 {second(c.SubmitAnonymous(ctx, "fast", "predict", nil)), dspex.CodeBadOption},
		"reply to of a call":   {call(dspex.WithReplyTo("_INBOX.x")), dspex.CodeBadOption},
		"text":                 {second(c.Submit(ctx, "s", "predict", dspex.Args{"a": []any{"\xff"}})), dspex.CodeBadRequest},
		"key":                  {second(c.Submit(ctx, "s", "set_lm", dspex.Args{"model": "gpt-4o", "api_key": "sk-1"})), dspex.CodeSecret},
		"function":             {second(c.Submit(ctx, "s", "predict", dspex.Args{"a": func() {}})), dspex.CodeBadRequest},
	} {
		var e *dspex.Error
		if !errors.As(c.err, &e) || e.Code != c.code {
			t.Errorf("%s: got %v, want %s", name, c.err, c.code)
		}
	}
}

func TestASubmittedJobIsFoundByItsId(t *testing.T) {
	c, fake := start(t)
	ctx := t.Context()
	first, err := c.Submit(ctx, "s", "hold", nil)
	if err != nil || first.Job != "q1" || first.Sequence != 1 || first.Duplicate {
		t.Fatalf("receipt %+v, %v", first, err)
	}
	named, err := c.Submit(ctx, "s", "hold", nil, dspex.WithJob("mine"))
	if err != nil || named.Job != "mine" {
		t.Fatalf("receipt %+v, %v", named, err)
	}
	again, err := c.Submit(ctx, "s", "hold", nil, dspex.WithJob("mine"))
	if err != nil || !again.Duplicate {
		t.Errorf("the same job again: %+v, %v", again, err)
	}
	_, err = c.Submit(ctx, "s", "hold", nil)
	var e *dspex.Error
	if !errors.As(err, &e) || e.Code != dspex.CodeQueueFull || !e.Retryable {
		t.Errorf("a full session queue: %v", err)
	}
	fake.Release()
	reply, err := c.Wait(ctx, "s", "mine")
	if err != nil || string(reply.Result) != `"released"` {
		t.Errorf("waited: %s, %v", reply.Result, err)
	}
	info, err := c.Job(ctx, "s", "mine")
	if err != nil || info.Outcome != dspex.Succeeded || !info.Outcome.Final() || info.Reply == nil || info.Err != nil || info.Attempts != 1 {
		t.Errorf("info %+v, %v", info, err)
	}
}

func TestAFailedJobIsAnErrorOfWaitAndAFieldOfJob(t *testing.T) {
	c, _ := start(t)
	receipt, err := c.SubmitAnonymous(t.Context(), dspex.Batch, "boom", nil, dspex.WithJob("x"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Wait(t.Context(), "", receipt.Job); !errors.Is(err, dspex.ErrPython) {
		t.Errorf("wait: %v", err)
	}
	info, err := c.Job(t.Context(), "", receipt.Job)
	if err != nil || info.Outcome != dspex.Failed || !errors.Is(info.Err, dspex.ErrPython) {
		t.Errorf("info %+v, %v", info, err)
	}
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
		if err != nil || chunk.Text != "a " || chunk.Job == "" || chunk.Attempt != 1 {
			t.Errorf("%+v %v", chunk, err)
		}
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
