// Package e2e runs the product as its users do: `dspex dev` with real DSPy, and clients in Go, Python and JavaScript.
package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/programtest"
)

var (
	binary string // the dspex program, built for these tests
	url    string // of the dspex dev that most tests share
)

func TestMain(m *testing.M) {
	os.Exit(programtest.Run(m, func(bin, dir string) (func(), error) {
		binary = filepath.Join(bin, "dspex")
		shared, err := startDev(nil, "", "--dir", filepath.Join(dir, "data"))
		if err != nil {
			return nil, err
		}
		url = shared.url
		return shared.Stop, nil
	}, "../../cmd/dspex"))
}

func TestResultsAreFresh(t *testing.T) { programtest.Fresh(t, "../..") }

func connect(t *testing.T) (context.Context, *dspex.Client) {
	t.Helper()
	return connectTo(t, url)
}

func connectTo(t *testing.T, url string) (context.Context, *dspex.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	c, err := dspex.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return ctx, c
}

func TestThePredictOfTheManual(t *testing.T) {
	ctx, c := connect(t)
	r, err := c.Execute(ctx, "user_123", "predict", dspex.Args{"question": "What is the capital of France?"})
	if err != nil {
		t.Fatal(err)
	}
	if a, _ := r.Outputs()["answer"].(string); len(r.Outputs()) != 1 || !strings.Contains(a, "capital of France") || !strings.HasPrefix(r.Engine, "dspy 3.4.1") {
		t.Errorf("%s by %s", r.Raw, r.Engine)
	}
}

func TestAProgramOfTheManualRunsInItsSessionOnly(t *testing.T) {
	ctx, c := connect(t)
	config := dspex.Args{"id": "qa_bot", "signature": map[string]any{"name": "QuestionAnswer",
		"inputs": []any{map[string]any{"name": "question", "type": "string"}}, "outputs": []any{map[string]any{"name": "answer", "type": "string"}}}}
	r, err := c.Execute(ctx, "programs", "create_program", config)
	if err != nil || string(r.Result) != `"qa_bot"` {
		t.Fatalf("%s %v", r.Result, err)
	}
	ask := dspex.Args{"program_id": "qa_bot", "inputs": map[string]any{"question": "What is machine learning?"}}
	if r, err = c.Execute(ctx, "programs", "execute_program", ask); err != nil || !strings.Contains(string(r.Result), "machine learning") {
		t.Errorf("%s %v", r.Result, err)
	}
	if _, err := c.Execute(ctx, "elsewhere", "execute_program", ask); err == nil {
		t.Error("another session knows the program")
	}
	ask["inputs"] = map[string]any{}
	if _, err := c.Execute(ctx, "programs", "execute_program", ask); err == nil || !strings.Contains(err.Error(), "question") {
		t.Errorf("a missing input: %v", err)
	}
}

func TestAConversationKeepsItsTurns(t *testing.T) {
	ctx, c := connect(t)
	var last dspex.Reply
	for _, text := range []string{"Hello, I'm starting a conversation", "Can you remember what I just said?", "Now summarize our entire conversation"} {
		r, err := c.Execute(ctx, "conversation_1", "predict", dspex.Args{"text": text})
		if err != nil {
			t.Fatal(err)
		}
		last = r
	}
	if !strings.Contains(string(last.Result), "(turn 3)") || last.SessionState != "warm" {
		t.Errorf("%s, state %s", last.Result, last.SessionState)
	}
}

func TestAPublishedJobIsAnsweredLaterAndOnce(t *testing.T) {
	ctx, c := connect(t)
	for range 2 {
		if _, err := c.Submit(ctx, "batch_1", "predict", dspex.Args{"question": "later?"}, dspex.WithJobID("job-1")); err != nil {
			t.Fatal(err)
		}
	}
	r, err := c.Wait(ctx, dspex.JobRef{Session: "batch_1", ID: "job-1"})
	if err != nil || !strings.Contains(string(r.Result), "later?") {
		t.Errorf("%s %v", r.Result, err)
	}
}
