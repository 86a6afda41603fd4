package e2e

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/programtest"
)

// clientsPython is the interpreter of the environment that has the official clients.
func clientsPython(t *testing.T) string {
	t.Helper()
	python := os.Getenv("DSPEX_TEST_CLIENTS_PYTHON")
	if python == "" {
		t.Fatal("DSPEX_TEST_CLIENTS_PYTHON names the interpreter of the environment with the official clients: run `make test`, or `make setup` and name .venv-clients/bin/python")
	}
	return python
}

// startGateway starts `dspex gateway` in front of a deployment, and returns its URL and a token.
func startGateway(t *testing.T, url string, token ...string) (web, bearer string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "tokens.json")
	text, err := exec.Command(binary, append([]string{"tokens", "new", "--file", file}, token...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	cmd := programtest.Guarded(binary, "gateway", "--server", url, "--listen", "127.0.0.1:0", "--tokens", file, "--models", "fast")
	var said log
	cmd.Stderr = &said
	running, err := programtest.Start(cmd)
	if err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	t.Cleanup(func() { running.Stop() })
	return running.Ready, strings.TrimSpace(string(text))
}

type openAIFound struct {
	Models []string
	Chat   struct {
		Text, Finish string
		Tokens       int
	}
	ChatStream struct {
		Text           string
		Chunks, Tokens int
	}
	Response struct {
		Text, Session, Next, Status string
		Tokens                      int
	}
	ResponseStream struct{ Text, Final string }
	Program        string
	Kinds          []string
	Refused        []struct {
		Name, Code, Param string
		Status            int
	}
}

// TestOpenAIsOwnClients runs the official clients, unmodified, against a gateway with real DSPy behind it.
func TestOpenAIsOwnClients(t *testing.T) {
	needNode(t)
	web, token := startGateway(t, url)
	ctx, c := connect(t)
	for name, argv := range map[string][]string{"python": {clientsPython(t), "openai_client.py"}, "node": {"node", "node/openai_client.mjs"}} {
		t.Run(name, func(t *testing.T) {
			session := "openai_" + name
			if _, err := c.Execute(ctx, session, "create_program", dspex.Args{"id": "qa_bot", "signature": "question -> answer"}); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command(argv[0], argv[1], web, token, session).Output()
			if exit, ok := errors.AsType[*exec.ExitError](err); ok {
				t.Fatalf("%v\n%s", err, exit.Stderr)
			}
			var f openAIFound
			if err := errors.Join(err, json.Unmarshal(out, &f)); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			f.check(t)
			t.Logf("%s", out)
		})
	}
}

func (f openAIFound) check(t *testing.T) {
	t.Helper()
	if !slices.Contains(f.Models, "default") || !slices.Contains(f.Models, "fast") {
		t.Errorf("models %q", f.Models)
	}
	for of, text := range map[string]string{"one two three": f.Chat.Text, "one two three ": f.ChatStream.Text, "My name is Ada": f.Response.Text, "four five six": f.ResponseStream.Text, "seven eight": f.Program} {
		if !strings.Contains(text, strings.TrimSpace(of)) {
			t.Errorf("of %q it says %q", of, text)
		}
	}
	switch {
	case f.Chat.Finish != "stop":
		t.Errorf(`f.Chat.Finish must be "stop", got %v; chat %+v, streamed %+v`, f.Chat.Finish, f.Chat, f.ChatStream)
	case f.Chat.Tokens == 0:
		t.Errorf("f.Chat.Tokens must not be 0; chat %+v, streamed %+v", f.Chat, f.ChatStream)
	case f.ChatStream.Chunks < 3:
		t.Errorf("f.ChatStream.Chunks must be >= 3, got %v; chat %+v, streamed %+v", f.ChatStream.Chunks, f.Chat, f.ChatStream)
	case f.ChatStream.Tokens == 0:
		t.Errorf("f.ChatStream.Tokens must not be 0; chat %+v, streamed %+v", f.Chat, f.ChatStream)
	}
	switch {
	case f.Response.Session == "":
		t.Errorf(`f.Response.Session must not be ""; responses %+v`, f.Response)
	case f.Response.Session != f.Response.Next:
		t.Errorf("f.Response.Session: got %v, want %v; responses %+v", f.Response.Session, f.Response.Next, f.Response)
	case f.Response.Status != "completed":
		t.Errorf(`f.Response.Status must be "completed", got %v; responses %+v`, f.Response.Status, f.Response)
	case f.Response.Tokens == 0:
		t.Errorf("f.Response.Tokens must not be 0; responses %+v", f.Response)
	}
	if f.ResponseStream.Text != f.ResponseStream.Final || f.Kinds[0] != "response.created" || f.Kinds[len(f.Kinds)-1] != "response.completed" {
		t.Errorf("streamed response %+v, events %q", f.ResponseStream, f.Kinds)
	}
	for i, want := range []struct {
		name, code string
		status     int
	}{{"BadRequestError", "unsupported_parameter", 400}, {"NotFoundError", "model_not_found", 404}, {"NotFoundError", "model_not_found", 404}, {"AuthenticationError", "token_required", 401}} {
		switch {
		case len(f.Refused) != 4:
			t.Errorf("len(f.Refused) must be 4, got %v; refused %+v", len(f.Refused), f.Refused)
		case f.Refused[i].Name != want.name:
			t.Errorf("f.Refused[i].Name: got %v, want %v; refused %+v", f.Refused[i].Name, want.name, f.Refused)
		case f.Refused[i].Code != want.code:
			t.Errorf("f.Refused[i].Code: got %v, want %v; refused %+v", f.Refused[i].Code, want.code, f.Refused)
		case f.Refused[i].Status != want.status:
			t.Errorf("f.Refused[i].Status: got %v, want %v; refused %+v", f.Refused[i].Status, want.status, f.Refused)
		}
	}
}
