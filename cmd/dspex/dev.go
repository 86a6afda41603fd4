package main

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex/internal/devserver"
)

func (a *app) devCommand() *cobra.Command {
	var cfg devserver.Config
	var verbose bool
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run everything in one process: broker, dispatcher, worker-host, Python workers, echo model",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			level := slog.LevelWarn
			if verbose {
				level = slog.LevelDebug
			}
			cfg.Log = slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: level}))
			cfg.Progress = a.err
			cfg.Ready = a.announce
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
	f.StringSliceVar(&cfg.Imports, "import", nil, "Python modules whose commands and programs become available")
	f.StringVar(&cfg.LMFile, "lm", "", "file of LM profiles (default: the built-in echo model)")
	f.StringVar(&cfg.Python, "python", "", "Python interpreter, 3.11 or newer (default: python3)")
	f.BoolVarP(&verbose, "verbose", "v", false, "log everything")
	return cmd
}

func (a *app) announce(i devserver.Info) {
	server := ""
	if !strings.HasSuffix(i.URL, ":4222") {
		server = " --server " + i.URL
	}
	fmt.Fprintf(a.out, "ready %s\n", i.URL)
	if i.Echo != "" && i.Engine == "dspy" {
		fmt.Fprintln(a.err, "No language model is configured: answers come from the built-in echo model, through real DSPy.")
	}
	fmt.Fprintf(a.err, "Next:  dspex call predict question=\"What is the capital of France?\" --session user_123%s\n", server)
}
