package gateway_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/dspextest"
	"github.com/dspex/dspex/internal/gateway"
	"github.com/dspex/dspex/internal/tokens"
)

const chatPath, responsesPath = "/v1/chat/completions", "/v1/responses"

// failing is the error of an answer in OpenAI's form.
func (a answered) failing() (kind, code, param string) {
	e, _ := a.body["error"].(map[string]any)
	kind, _ = e["type"].(string)
	code, _ = e["code"].(string)
	param, _ = e["param"].(string)
	return kind, code, param
}

func TestMessagesBecomeAPredictWithItsHistory(t *testing.T) {
	fake := dspextest.NewFake(t)
	url := serve(t, fake.Client(), gateway.Config{})
	a := send(t, "POST", url+chatPath, `{"model":"fast","temperature":0.5,"user":"ada","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"a"},{"role":"assistant","content":"b"},
		{"role":"user","content":[{"type":"text","text":"c"},{"type":"text","text":"d"}]}]}`)
	switch {
	case a.StatusCode != 200:
		t.Fatalf("a.StatusCode must be 200, got %v; %d %s", a.StatusCode, a.StatusCode, a.text)
	case a.body["object"] != "chat.completion":
		t.Fatalf(`a.body["object"] must be "chat.completion", got %v; %d %s`, a.body["object"], a.StatusCode, a.text)
	case !strings.Contains(a.text, `"content":"c\nd"`):
		t.Fatalf("must hold: strings.Contains(a.text, `\"content\":\"c\\nd\"`); %d %s", a.StatusCode, a.text)
	case !strings.Contains(a.text, `"finish_reason":"stop"`):
		t.Fatalf("must hold: strings.Contains(a.text, `\"finish_reason\":\"stop\"`); %d %s", a.StatusCode, a.text)
	}
	jobs := fake.Jobs()
	if len(jobs) != 1 || jobs[0].Session != "ada" || jobs[0].Command != "predict" {
		t.Fatalf("%+v", jobs)
	}
	got, err := json.Marshal([]any{jobs[0].Args, jobs[0].Options})
	want := `[{"history":[{"answer":"b","question":"a"}],"question":"c\nd"},{"lm":"fast","signature":{"description":"Be brief.","inputs":[{"name":"question","type":"string"},{"name":"history","type":"history"}],"outputs":[{"name":"answer","type":"string"}]},"temperature":0.5}]`
	if err != nil || string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestTheSessionIsNamedInOneOfFourWays(t *testing.T) {
	fake := dspextest.NewFake(t)
	url := serve(t, fake.Client(), gateway.Config{})
	first := send(t, "POST", url+responsesPath, `{"model":"default","input":"x","conversation":"conv-1"}`)
	id, _ := first.body["id"].(string)
	for _, c := range []struct{ path, body, header, session string }{
		{responsesPath, `{"model":"default","input":"x","conversation":{"id":"conv-2"}}`, "", "conv-2"},
		{responsesPath, `{"model":"default","input":"x","previous_response_id":"` + id + `"}`, "", "conv-1"},
		{responsesPath, `{"model":"default","input":"x","user":"eve"}`, "", "eve"},
		{responsesPath, `{"model":"default","input":"x","store":false}`, "", ""},
		{responsesPath, `{"model":"default","input":"x"}`, "Dspex-Session: s1", "s1"},
		{chatPath, `{"model":"default","messages":[{"role":"user","content":"x"}]}`, "Dspex-Session: s2", "s2"},
		{chatPath, `{"model":"default","messages":[{"role":"user","content":"x"}],"user":"eve"}`, "Dspex-Session: s2", "s2"},
		{chatPath, `{"model":"default","messages":[{"role":"user","content":"x"}]}`, "", ""},
	} {
		header := c.header
		if header == "" {
			header = "X-None: 1"
		}
		a := send(t, "POST", url+c.path, c.body, header)
		jobs := fake.Jobs()
		if got := jobs[len(jobs)-1].Session; a.StatusCode != 200 || got != c.session {
			t.Errorf("%s %s: %d, session %q", c.body, header, a.StatusCode, got)
		}
	}
	send(t, "POST", url+chatPath, `{"model":"default","messages":[{"role":"user","content":"x"}],"user":"eve@example.org"}`)
	send(t, "POST", url+responsesPath, `{"model":"default","input":"x"}`)
	jobs := fake.Jobs()
	if s := jobs[len(jobs)-2].Session; !strings.HasPrefix(s, "user-") || strings.Contains(s, "eve") {
		t.Errorf("a user who is no session: %q", s)
	}
	if s := jobs[len(jobs)-1].Session; !strings.HasPrefix(s, "conv-") {
		t.Errorf("a response that is stored: %q", s)
	}
}

func TestWhatIsNotSupportedIsRefusedByName(t *testing.T) {
	fake := dspextest.NewFake(t)
	url := serve(t, fake.Client(), gateway.Config{})
	chat := func(rest string) string {
		return `{"model":"default","messages":[{"role":"user","content":"x"}]` + rest + `}`
	}
	for _, c := range []struct{ path, body, code, param string }{
		{chatPath, chat(`,"n":2`), "unsupported_parameter", "n"},
		{chatPath, chat(`,"max_tokens":5`), "unsupported_parameter", "max_tokens"},
		{chatPath, chat(`,"tools":[{"type":"function"}]`), "unsupported_parameter", "tools"},
		{chatPath, chat(`,"response_format":{"type":"json_object"}`), "unsupported_parameter", "response_format"},
		{chatPath, chat(`,"stream_options":{"x":1}`), "bad_request", ""},
		{chatPath, chat(`,"store":true`), "unsupported_value", "store"},
		{chatPath, `{"messages":[{"role":"user","content":"x"}]}`, "missing_required_parameter", "model"},
		{chatPath, `{"model":"default","messages":[]}`, "invalid_value", "messages"},
		{chatPath, `{"model":"default","messages":[{"role":"assistant","content":"x"}]}`, "unsupported_value", "messages[0].role"},
		{chatPath, `{"model":"default","messages":[{"role":"tool","content":"x"}]}`, "unsupported_value", "messages[0].role"},
		{chatPath, `{"model":"default","messages":[{"role":"user","content":"x"},{"role":"system","content":"x"}]}`, "unsupported_value", "messages[1].role"},
		{chatPath, `{"model":"default","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:x"}}]}]}`, "unsupported_value", "messages[0].content[0].type"},
		{chatPath, `{"model":"default","messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y"}]}`, "invalid_value", "messages"},
		{chatPath, `{"model":"default","messages":[{"role":"user","content":"x","tool_calls":[]}]}`, "bad_request", ""},
		{responsesPath, `{"model":"default","input":"x","max_output_tokens":1}`, "unsupported_parameter", "max_output_tokens"},
		{responsesPath, `{"model":"default","input":[{"type":"function_call_output","content":"x"}]}`, "unsupported_value", "input[0].type"},
		{responsesPath, `{"model":"default","input":7}`, "invalid_type", "input"},
		{responsesPath, `{"model":"default","input":"x","conversation":"a.b"}`, "bad_session_id", "conversation"},
		{responsesPath, `{"model":"default","input":"x","conversation":"a","previous_response_id":"resp_x.b"}`, "conflicting_session", ""},
		{responsesPath, `{"model":"default","input":"x","previous_response_id":"resp_x"}`, "previous_response_not_found", "previous_response_id"},
		{responsesPath, `[]`, "bad_request", ""},
		{responsesPath, `{`, "bad_request", ""},
	} {
		a := send(t, "POST", url+c.path, c.body)
		kind, code, param := a.failing()
		switch {
		case a.StatusCode != 400:
			t.Errorf("a.StatusCode must be 400, got %v; %s: %d %s", a.StatusCode, c.body, a.StatusCode, a.text)
		case kind != "invalid_request_error":
			t.Errorf(`kind must be "invalid_request_error", got %v; %s: %d %s`, kind, c.body, a.StatusCode, a.text)
		case code != c.code:
			t.Errorf("code: got %v, want %v; %s: %d %s", code, c.code, c.body, a.StatusCode, a.text)
		case c.param != "" && param != c.param:
			t.Errorf(`must not hold: c.param != "" && param != c.param; %s: %d %s`, c.body, a.StatusCode, a.text)
		}
	}
	if jobs := fake.Jobs(); len(jobs) > 0 {
		t.Errorf("%+v ran", jobs)
	}
	neutral := chat(`,"n":1,"top_p":1,"stop":null,"tools":[],"response_format":{"type": "text"}`)
	if a := send(t, "POST", url+chatPath, neutral); a.StatusCode != 200 {
		t.Errorf("what changes nothing: %d %s", a.StatusCode, a.text)
	}
}

// info answers get_program_info with a signature of map form.
func info(kind string, inputs, outputs []any) dspextest.Handler {
	return func(dspextest.Job) (any, error) {
		return map[string]any{"program_type": kind, "signature": map[string]any{"inputs": inputs, "outputs": outputs}}, nil
	}
}

func named(name, kind string) any { return map[string]any{"name": name, "type": kind} }

func TestAProgramIsAModel(t *testing.T) {
	for _, c := range []struct {
		name            string
		inputs, outputs []any
		messages        string
		asked, said     string
		status          int
	}{
		{"one text", []any{named("query", "string")}, []any{named("query", "string")}, `[{"role":"user","content":"x"}]`, `{"query":"x"}`, "x", 200},
		{"a number", []any{named("n", "integer")}, []any{named("n", "integer")}, `[{"role":"user","content":"{\"n\":7}"}]`, `{"n":7}`, `{\"n\":7}`, 200},
		{"several", []any{named("a", "string"), named("b", "string")}, []any{named("a", "string")}, `[{"role":"user","content":"x"}]`, "", "", 400},
		{"with history", []any{named("h", "history"), named("q", "string")}, []any{named("q", "string")}, `[{"role":"user","content":"x"},{"role":"assistant","content":"y"},{"role":"user","content":"z"}]`, `{"h":[{"q":"y"}],"q":"z"}`, "z", 200},
		{"without history", []any{named("q", "string")}, []any{named("q", "string")}, `[{"role":"user","content":"x"},{"role":"assistant","content":"y"},{"role":"user","content":"z"}]`, "", "", 400},
		{"with a system", []any{named("q", "string")}, []any{named("q", "string")}, `[{"role":"system","content":"x"},{"role":"user","content":"z"}]`, "", "", 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake := dspextest.NewFake(t)
			fake.Handle("get_program_info", info("predict", c.inputs, c.outputs))
			url := serve(t, fake.Client(), gateway.Config{})
			for _, stream := range []string{"", `,"stream":true`} {
				a := send(t, "POST", url+chatPath, `{"model":"program:p1","messages":`+c.messages+stream+`}`, "Dspex-Session: bob")
				if a.StatusCode != c.status || !strings.Contains(a.text, c.said) {
					t.Fatalf("%d %s", a.StatusCode, a.text)
				}
				jobs := fake.Jobs()
				last := jobs[len(jobs)-1]
				asked, _ := json.Marshal(last.Args["inputs"])
				got := [...]any{last.Command, last.Session, last.Args["program_id"], string(asked)}
				if want := [...]any{"execute_program", "bob", "p1", c.asked}; c.asked != "" && got != want {
					t.Errorf("the job: got %v, want %v", got, want)
				}
			}
		})
	}
}

func TestModelsAreProfilesAndPrograms(t *testing.T) {
	fake := dspextest.NewFake(t)
	fake.Handle("list_programs", func(j dspextest.Job) (any, error) {
		return map[string]any{"programs": []any{map[string]any{"id": "of_" + j.Session}}}, nil
	})
	url := serve(t, fake.Client(), gateway.Config{Models: []string{"fast"}})
	switch a := send(t, "GET", url+"/v1/models", "", "Dspex-Session: bob"); {
	case a.StatusCode != 200:
		t.Errorf("a.StatusCode must be 200, got %v; %d %s", a.StatusCode, a.StatusCode, a.text)
	case !strings.Contains(a.text, `"fast"`):
		t.Errorf("must hold: strings.Contains(a.text, `\"fast\"`); %d %s", a.StatusCode, a.text)
	case !strings.Contains(a.text, `"program:of_bob"`):
		t.Errorf("must hold: strings.Contains(a.text, `\"program:of_bob\"`); %d %s", a.StatusCode, a.text)
	case !strings.Contains(a.text, `"default"`):
		t.Errorf("must hold: strings.Contains(a.text, `\"default\"`); %d %s", a.StatusCode, a.text)
	}
	if a := send(t, "GET", url+"/v1/models/fast", ""); a.StatusCode != 200 || a.body["id"] != "fast" {
		t.Errorf("%d %s", a.StatusCode, a.text)
	}
	a := send(t, "GET", url+"/v1/models/nobody", "")
	if _, code, _ := a.failing(); a.StatusCode != 404 || code != "model_not_found" {
		t.Errorf("%d %s", a.StatusCode, a.text)
	}
}

func TestFailuresHaveOpenAIsForm(t *testing.T) {
	fake := dspextest.NewFake(t)
	for _, c := range []struct {
		err        dspex.Error
		status     int
		kind, code string
	}{
		{dspex.Error{Category: dspex.ErrResource, Code: "overloaded", Message: "m", Retryable: true, RetryAfter: 1500e6}, 429, "rate_limit_error", "overloaded"},
		{dspex.Error{Category: dspex.ErrPython, Code: "lm_unknown", Message: "m"}, 404, "invalid_request_error", "model_not_found"},
		{dspex.Error{Category: dspex.ErrSystem, Code: "internal", Message: "m"}, 500, "server_error", "internal"},
	} {
		fake.Handle("predict", func(dspextest.Job) (any, error) { return nil, &c.err })
		url := serve(t, fake.Client(), gateway.Config{})
		for _, stream := range []string{"", `,"stream":true`} {
			for path, body := range map[string]string{chatPath: `{"model":"default","messages":[{"role":"user","content":"x"}]` + stream + `}`, responsesPath: `{"model":"default","input":"x"` + stream + `}`} {
				a := send(t, "POST", url+path, body)
				kind, code, _ := a.failing()
				switch {
				case a.StatusCode != c.status:
					t.Errorf("a.StatusCode: got %v, want %v; %s: %d %v %s", a.StatusCode, c.status, body, a.StatusCode, a.Header, a.text)
				case kind != c.kind:
					t.Errorf("kind: got %v, want %v; %s: %d %v %s", kind, c.kind, body, a.StatusCode, a.Header, a.text)
				case code != c.code:
					t.Errorf("code: got %v, want %v; %s: %d %v %s", code, c.code, body, a.StatusCode, a.Header, a.text)
				case c.status == 429 && a.Header.Get("Retry-After") != "2":
					t.Errorf(`must not hold: c.status == 429 && a.Header.Get("Retry-After") != "2"; %s: %d %v %s`, body, a.StatusCode, a.Header, a.text)
				}
			}
		}
	}
}

func TestATokenForSomeSessionsReachesNoOthersInOpenAIsProtocol(t *testing.T) {
	path := tokenFile(t)
	bob := bearer(t, path, tokens.Token{Sessions: "bob-"})
	fake := dspextest.NewFake(t)
	url := serve(t, fake.Client(), gateway.Config{Tokens: path})
	for _, c := range []struct{ path, body, header string }{
		{responsesPath, `{"model":"default","input":"x","conversation":"ann-1"}`, "X-None: 1"},
		{responsesPath, `{"model":"default","input":"x","previous_response_id":"resp_j.ann-1"}`, "X-None: 1"},
		{chatPath, `{"model":"default","messages":[{"role":"user","content":"x"}]}`, "Dspex-Session: ann-1"},
	} {
		a := send(t, "POST", url+c.path, c.body, bob, c.header)
		if _, code, _ := a.failing(); a.StatusCode != 403 || code != "session_denied" {
			t.Errorf("%s: %d %s", c.body, a.StatusCode, a.text)
		}
	}
	if a := send(t, "GET", url+"/v1/models", "", bob, "Dspex-Session: ann-1"); a.StatusCode != 403 {
		t.Errorf("models: %d %s", a.StatusCode, a.text)
	}
	if n := len(fake.Jobs()); n != 0 {
		t.Errorf("%d jobs ran", n)
	}
	send(t, "POST", url+chatPath, `{"model":"default","messages":[{"role":"user","content":"x"}],"user":"ann"}`, bob)
	send(t, "POST", url+responsesPath, `{"model":"default","input":"x"}`, bob)
	for _, j := range fake.Jobs() {
		if !strings.HasPrefix(j.Session, "bob-") || !strings.HasPrefix(j.ID, "bob-") {
			t.Errorf("%+v", j)
		}
	}
	a := send(t, "POST", url+chatPath, `{}`)
	if kind, code, _ := a.failing(); a.StatusCode != 401 || kind != "authentication_error" || code != "token_required" {
		t.Errorf("without a token: %d %s", a.StatusCode, a.text)
	}
}

func TestWhatOpenAIHasAndTheGatewayHasNotIsRefusedInItsForm(t *testing.T) {
	url := serve(t, dspextest.NewFake(t).Client(), gateway.Config{})
	for _, c := range []struct {
		method, path string
		status       int
		code         string
	}{
		{"POST", "/v1/embeddings", 404, "path_unknown"}, {"POST", "/v1/images/generations", 404, "path_unknown"}, {"GET", "/v1/responses/resp_x", 404, "path_unknown"},
		{"GET", "/v1/files", 404, "path_unknown"}, {"GET", "/v1/chat/completions", 405, "method_unknown"},
	} {
		a := send(t, c.method, url+c.path, "")
		kind, code, _ := a.failing()
		if a.StatusCode != c.status || kind != "invalid_request_error" || code != c.code {
			t.Errorf("%s %s: must be %d %s, got %d %s", c.method, c.path, c.status, c.code, a.StatusCode, a.text)
		}
		if !strings.Contains(a.text, "chat/completions and responses are served") {
			t.Errorf("%s %s does not name what is served: %s", c.method, c.path, a.text)
		}
	}
	if a := send(t, "GET", url+"/v1/nothing", ""); a.body["code"] != "path_unknown" || a.body["title"] == nil {
		t.Errorf("what is nobody's must be a problem: %s", a.text)
	}
}

func TestAClientOfOpenAIThatGoesAwayCancelsItsJob(t *testing.T) {
	client := slow(t).Client()
	url := serve(t, client, gateway.Config{})
	for n, stream := range []string{"false", "true"} {
		session := "s" + itoa(n)
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() {
			_, err := try(ctx, "POST", url+chatPath, `{"model":"default","messages":[{"role":"user","content":"x"}],"stream":`+stream+`}`, "Dspex-Session: "+session, "Idempotency-Key: k")
			left <- err
		}()
		job := dspex.JobRef{Session: session, ID: "QJKMGKNJFBIPNVJZ3U3W6SAW5Y"}
		awaitStatus(t, client, job, dspex.JobRunning)
		leave()
		if err := <-left; err == nil {
			t.Fatal("it was answered")
		}
		awaitStatus(t, client, job, dspex.JobCancelled)
	}
	await(t, func() bool {
		return strings.Contains(send(t, "GET", url+"/metrics", "").text, "\ndspex_gateway_active_requests 1\n")
	})
	if all := send(t, "GET", url+"/metrics", "").text; strings.Contains(all, `status="500"`) || !strings.Contains(all, `status="499"`) {
		t.Errorf("a client that goes away must count as 499:\n%s", all)
	}
}
