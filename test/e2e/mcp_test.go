package e2e

import (
	"encoding/json"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/dspex/dspex"
)

// mcpFound is what the official client reports of one transport.
type mcpFound struct {
	Tools  []string
	Schema struct {
		Properties map[string]struct{ Type string }
		Required   []string
	}
	Program, Predict struct{ Answer string }
	Progress         [][]any
	Data             map[string]int
	Waited           struct{ Outcome string }
	Refused          []any
	GaveUp           bool
}

// TestTheOfficialClientOfMCP runs the official Python client, unmodified, over HTTP and over standard input and output. The stub
// engine has a command that sleeps.
func TestTheOfficialClientOfMCP(t *testing.T) {
	stub, err := startDev(nil, "", "--engine", "stub", "--http", "none")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stub.Stop() })
	web, token := startGateway(t, stub.url)
	ctx, c := connectTo(t, stub.url)
	for _, session := range []string{"mcp_http", "mcp_stdio"} {
		if _, err := c.Execute(ctx, session, "create_program", dspex.Args{"id": "qa_bot", "signature": "question -> answer"}); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command(clientsPython(t), "mcp_client.py", web, token, "mcp", binary, stub.url).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		t.Fatalf("%v\n%s", err, exit.Stderr)
	}
	var found struct{ HTTP, Stdio mcpFound }
	if err := errors.Join(err, json.Unmarshal(out, &found)); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Logf("%s", out)
	for transport, f := range map[string]mcpFound{"http": found.HTTP, "stdio": found.Stdio} {
		t.Run(transport, f.check)
	}
	// The session is free again: both calls that were given up are over, long before they would have slept enough.
	if _, err := c.Execute(ctx, "mcp_nap", "ping", nil); err != nil {
		t.Errorf("a call that was given up goes on: %v", err)
	}
}

func (f mcpFound) check(t *testing.T) {
	for _, name := range []string{"program_qa_bot", "predict", "submit_job", "wait_job", "cancel_job", "run_command"} {
		if !slices.Contains(f.Tools, name) {
			t.Errorf("no %s in %q", name, f.Tools)
		}
	}
	if f.Schema.Properties["question"].Type != "string" || !slices.Equal(f.Schema.Required, []string{"question"}) {
		t.Errorf("schema %+v", f.Schema)
	}
	var said strings.Builder
	for _, p := range f.Progress {
		text, _ := p[1].(string)
		said.WriteString(text)
	}
	if f.Program.Answer != "[stub] one two three" || said.String() != f.Program.Answer {
		t.Errorf("the program says %q, with progress %q", f.Program.Answer, f.Progress)
	}
	switch {
	case f.Predict.Answer != "[stub] four":
		t.Errorf(`f.Predict.Answer must be "[stub] four", got %v; %+v`, f.Predict.Answer, f)
	case f.Data["k"] != 7:
		t.Errorf(`f.Data["k"] must be 7, got %v; %+v`, f.Data["k"], f)
	case f.Waited.Outcome != "succeeded":
		t.Errorf(`f.Waited.Outcome must be "succeeded", got %v; %+v`, f.Waited.Outcome, f)
	case !f.GaveUp:
		t.Errorf("must hold: f.GaveUp; %+v", f)
	}
	if len(f.Refused) != 2 || f.Refused[0] != true || f.Refused[1] != "role_required" {
		t.Errorf("refused %v", f.Refused)
	}
}
