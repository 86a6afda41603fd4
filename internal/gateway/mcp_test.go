package gateway_test

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/dspex/dspex/dspextest"
	"github.com/dspex/dspex/internal/gateway"
	"github.com/dspex/dspex/internal/tokens"
)

// headers adds headers to each request.
type headers []string

func (h headers) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	for _, header := range h {
		name, value, _ := strings.Cut(header, ": ")
		r.Header.Set(name, value)
	}
	return http.DefaultTransport.RoundTrip(r)
}

func tools(t *testing.T, url string, with ...string) *mcp.ClientSession {
	t.Helper()
	c := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	s, err := c.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: url + "/mcp", HTTPClient: &http.Client{Transport: headers(with)}, MaxRetries: -1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// use calls a tool and returns its answer, and the code if it is an error.
func use(t *testing.T, s *mcp.ClientSession, name, args string) (text, code string) {
	t.Helper()
	r, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: name, Arguments: json.RawMessage(args)})
	if err != nil {
		return "", err.Error()
	}
	for _, c := range r.Content {
		text += c.(*mcp.TextContent).Text
	}
	if r.IsError {
		var e struct{ Code string }
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			t.Fatalf("%s: %s", name, text)
		}
		return text, e.Code
	}
	return text, ""
}

func TestProgramsAndCommandsAreTools(t *testing.T) {
	fake := dspextest.NewFake(t)
	fake.Handle("list_programs", func(j dspextest.Job) (any, error) {
		signature := map[string]any{"inputs": []any{named("question", "str")}, "outputs": []any{named("question", "str")}}
		return map[string]any{"programs": []any{map[string]any{"id": "of_" + j.Session, "signature": signature}, map[string]any{"id": "a:b", "signature": signature}, map[string]any{"id": "none"}}}, nil
	})
	url := serve(t, fake.Client(), gateway.Config{})
	s := tools(t, url, "Dspex-Session: bob")
	listed, err := s.ListTools(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, tool := range listed.Tools {
		names = append(names, tool.Name)
	}
	for _, name := range []string{"program_of_bob", "predict", "submit_job", "wait_job"} {
		if !slices.Contains(names, name) {
			t.Errorf("%s is missing in %q", name, names)
		}
	}
	if slices.ContainsFunc(names, func(n string) bool { return strings.Contains(n, ":") || n == "program_none" }) {
		t.Errorf("%q", names)
	}
	for _, c := range []struct{ tool, args, command, session, want string }{
		{"program_of_bob", `{"question":"why"}`, "execute_program", "bob", `{"question":"why"}`},
		{"predict", `{"inputs":{"question":"why"},"signature":"question -> answer"}`, "predict", "bob", `{"answer":"why"}`},
		{"run_command", `{"command":"echo","args":{"n":12345678901234567890},"dspex_session":"ann"}`, "echo", "ann", `12345678901234567000`},
		{"cleanup_session", `{"dspex_session":"ann"}`, "cleanup_session", "ann", `"cleaned"`},
	} {
		text, code := use(t, s, c.tool, c.args)
		jobs := fake.Jobs()
		last := jobs[len(jobs)-1]
		switch {
		case code != "":
			t.Errorf(`code must be "", got %v; %s %s: %s %s, %+v`, code, c.tool, c.args, text, code, last)
		case !strings.Contains(text, c.want):
			t.Errorf("must hold: strings.Contains(text, c.want); %s %s: %s %s, %+v", c.tool, c.args, text, code, last)
		case last.Command != c.command:
			t.Errorf("last.Command: got %v, want %v; %s %s: %s %s, %+v", last.Command, c.command, c.tool, c.args, text, code, last)
		case last.Session != c.session:
			t.Errorf("last.Session: got %v, want %v; %s %s: %s %s, %+v", last.Session, c.session, c.tool, c.args, text, code, last)
		}
	}
}

func TestALongJobIsStoredAndWaitedFor(t *testing.T) {
	url := serve(t, dspextest.NewFake(t).Client(), gateway.Config{})
	s := tools(t, url)
	if text, code := use(t, s, "submit_job", `{"command":"echo","args":{"x":1},"job":"k1"}`); code != "" || !strings.Contains(text, `"job":"k1"`) {
		t.Fatalf("%s %s", text, code)
	}
	if text, code := use(t, tools(t, url), "wait_job", `{"job":"k1","wait_ms":60000}`); code != "" || !strings.Contains(text, `"outcome":"succeeded"`) || !strings.Contains(text, `"result":{"x":1}`) {
		t.Errorf("%s %s", text, code)
	}
}

func TestToolsRefuseWhatIsNotTheCallers(t *testing.T) {
	path := tokenFile(t)
	bob := bearer(t, path, tokens.Token{Sessions: "bob-", Role: tokens.Operate})
	fake := dspextest.NewFake(t)
	url := serve(t, fake.Client(), gateway.Config{Tokens: path})
	s := tools(t, url, bob)
	for _, c := range []struct{ tool, args, code string }{
		{"predict", `{"inputs":{},"dspex_session":"ann-1"}`, "session_denied"},
		{"predict", `{"inputs":{},"dspex_session":"a.b"}`, "bad_session_id"},
		{"predict", `{"inputs":{},"x":1}`, "bad_input"},
		{"predict", `{"inputs":7}`, "bad_input"},
		{"wait_job", `{"job":"ann-k"}`, "session_denied"},
		{"wait_job", `{"job":"bob-k","wait_ms":600001}`, "bad_input"},
		{"wait_job", `{"job":"k","dspex_session":"ann-1"}`, "session_denied"},
		{"cancel_job", `{"job":"ann-k"}`, "session_denied"},
		{"submit_job", `{"command":"echo","job":"ann-k"}`, "session_denied"},
		{"submit_job", `{"command":"set_lm","args":{"model":"m"}}`, "role_required"},
		{"run_command", `{"command":"shutdown"}`, "role_required"},
		{"run_command", `{"command":"erase_session","dspex_session":"bob-1"}`, "role_required"},
		{"run_command", `{"command":"cleanup_session","args":{"session_id":"ann-1"}}`, "role_required"},
		{"get_session_data", `{"session_id":"ann-1"}`, "role_required"},
	} {
		if text, code := use(t, s, c.tool, c.args); code != c.code {
			t.Errorf("%s %s: %s", c.tool, c.args, text)
		}
	}
	if jobs := fake.Jobs(); len(jobs) > 0 {
		t.Errorf("%+v ran", jobs)
	}
	if text, code := use(t, s, "submit_job", `{"command":"echo"}`); code != "" || !strings.Contains(text, `"job":"bob-`) {
		t.Errorf("%s %s", text, code)
	}
	if _, err := tools(t, url, bob, "Dspex-Session: ann-1").ListTools(t.Context(), nil); err == nil {
		t.Error("the tools of another session are listed")
	}
	if a := send(t, "POST", url+"/mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`); a.StatusCode != 401 {
		t.Errorf("without a token: %d %s", a.StatusCode, a.text)
	}
}

func TestACallOfAToolThatIsGivenUpCancelsItsJob(t *testing.T) {
	client := slow(t).Client()
	url := serve(t, client, gateway.Config{})
	s := tools(t, url)
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := s.CallTool(ctx, &mcp.CallToolParams{Name: "predict", Arguments: json.RawMessage(`{"inputs":{"question":"x"},"dspex_session":"bob"}`)})
		left <- err
	}()
	await(t, func() bool {
		info, err := client.Admin().GetSession(t.Context(), "bob")
		return err == nil && info.Running != nil
	})
	leave()
	if err := <-left; err == nil {
		t.Fatal("it was answered")
	}
	await(t, func() bool {
		return strings.Contains(send(t, "GET", url+"/metrics", "").text, "\ndspex_gateway_left_jobs_total 1\n")
	})
}
