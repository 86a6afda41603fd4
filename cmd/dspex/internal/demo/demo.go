// Package demo starts everything, shows what it does and stops.
package demo

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
	"github.com/dspex/dspex/internal/devserver"
)

// Command is `dspex demo`.
func Command(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Start everything, run a demonstration through real DSPy, and stop",
		Long: `Start a broker, a dispatcher, the echo model and worker-hosts with real DSPy. Then run the documented examples, kill a worker
and a host in the middle of a conversation, let the language model fail and come back, run a file of jobs, and stop. The program
worker-host must be in the directory of dspex.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := context.WithCancel(cmd.Context())
			defer stop()
			failed := make(chan error, 1)
			var scenes sync.WaitGroup
			cfg := devserver.Config{
				Listen: "127.0.0.1:0", Log: slog.New(slog.NewTextHandler(a.Err, &slog.HandlerOptions{Level: slog.LevelError})),
				Ready: func(i devserver.Info) {
					scenes.Go(func() {
						defer stop()
						failed <- runDemo(ctx, a, i)
					})
				},
			}
			cfg.Alerts.Destinations = []string{"telemetry"} // the third scene shows them
			err := devserver.Control(ctx, cfg)
			stop()
			scenes.Wait() // its hosts have ended
			select {
			case e := <-failed:
				return e
			default:
				return err
			}
		},
	}
}

// scenes of the demo, in order.
var scenes = []struct {
	title string
	play  func(*demo, context.Context) error
}{
	{"The documented examples", (*demo).examples},
	{"A session survives: its worker is killed, then its whole host", (*demo).survival},
	{"A language model fails: retry, breaker, dead letter", (*demo).failure},
	{"A file of jobs in, a file of results out, and a worker is killed in between", (*demo).batch},
}

func runDemo(ctx context.Context, a *cli.App, info devserver.Info) (err error) {
	d := &demo{App: a, info: info}
	if d.dir, err = os.MkdirTemp("", "dspex-demo-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(d.dir) }()
	if d.c, err = dspex.Connect(ctx, info.URL); err != nil {
		return err
	}
	defer d.c.Close()
	defer func() { d.host.stop() }()
	if d.host, err = d.startHost(ctx, "demo-1"); err != nil {
		return err
	}
	began := time.Now()
	for n, s := range scenes {
		d.headline(fmt.Sprintf("%d  %s", n+1, s.title))
		if err := s.play(d, ctx); err != nil {
			return fmt.Errorf("scene %d, %s: %w", n+1, s.title, err)
		}
	}
	d.note("\nEvery answer went through JetStream, a Python worker, real DSPy and a real HTTP call to the echo model. %.1f s.", time.Since(began).Seconds())
	return nil
}

func (d *demo) headline(text string) {
	fmt.Fprintf(d.Out, "\n%s\n%s\n", d.Paint(d.Out, cli.Bold, text), d.Paint(d.Out, cli.Dim, strings.Repeat("─", len([]rune(text)))))
}

// examples are the calls of docs/migration.md, "Calls".
func (d *demo) examples(ctx context.Context) error {
	for _, t := range []turn{
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
	} {
		if _, err := d.do(ctx, t); err != nil {
			return fmt.Errorf("%s: %w", t.title, err)
		}
	}
	return nil
}
