// Package local has the commands that need no deployment.
package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex/cmd/dspex/internal/cli"
	"github.com/dspex/dspex/internal/config"
	"github.com/dspex/dspex/internal/daemon"
	"github.com/dspex/dspex/internal/devserver"
)

// Dev is `dspex dev`.
func Dev(a *cli.App) *cobra.Command {
	var cfg devserver.Config
	var metrics daemon.Metrics
	var verbose, quiet bool
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run everything in one process: broker, dispatcher, worker-host, Python workers, echo model",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			file, err := config.Set(cmd.Flags(), a.Env, ".")
			if err != nil {
				return cli.Usage("%v", err)
			}
			for _, w := range file.Warnings {
				fmt.Fprintln(a.Err, w)
			}
			if cfg.Workers < 1 || cfg.Slots < 1 {
				return cli.Usage("--workers and --slots must be at least 1")
			}
			if err := errors.Join(metrics.Check(), cfg.Check(), cfg.Alerts.Check()); err != nil {
				return cli.Usage("%v", err)
			}
			var level slog.LevelVar
			level.Set(slog.LevelError) // what goes wrong before all is ready ends the program and is said then
			if verbose {
				level.Set(slog.LevelDebug)
			}
			cfg.Log = slog.New(devLog{slog.NewTextHandler(a.Err, &slog.HandlerOptions{Level: &level})})
			cfg.Progress = a.Err
			registry := daemon.NewRegistry()
			url, stop, err := metrics.Serve(registry, cfg.Log)
			if err != nil {
				return err
			}
			defer stop()
			cfg.Metrics = registry
			attempts := newAttemptLog(a, quiet, time.Now)
			defer attempts.close()
			cfg.Ended = attempts.ended
			cfg.Ready = func(i devserver.Info) {
				level.Set(min(level.Level(), slog.LevelWarn))
				announce(a, i, url)
			}
			stopping := context.AfterFunc(cmd.Context(), func() {
				fmt.Fprintln(a.Err, a.Paint(a.Err, cli.Dim, "stopping: running jobs may finish; Ctrl-C again ends it at once"))
			})
			defer stopping()
			return devserver.Run(cmd.Context(), cfg)
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.Engine, "engine", "dspy", "dspy or stub")
	f.StringVar(&cfg.Listen, "listen", "127.0.0.1:4222", "HOST:PORT of the broker; port 0 takes a free one")
	f.StringVar(&cfg.Dir, "dir", "", "directory of the broker's data (default: temporary)")
	f.IntVar(&cfg.Workers, "workers", 4, "Python workers")
	f.IntVar(&cfg.Slots, "slots", 64, "concurrent jobs in each worker")
	cfg.Pool.Flags(f)
	cfg.Sandbox.Flags(f)
	cfg.Breaker.Flags(f)
	cfg.Defaults.Flags(f)
	cfg.Alerts.Flags(f)
	cfg.KeyRefs.Flags(f)
	cfg.Modules.Flags(f)
	cfg.Test.Flags(f)
	metrics.Flags(f)
	f.StringVar(&cfg.LMFile, "lm", "", "file of LM profiles, or its JSON text (default: the built-in echo model)")
	f.StringVar(&cfg.Python, "python", "", "Python interpreter, 3.11 or newer (default: python3)")
	f.BoolVarP(&verbose, "verbose", "v", false, "log everything")
	f.BoolVarP(&quiet, "quiet", "q", false, "no line for each attempt; what user code prints and raises is shown all the same")
	config.Flags(f, true)
	config.TellVariables(f)
	return cmd
}

func announce(a *cli.App, i devserver.Info, metrics string) {
	server, subject := "", ""
	if i.URL != cli.DefaultServer {
		server, subject = " --server "+i.URL, " -s "+i.URL
	}
	fmt.Fprintf(a.Out, "%s %s\n", a.Paint(a.Out, cli.Green, "ready"), i.URL)
	say := func(format string, args ...any) { fmt.Fprintf(a.Err, format+"\n", args...) }
	switch {
	case i.Mode == "mock_adapter":
		say("%s", a.Paint(a.Err, cli.Dim, "Test mode mock_adapter: no Python; answers come from the scenario (--scenario), or are made up."))
	case i.Mode != "":
		say("%s", a.Paint(a.Err, cli.Dim, "Test mode "+i.Mode+": what the scenario (--scenario) has an answer for is answered by it."))
	case i.Engine == "stub":
		say("%s", a.Paint(a.Err, cli.Dim, "The stub engine answers: no DSPy, no language model, values made up from the inputs."))
	case i.Echo != "":
		say("%s", a.Paint(a.Err, cli.Dim, "No language model is configured (--lm): the built-in echo model answers, through real DSPy and HTTP."))
	}
	say("%s", a.Paint(a.Err, cli.Dim, "The broker has one account: a client that may publish can write to any of its subjects. For clients that you do not trust: docs/security.md."))
	if metrics != "" {
		say("metrics %s", metrics)
	}
	say("\nIn another terminal:")
	say("  %s call predict question=\"What is the capital of France?\" --session user_123%s", a.Program, server)
	say("  %s stats%s", a.Program, server)
	say("or with the nats command line, or any NATS client:")
	say("  nats%s request dspex.rpc.session.user_123 '{\"command\": \"predict\", \"args\": {\"question\": \"Why?\"}}'", subject)
	say("\nCtrl-C ends it.")
}
