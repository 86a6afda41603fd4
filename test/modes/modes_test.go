package modes

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/dspextest"
)

// scenario is the suite's: the same rules in every mode.
var scenario = []dspextest.Rule{
	{Command: "predict", Where: map[string]any{"question": "Who wrote it?"}, Outputs: map[string]any{"answer": "Ada"}},
	{Where: map[string]any{"question": "typed"}, Outputs: map[string]any{"answer": "yes", "sure": true, "score": 0.5, "tags": []any{"a", "b"}}},
	{Where: map[string]any{"question": "lost twice"}, Error: &dspextest.Failure{Category: dspex.ErrConnection, Message: "lost"}, Times: 2},
	{Where: map[string]any{"question": "always busy"}, Error: &dspextest.Failure{Category: dspex.ErrResource, Code: "busy", RetryAfter: 250 * time.Millisecond}},
	{Where: map[string]any{"question": "for good"}, Error: &dspextest.Failure{Category: dspex.ErrTimeout, Permanent: true}},
	{Where: map[string]any{"question": "slow once"}, Latency: time.Hour, Times: 1},
}

type pool struct {
	*dspex.Client
	t *testing.T
}

func (p pool) must(session, command string, args dspex.Args, opts ...dspex.CallOption) dspex.Reply {
	p.t.Helper()
	var reply dspex.Reply
	var err error
	if session == "" {
		reply, err = p.ExecuteAnonymous(p.t.Context(), command, args, opts...)
	} else {
		reply, err = p.Execute(p.t.Context(), session, command, args, opts...)
	}
	if err != nil {
		p.t.Fatalf("%s: %v", command, err)
	}
	return reply
}

func (p pool) refused(session, command string, args dspex.Args, opts ...dspex.CallOption) *dspex.Error {
	p.t.Helper()
	reply, err := p.Execute(p.t.Context(), session, command, args, opts...)
	var e *dspex.Error
	if !errors.As(err, &e) {
		p.t.Fatalf("%s: %s, %v, want an error", command, reply.Result, err)
	}
	return e
}

func question(q string) dspex.Args { return dspex.Args{"question": q} }

// suite is what a user's tests might do.
var suite = map[string]func(t *testing.T, p pool){
	"the answer of the original's example": func(t *testing.T, p pool) {
		for _, session := range []string{"paris", ""} {
			if r := p.must(session, "predict", question("What is the capital of France?")); string(r.Result) != `{"answer":"Paris"}` {
				t.Errorf("in %q: %s", session, r.Result)
			}
		}
	},
	"an answer of the scenario": func(t *testing.T, p pool) {
		if r := p.must("scripted", "predict", question("Who wrote it?")); string(r.Result) != `{"answer":"Ada"}` {
			t.Errorf("%s", r.Result)
		}
		r := p.must("scripted", "predict", question("typed"), dspex.WithSignature("question -> answer, sure: bool, score: float, tags: list[str]"))
		if got := fmt.Sprint(r.Outputs()); got != "map[answer:yes score:0.5 sure:true tags:[a b]]" {
			t.Errorf("typed outputs: %s", got)
		}
	},
	"an answer that is made up": func(t *testing.T, p pool) {
		r := p.must("made_up", "predict", dspex.Args{"text": "Hello", "n": 5}, dspex.WithOutputs("summary", "mood"))
		for _, name := range []string{"summary", "mood"} {
			if text, _ := r.Outputs()[name].(string); text == "" || len(r.Outputs()) != 2 {
				t.Errorf("%s: %s", name, r.Result)
			}
		}
	},
	"programs": func(t *testing.T, p pool) {
		config := dspex.Args{"id": "qa_bot", "signature": map[string]any{"name": "QuestionAnswer",
			"inputs": []any{map[string]any{"name": "question", "type": "string"}}, "outputs": []any{map[string]any{"name": "answer", "type": "string"}}}}
		for range 2 { // the same program again is fine
			if r := p.must("programs", "create_program", config); string(r.Result) != `"qa_bot"` {
				t.Errorf("create_program: %s", r.Result)
			}
		}
		r := p.must("programs", "execute_program", dspex.Args{"program_id": "qa_bot", "inputs": question("Who wrote it?")})
		if got := fmt.Sprint(r.Outputs()["outputs"]); got != "map[answer:Ada]" || r.Outputs()["program_id"] != "qa_bot" {
			t.Errorf("execute_program: %s", r.Result)
		}
		if info := p.must("programs", "get_program_info", dspex.Args{"program_id": "qa_bot"}).Outputs(); info["execution_count"] != 1.0 || info["program_type"] != "predict" {
			t.Errorf("get_program_info: %v", info)
		}
		if e := p.refused("programs", "execute_program", dspex.Args{"program_id": "qa_bot", "inputs": map[string]any{}}); e.Code != "bad_input" || !strings.Contains(e.Message, "question") {
			t.Errorf("without input: %v", e)
		}
		if e := p.refused("programs", "create_program", dspex.Args{"id": "qa_bot", "signature": "text -> mood"}); e.Code != "program_exists" {
			t.Errorf("another program: %v", e)
		}
		p.must("programs", "delete_program", dspex.Args{"program_id": "qa_bot"})
		if e := p.refused("programs", "execute_program", dspex.Args{"program_id": "qa_bot", "inputs": question("?")}); e.Code != "program_unknown" || !errors.Is(e, dspex.ErrSession) {
			t.Errorf("a deleted program: %v", e)
		}
	},
	"state": func(t *testing.T, p pool) {
		p.must("state", "update_session_data", dspex.Args{"operation": "set", "key": "name", "value": "Ada"})
		p.must("", "update_session_data", dspex.Args{"session_id": "state", "operation": "merge", "value": map[string]any{"age": 36}})
		p.must("state", "predict", question("Who wrote it?"))
		r := p.must("state", "get_session_data", nil)
		if got := fmt.Sprint(r.Outputs()["data"]); got != "map[age:36 name:Ada]" || r.SessionState != dspex.SessionWarm {
			t.Errorf("%s, %s", r.Result, r.SessionState)
		}
		s, err := p.Admin().GetSession(t.Context(), "state")
		if err != nil || s.Turns != 1 || s.DataKeys != 2 {
			t.Errorf("%+v %v", s, err)
		}
		p.must("state", "cleanup_session", nil)
		if r := p.must("state", "get_session_data", nil); fmt.Sprint(r.Outputs()["data"]) != "map[]" {
			t.Errorf("after the clean-up: %s", r.Result)
		}
	},
	"a language model": func(t *testing.T, p pool) {
		lm, err := p.SetLM(t.Context(), "echo", dspex.ForSession("model"), dspex.WithTemperature(0.2))
		if err != nil || lm.Model != "echo" || *lm.Temperature != 0.2 {
			t.Errorf("%+v %v", lm, err)
		}
		p.must("model", "predict", question("Who wrote it?"))
	},
	"an injected error that a retry cures": func(t *testing.T, p pool) {
		if r := p.must("retries", "predict", question("lost twice")); r.Attempt != 3 {
			t.Errorf("attempt %d, want 3", r.Attempt)
		}
	},
	"injected errors that none cures": func(t *testing.T, p pool) {
		switch e := p.refused("errors", "predict", question("always busy")); {
		case !errors.Is(e, dspex.ErrResource):
			t.Errorf("must hold: errors.Is(e, dspex.ErrResource); %+v", e)
		case e.Code != "busy":
			t.Errorf(`e.Code must be "busy", got %v; %+v`, e.Code, e)
		case e.RetryAfter != 250*time.Millisecond:
			t.Errorf("e.RetryAfter must be 250*time.Millisecond, got %v; %+v", e.RetryAfter, e)
		case e.Attempt != 1:
			t.Errorf("e.Attempt must be 1, got %v; %+v", e.Attempt, e)
		}
		if e := p.refused("errors", "predict", question("for good")); !errors.Is(e, dspex.ErrTimeout) || e.Code != "injected" || e.Retryable {
			t.Errorf("%+v", e)
		}
	},
	"an injected latency": func(t *testing.T, p pool) {
		e := p.refused("latency", "predict", question("slow once"), dspex.WithTimeout(50*time.Millisecond), dspex.WithMaxRetries(0))
		if e.Code != "operation_timeout" {
			t.Errorf("%+v", e)
		}
		p.must("latency", "predict", question("slow once"))
	},
	"jobs": func(t *testing.T, p pool) {
		for range 2 { // the second one is answered by the first
			r, err := p.Submit(t.Context(), "jobs", "predict", question("Who wrote it?"), dspex.WithJobID("once"))
			if err != nil {
				t.Fatal(err)
			}
			reply, err := p.Wait(t.Context(), r.Job)
			if err != nil || string(reply.Result) != `{"answer":"Ada"}` {
				t.Errorf("%s %v", reply.Result, err)
			}
		}
		if s, err := p.Admin().GetSession(t.Context(), "jobs"); err != nil || s.Turns != 1 {
			t.Errorf("it ran %d times, %v", s.Turns, err)
		}
	},
	"many at once": func(t *testing.T, p pool) {
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() {
				session := fmt.Sprintf("many_%d", i%10)
				if r, err := p.Execute(t.Context(), session, "predict", question("Who wrote it?")); err != nil || r.Outputs()["answer"] != "Ada" {
					t.Errorf("%s: %s %v", session, r.Result, err)
				}
			})
		}
		all.Wait()
	},
	"streams": func(t *testing.T, p pool) {
		text := ""
		for chunk, err := range p.Stream(t.Context(), "streams", "predict", question("Who wrote it?")) {
			if err != nil {
				t.Fatal(err)
			}
			text += chunk.Text
			if chunk.Reply != nil && chunk.Reply.Outputs()["answer"] != "Ada" {
				t.Errorf("the reply: %s", chunk.Reply.Result)
			}
		}
		if text != "Ada" {
			t.Errorf("the pieces are %q", text)
		}
	},
	"what is refused": func(t *testing.T, p pool) {
		if e := p.refused("refused", "no_such_command", nil); e.Code != "unknown_command" || e.Retryable {
			t.Errorf("%+v", e)
		}
		if e := p.refused("refused", "set_lm", dspex.Args{"model": "mystery"}); e.Code != "lm_unknown" {
			t.Errorf("%+v", e)
		}
		if e := p.refused("refused", "get_session_data", dspex.Args{"session_id": "another"}); e.Code != "session_mismatch" {
			t.Errorf("%+v", e)
		}
	},
	"health and statistics": func(t *testing.T, p pool) {
		stats, err := p.Stats(t.Context())
		if err != nil || stats.PoolSize != 2 || stats.ActiveWorkers != 2 {
			t.Errorf("%+v %v", stats, err)
		}
		if _, err := p.Health(t.Context()); err != nil {
			t.Error(err)
		}
	},
}

func run(t *testing.T, mode dspextest.Mode) {
	python := os.Getenv("DSPEX_TEST_PYTHON")
	if python == "" {
		t.Fatal("DSPEX_TEST_PYTHON names the interpreter of the development environment: run `make test`")
	}
	d := dspextest.Open(t, dspextest.WithMode(mode), dspextest.WithPython(python), dspextest.WithWorkers(2), dspextest.WithScenario(scenario...))
	if d.Mode() != mode {
		t.Fatalf("the mode is %s", d.Mode())
	}
	c := d.Client()
	for name, test := range suite {
		t.Run(name, func(t *testing.T) { test(t, pool{c, t}) })
	}
}

func TestTheSuiteIsGreenWithoutPython(t *testing.T)   { run(t, dspextest.MockAdapter) }
func TestTheSuiteIsGreenInPythonWorkers(t *testing.T) { run(t, dspextest.BridgeMock) }
func TestTheSuiteIsGreenWithDSPy(t *testing.T)        { run(t, dspextest.FullIntegration) }
