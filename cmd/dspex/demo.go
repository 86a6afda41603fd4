package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/devserver"
)

// turn is one request of the demo.
type turn struct {
	title   string
	session string // empty: anonymous
	command string
	args    dspex.Args
}

// demoTurns are the manual's examples.
var demoTurns = []turn{
	{"A prediction in a session", "user_123", "predict", dspex.Args{"question": "What is the capital of France?"}},
	{"An anonymous prediction", "", "predict", dspex.Args{"text": "Classify this sentiment: I love this product!"}},
	{"Create a program", "my_session", "create_program", dspex.Args{"id": "qa_bot", "signature": map[string]any{
		"name":    "QuestionAnswer",
		"inputs":  []any{map[string]any{"name": "question", "type": "string"}},
		"outputs": []any{map[string]any{"name": "answer", "type": "string"}},
	}}},
	{"Run the program", "my_session", "execute_program", dspex.Args{"program_id": "qa_bot", "inputs": map[string]any{"question": "What is machine learning?"}}},
	{"A conversation, turn 1", "conversation_1", "predict", dspex.Args{"text": "Hello, I'm starting a conversation"}},
	{"A conversation, turn 2", "conversation_1", "predict", dspex.Args{"text": "Can you remember what I just said?"}},
	{"A conversation, turn 3", "conversation_1", "predict", dspex.Args{"text": "Now summarize our entire conversation"}},
}

func (a *app) demoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Start everything, run the manual's examples through real DSPy, stop",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := context.WithCancel(cmd.Context())
			defer stop()
			var failed error
			err := devserver.Run(ctx, devserver.Config{
				Listen: "127.0.0.1:0", Workers: 2, Progress: a.err,
				Log: slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: slog.LevelError})),
				Ready: func(i devserver.Info) {
					go func() {
						defer stop()
						failed = runDemo(ctx, a.out, i)
					}()
				},
			})
			if failed != nil {
				return failed
			}
			return err
		},
	}
}

func runDemo(ctx context.Context, out io.Writer, i devserver.Info) error {
	fmt.Fprintf(out, "ready %s  (engine %s, language model: built-in echo at %s)\n", i.URL, i.Engine, i.Echo)
	c, err := dspex.Connect(ctx, i.URL)
	if err != nil {
		return err
	}
	defer c.Close()
	for _, t := range demoTurns {
		var r dspex.Reply
		subject := "dspex.rpc.anonymous"
		if t.session == "" {
			r, err = c.ExecuteAnonymous(ctx, t.command, t.args)
		} else {
			subject = "dspex.rpc.session." + t.session
			r, err = c.Execute(ctx, t.session, t.command, t.args)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", t.title, err)
		}
		body, err := json.Marshal(map[string]any{"command": t.command, "args": t.args})
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "\n%s\n  request  %s\n           %s\n  answer   %s\n", t.title, subject, body, r.Result)
		if t.session != "" {
			fmt.Fprintf(out, "  session  %s on worker %s, state %s\n", r.Session.ID, r.Session.Worker, r.Session.State)
		}
	}
	fmt.Fprintln(out, "\nEvery answer went through JetStream, a Python worker, real DSPy and a real HTTP call to the echo model.")
	return nil
}
