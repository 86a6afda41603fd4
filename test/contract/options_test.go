package contract

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
)

func TestTimeoutBoundsOneAttempt(t *testing.T) {
	for _, timeout := range []any{50, "50ms", "0.05s"} {
		r := stub.call(t, "options_1", "sleep", m{"ms": 600_000}, m{"timeout": timeout, "max_retries": 0})
		r.fails(t, "timeout", "operation_timeout")
		if r.Attempt != 1 || r.Error.Attempt != 1 || r.Error.Worker == "" {
			t.Errorf("%v: %+v", timeout, r)
		}
	}
	stub.call(t, "options_1", "echo", nil).succeeds(t)
}

func TestRetriesComeAfterTheFirstAttempt(t *testing.T) {
	quick := []int{1}
	for retries, attempts := range map[any]int{0: 1, 1: 2, 3: 4, nil: 3} { // none given: what the category python grants
		options := m{"backoff": quick}
		if retries != nil {
			options["max_retries"] = retries
		}
		r := stub.call(t, "options_2", "boom", m{"retryable": true}, options)
		r.fails(t, "python", "boom")
		if r.Attempt != attempts || !*r.Error.Retryable {
			t.Errorf("max_retries %v: %d attempts, want %d", retries, r.Attempt, attempts)
		}
	}
	r := stub.call(t, "", "boom", m{"retryable": true, "times": 2}, m{"backoff": quick, "max_retries": 2})
	r.succeeds(t)
	if r.Attempt != 3 || r.header.Get("Dspex-Attempt") != "3" {
		t.Errorf("attempt %d, header %v", r.Attempt, r.header)
	}
	r = stub.call(t, "options_2", "boom", m{"retryable": false}, m{"max_retries": 20})
	r.fails(t, "python", "boom")
	if r.Attempt != 1 {
		t.Errorf("what is deterministic was tried %d times", r.Attempt)
	}
}

func TestEachBackoffIsTaken(t *testing.T) {
	for _, backoff := range []any{"linear", "exponential", []int{0}, []int{1, 2, 3}} {
		r := stub.call(t, "options_3", "boom", m{"retryable": true, "times": 1}, m{"backoff": backoff, "max_retries": 1})
		r.succeeds(t)
		if r.Attempt != 2 {
			t.Errorf("%v: attempt %d", backoff, r.Attempt)
		}
	}
}

func TestADeadlineThatHasPassedExpiresAJobUnrun(t *testing.T) {
	stub.publish(t, "dspex.session.options_4", text(body("sleep", m{"ms": 500})))
	byOption := stub.publish(t, "dspex.session.options_4", text(body("append", m{"x": 1}, m{"deadline": "1ms"})))
	byHeader := stub.publish(t, "dspex.session.options_4", text(body("append", m{"x": 2})), "Dspex-Deadline", "1")
	for _, job := range []string{byOption, byHeader} {
		o, r := stub.wait(t, "options_4", job)
		r.fails(t, "timeout", "deadline_exceeded")
		if o.Outcome != "expired" || o.Attempts != 0 {
			t.Errorf("%+v", o)
		}
	}
	if list := stub.call(t, "options_4", "append", m{"x": 3}).Result.(m)["list"].([]any); len(list) != 1 {
		t.Errorf("an expired job ran: %v", list)
	}
}

func TestSignatureOutputsAndModuleShapeAPredict(t *testing.T) {
	asMap := m{"name": "Rate", "description": "Rate the text.", "inputs": []any{m{"name": "text", "type": "string"}},
		"outputs": []any{m{"name": "mood", "type": "Literal['good','bad']", "description": "one of two"}, m{"name": "score", "type": "float"}}}
	for name, c := range map[string]struct {
		options m
		outputs []string
	}{
		"nothing":               {nil, []string{"answer"}},
		"text":                  {m{"signature": "text -> mood: Literal['good','bad'], score: float"}, []string{"mood", "score"}},
		"map":                   {m{"signature": asMap}, []string{"mood", "score"}},
		"outputs":               {m{"outputs": []string{"summary", "title"}}, []string{"summary", "title"}},
		"chain_of_thought":      {m{"module": "chain_of_thought"}, []string{"answer", "reasoning"}},
		"signature and module":  {m{"signature": asMap, "module": "chain_of_thought"}, []string{"mood", "reasoning", "score"}},
		"predict by its name":   {m{"module": "predict"}, []string{"answer"}},
		"react":                 {m{"module": "react"}, []string{"answer"}},
		"a temperature":         {m{"temperature": 1.5}, []string{"answer"}},
		"a temperature of zero": {m{"temperature": 0}, []string{"answer"}},
		"a language model":      {m{"lm": "echo"}, []string{"answer"}},
	} {
		t.Run(name, func(t *testing.T) {
			ask := body("predict", m{"text": "I love it"})
			if c.options != nil {
				ask["options"] = c.options
			}
			r := stub.request(t, "dspex.rpc.anonymous", text(ask))
			r.succeeds(t)
			got := slices.Sorted(maps.Keys(r.Result.(m)))
			if name == "react" { // returns how it came to its answer, too
				got = slices.DeleteFunc(got, func(s string) bool { return s == "reasoning" || s == "trajectory" })
			}
			if !slices.Equal(got, c.outputs) {
				t.Errorf("outputs %v, want %v", got, c.outputs)
			}
		})
	}
}

func TestALanguageModelThatTheHostDoesNotHaveIsNamed(t *testing.T) {
	r := stub.call(t, "", "predict", m{"text": "x"}, m{"lm": "nobody"})
	r.refused(t, "python", "lm_unknown", "options.lm")
}

func TestRequireStateRefusesAnEmptySession(t *testing.T) {
	for _, session := range []string{"options_5", ""} {
		r := stub.call(t, session, "echo", nil, m{"require_state": true})
		r.fails(t, "session", "state_required")
		if *r.Error.Retryable {
			t.Error("state does not come by itself")
		}
	}
	stub.call(t, "options_5", "append", m{"x": 1}).succeeds(t)
	stub.call(t, "options_5", "append", m{"x": 2}, m{"require_state": true}).succeeds(t)
	stub.call(t, "options_5", "cleanup_session", m{"session_id": "options_5"}).succeeds(t)
	stub.call(t, "options_5", "append", m{"x": 2}, m{"require_state": true}).fails(t, "session", "state_required")
}

// partials requests a stream and returns its parts and the final reply.
func partials(t *testing.T, s *service, send func(msg *nats.Msg) error, msg *nats.Msg) ([]m, reply) {
	t.Helper()
	inbox, err := s.nc.SubscribeSync(nats.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = inbox.Unsubscribe() }()
	msg.Reply = inbox.Subject
	if err := send(msg); err != nil {
		t.Fatal(err)
	}
	var parts []m
	for {
		answer, err := inbox.NextMsg(patience)
		if err != nil {
			t.Fatalf("after %d parts: %v", len(parts), err)
		}
		n := answer.Header.Get("Dspex-Partial")
		if n == "" {
			return parts, read(t, answer)
		}
		part := m{}
		data := answer.Data
		if answer.Header.Get("Content-Type") == msgpackType {
			data = asJSON(t, data)
		}
		decode(t, data, &part)
		if n != strconv.Itoa(len(parts)) || answer.Header.Get("Dspex-Attempt") != "1" || answer.Header.Get("Dspex-Job") == "" {
			t.Errorf("part %d: headers %v", len(parts), answer.Header)
		}
		parts = append(parts, part)
	}
}

func TestPartialsComeBeforeTheReply(t *testing.T) {
	check := func(parts []m, r reply) {
		t.Helper()
		r.succeeds(t)
		said := ""
		for _, p := range parts {
			if p["field"] != "answer" || len(p) != 2 {
				t.Errorf("part %v", p)
			}
			said += p["chunk"].(string)
		}
		if answer := r.Result.(m)["answer"]; len(parts) < 2 || said != answer {
			t.Errorf("%d parts say %q, the reply %q", len(parts), said, answer)
		}
	}
	ask := body("predict", m{"question": "one two three four"}, m{"stream": true})
	for _, endpoint := range []string{"dspex.rpc.session.options_6", "dspex.rpc.anonymous"} {
		parts, r := partials(t, stub, stub.nc.PublishMsg, message(endpoint, text(ask)))
		check(parts, r)
		parts, r = partials(t, stub, stub.nc.PublishMsg, message(endpoint, packed(ask), "Content-Type", msgpackType))
		check(parts, r)
	}
	for _, endpoint := range []string{"dspex.session.options_6", "dspex.anonymous.batch"} {
		parts, r := partials(t, stub, func(msg *nats.Msg) error {
			msg.Header.Set("Dspex-Reply-To", msg.Reply)
			msg.Reply = ""
			return stub.nc.PublishMsg(msg)
		}, message(endpoint, text(ask)))
		check(parts, r)
	}
	parts, r := partials(t, stub, stub.nc.PublishMsg, message("dspex.rpc.anonymous", text(body("predict", m{"question": "one two three"}))))
	if r.succeeds(t); len(parts) != 0 {
		t.Errorf("%d parts that nobody asked for", len(parts))
	}
}

func TestWhatIsTooLargeIsRefusedAndLeavesTheOldState(t *testing.T) {
	const session = "options_7"
	half := strings.Repeat("a", 300<<10)
	stub.call(t, session, "update_session_data", m{"operation": "set", "key": "a", "value": half}).succeeds(t)
	r := stub.call(t, session, "update_session_data", m{"operation": "set", "key": "b", "value": half})
	r.fails(t, "session", "state_too_large")
	// In JSON each of these is six bytes: the reply would be larger than the broker takes.
	bells := strings.Repeat("\x07", 200<<10)
	ask := packed(body("echo", m{"x": bells}))
	stub.request(t, "dspex.rpc.session."+session, ask, "Dspex-Job", "bells", "Content-Type", msgpackType).succeeds(t)
	_, got := stub.lookUp(t, m{"session": session, "job": "bells"})
	got.fails(t, "session", "result_too_large")
	r = stub.request(t, "dspex.rpc.jobs.get", packed(m{"session": session, "job": "bells"}), "Content-Type", msgpackType)
	r.succeeds(t)
	stub.call(t, session, "print", m{"text": bells[:10]}).succeeds(t)
	stub.call(t, session, "update_session_data", m{"operation": "set", "key": "bells", "value": bells[:60<<10]}).succeeds(t)
	grown := stub.call(t, session, "update_session_data", m{"operation": "delete", "key": "a"})
	grown.succeeds(t)
	for _, more := range []string{"c", "d"} {
		stub.call(t, session, "update_session_data", m{"operation": "set", "key": more, "value": bells[:60<<10]}).succeeds(t)
	}
}

func TestAWorkerThatDiesIsReplacedAndTheJobGoesOn(t *testing.T) {
	stub.call(t, "options_8", "append", m{"x": 1}).succeeds(t)
	r := stub.call(t, "options_8", "exit", m{"code": 3}, m{"max_retries": 0})
	r.fails(t, "connection", "worker_died")
	r = stub.call(t, "options_8", "append", m{"x": 2})
	r.succeeds(t)
	if list := r.Result.(m)["list"].([]any); len(list) != 2 || r.Session.State == "none" {
		t.Errorf("%v in state %s", list, r.Session.State)
	}
}
