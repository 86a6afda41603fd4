// Package local has the commands that need no deployment.
package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dspex/dspex/cmd/dspex/internal/cli"
	"github.com/dspex/dspex/internal/config"
	"github.com/dspex/dspex/internal/daemon"
	"github.com/dspex/dspex/internal/devserver"
	"github.com/dspex/dspex/internal/gateway"
	"github.com/dspex/dspex/internal/logfeed"
	"github.com/dspex/dspex/internal/tracing"
)

// devRun is one run of `dspex dev`.
type devRun struct {
	cfg            devserver.Config
	metrics        daemon.Metrics
	traces         tracing.Config
	web            web
	verbose, quiet bool
	pooling        bool
}

// Dev is `dspex dev`.
func Dev(a *cli.App) *cobra.Command {
	var d devRun
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run everything in one process: broker, dispatcher, worker-host, Python workers, echo model",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return d.run(cmd, a) },
	}
	d.flags(cmd.Flags())
	for flag, words := range config.Words() {
		if cmd.Flags().Lookup(flag) != nil {
			_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
		}
	}
	return cmd
}

func (d *devRun) flags(f *pflag.FlagSet) {
	f.StringVar(&d.cfg.Engine, "engine", "dspy", "dspy or stub")
	f.StringVar(&d.cfg.Listen, "listen", "127.0.0.1:4222", "HOST:PORT of the broker; port 0 takes a free one")
	f.StringVar(&d.cfg.Dir, "dir", "", "directory of the broker's data (default: temporary)")
	f.IntVar(&d.cfg.Workers, "workers", 4, "Python workers")
	f.IntVar(&d.cfg.Slots, "slots", 64, "concurrent jobs in each worker")
	config.PoolingFlag(f, &d.pooling)
	d.cfg.Pool.Flags(f)
	d.cfg.Times.Flags(f)
	d.cfg.Sandbox.Flags(f)
	d.cfg.Breaker.Flags(f)
	d.cfg.Defaults.Flags(f)
	d.cfg.Alerts.Flags(f)
	d.cfg.KeyRefs.Flags(f)
	d.cfg.Modules.Flags(f)
	d.cfg.Test.Flags(f)
	d.metrics.Flags(f)
	d.traces.Flags(f)
	d.web.flags(f)
	f.StringVar(&d.cfg.LMFile, "lm", "", "file of LM profiles, or its JSON text (default: the built-in echo model)")
	f.StringVar(&d.cfg.Python, "python", "", "Python interpreter, 3.11 or newer (default: python3)")
	f.BoolVar(&d.cfg.Reload, "reload", false, "replace the workers when a Python file of the modules (--import, --path) changes; sessions keep their state")
	f.BoolVarP(&d.verbose, "verbose", "v", false, "log everything")
	f.BoolVarP(&d.quiet, "quiet", "q", false, "no line for each attempt; output and exceptions of user code are still shown")
	config.Flags(f, true)
	config.TellVariables(f)
}

// nextDev makes what the settings are read into again.
func nextDev() next {
	d := &devRun{}
	return next{d.flags, d.check, &d.cfg}
}

// check reports everything that is wrong with the flags.
func (d *devRun) check(env func(string) string) error {
	var own []error
	for _, of := range []struct {
		flag  string
		value int
	}{{"workers", d.cfg.Workers}, {"slots", d.cfg.Slots}, {"breaker-failures", d.cfg.Breaker.FailureThreshold}, {"breaker-successes", d.cfg.Breaker.SuccessThreshold}} {
		if of.value == 0 { // the zero value means the default there
			own = append(own, fmt.Errorf("--%s must be at least 1, got %d", of.flag, of.value))
		}
	}
	if d.cfg.Breaker.Timeout == 0 {
		own = append(own, errors.New("--breaker-timeout must be more than 0"))
	}
	if d.cfg.Reload && len(d.cfg.Modules.Names) == 0 {
		own = append(own, errors.New("--reload needs --import: there is no code of yours to watch"))
	}
	return errors.Join(append(own, d.metrics.Check(), d.traces.Complete(env), d.cfg.Check(), d.cfg.Alerts.Check(), d.web.check())...)
}

func (d *devRun) run(cmd *cobra.Command, a *cli.App) error {
	given := daemon.Given(cmd.Flags())
	file, wrong := config.Set(cmd.Flags(), a.Env, ".")
	if err := errors.Join(wrong, file.Locate(d.check(a.Env))); err != nil {
		return cli.Usage("%v", err)
	}
	for _, w := range file.Warnings {
		fmt.Fprintln(a.Err, w)
	}
	d.cfg.PoolingOff, d.cfg.Version = !d.pooling, daemon.Version()
	var level slog.LevelVar
	level.Set(slog.LevelError) // what goes wrong before all is ready ends the program and is reported then
	if d.verbose {
		level.Set(slog.LevelDebug)
	}
	d.cfg.Feed = logfeed.New("dev", "dev")
	d.cfg.Log = slog.New(d.cfg.Feed.Handler(devLog{slog.NewTextHandler(a.Err, &slog.HandlerOptions{Level: &level})}))
	d.cfg.Progress = a.Err
	registry := daemon.NewRegistry()
	url, stop, err := d.metrics.Serve(registry, d.cfg.Log)
	if err != nil {
		return err
	}
	defer stop()
	d.cfg.Metrics = registry
	if d.cfg.Traces, err = tracing.Open(d.traces, a.Env, "dev", "dev", d.cfg.Log); err != nil {
		return err
	}
	defer d.cfg.Traces.Close()
	registry.MustRegister(d.cfg.Traces.Metrics()...)
	ctx, end := context.WithCancel(cmd.Context())
	defer end()
	d.web.traces = d.cfg.Traces
	if err := d.web.open(); err != nil {
		return err
	}
	defer func() { end(); d.web.wait() }()
	attempts := newAttemptLog(a, d.quiet, time.Now)
	defer attempts.close()
	d.cfg.Ended = attempts.ended
	d.cfg.Reloaded = func(file string, err error) { sayReloaded(a, file, err) }
	again := newRereading(a, given, cmd.Flags(), nextDev)
	d.cfg.Reread = again.now
	ending := newStopping(a)
	ending.grace, d.cfg.Hurry = d.cfg.Times.Grace, ending.hurry
	d.cfg.Ready = func(i devserver.Info) {
		ending.busy = i.Busy
		again.adjust.Store(&i.Adjust)
		level.Set(min(level.Level(), slog.LevelWarn))
		announce(a, i, url, d.web.serve(ctx, i.URL, i.Models, registry, d.cfg.Log))
	}
	defer ending.watch(cmd.Context())()
	defer again.watch(ctx, end)()
	return devserver.Run(ctx, d.cfg)
}

// sayReloaded reports what became of a change of the user's code.
func sayReloaded(a *cli.App, file string, err error) {
	if wd, bad := os.Getwd(); bad == nil {
		if rel, bad := filepath.Rel(wd, file); bad == nil && !strings.HasPrefix(rel, "..") {
			file = rel
		}
	}
	if err != nil {
		fmt.Fprintf(a.Err, "%s\n%s\n", a.Paint(a.Err, cli.Red, cli.Clean(file)+" has changed, and the workers stay as they were: the new ones do not start"), cli.Clean(err.Error()))
		return
	}
	fmt.Fprintln(a.Err, a.Paint(a.Err, cli.Green, "reloaded"), cli.Clean(file)+" has changed: new workers serve; sessions keep their state")
}

func announce(a *cli.App, i devserver.Info, metrics, http string) {
	server, subject := "", ""
	if i.URL != cli.DefaultServer {
		server, subject = " --server "+i.URL, " -s "+i.URL
	}
	fmt.Fprintf(a.Out, "%s %s\n", a.Paint(a.Out, cli.Green, "ready"), i.URL)
	say := func(format string, args ...any) { fmt.Fprintf(a.Err, format+"\n", args...) }
	switch {
	case i.Off:
		say("%s", a.Paint(a.Err, cli.Yellow, "pooling_enabled is false: there are no workers, calls are refused, and published jobs wait."))
	case i.Mode == "mock_adapter":
		say("%s", a.Paint(a.Err, cli.Dim, "Test mode mock_adapter: no Python; answers come from the scenario (--scenario), or are generated."))
	case i.Mode != "":
		say("%s", a.Paint(a.Err, cli.Dim, "Test mode "+i.Mode+": the scenario (--scenario) gives the answers that it has."))
	case i.Engine == "stub":
		say("%s", a.Paint(a.Err, cli.Dim, "The stub engine answers: no DSPy, no language model, values generated from the inputs."))
	case i.Echo != "":
		say("%s", a.Paint(a.Err, cli.Dim, "No language model is configured (--lm): the built-in echo model answers, through real DSPy and HTTP."))
	}
	say("%s", a.Paint(a.Err, cli.Dim, "The broker has one account: a client that may publish can write to any of its subjects. For clients that you do not trust: docs/security.md."))
	if metrics != "" {
		say("metrics %s", metrics)
	}
	if http != "" {
		say("http %s", http)
		say("dashboard %s%s", http, gateway.DashboardPath)
	}
	say("\nIn another terminal:")
	say("  %s call predict question=\"What is the capital of France?\" --session user_123%s", a.Program, server)
	say("  %s stats%s", a.Program, server)
	say("or with the nats command line, or any NATS client:")
	say("  nats%s request dspex.rpc.session.user_123 '{\"command\": \"predict\", \"args\": {\"question\": \"Why?\"}}'", subject)
	if http != "" {
		say("or over HTTP:")
		say("  curl %s/v1/sessions/user_123/jobs --json '{\"command\": \"predict\", \"args\": {\"question\": \"Why?\"}}'", http)
	}
	say("\nCtrl-C ends it.")
}
