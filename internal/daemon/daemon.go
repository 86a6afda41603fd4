// Package daemon is what dispatcher and worker-host have in common as programs: flags that are environment variables too,
// the connection to the broker, the log, signals and exit statuses.
//
// It is independent of jobs.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dspex/dspex/internal/link"
	"github.com/dspex/dspex/internal/quorum"
	"github.com/dspex/dspex/internal/stream"
)

const exitHelp = `Every flag can be given by its environment variable or in a file of settings (--config); the flag wins, then the
variable. The password of --user comes from $NATS_PASSWORD or --password-file. SIGTERM stops it gracefully, a second one at once.

Exit status: 0 stopped on request; 1 failed; 2 wrong usage; 3 the broker cannot be reached, or refuses the credentials.`

// Program is one production process.
type Program struct {
	Name  string
	Short string // one line
	Long  string // what else a reader of --help should know
	// Flags declares the program's own flags.
	Flags func(f *pflag.FlagSet)
	// Check reports everything that is wrong with the flags, before anything is started.
	Check func(s *Surroundings) error
	// Run works until ctx ends and returns when all it started has ended.
	Run func(ctx context.Context, s *Surroundings, nc *nats.Conn) error
	// Reload makes what reads the settings again while the program runs; nil: nothing can change then.
	Reload func() Reload
	// Hurries reports that Run heeds Surroundings.Hurry; else a second signal kills the process.
	Hurries bool
	// Health queries the running program of that name whether it serves.
	Health func(ctx context.Context, nc *nats.Conn, name string) error
	// More are subcommands that need no broker.
	More func(s *Surroundings) []*cobra.Command
}

// Main runs the program in this process and returns its exit status. env is os.Getenv.
func Main(p Program, env func(string) string) int {
	if err := Conceal(); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", p.Name, err)
		return ExitFailed
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	defer Tune(env)()
	hurry, forget := onSignals(stop, p.Hurries)
	defer forget()
	s := &Surroundings{Out: os.Stdout, Err: os.Stderr, Env: env, Hurry: hurry}
	if p.Reload != nil {
		hangups := make(chan os.Signal, 1)
		signal.Notify(hangups, syscall.SIGHUP)
		defer signal.Stop(hangups)
		s.Hangup = hangups
	}
	return p.Execute(ctx, s, os.Args[1:])
}

// onSignals stops the program at the first signal; hurry is closed then, or at the second one if the program hurries. The one after that
// kills. drop ends it.
func onSignals(stop func(), hurries bool) (hurry <-chan struct{}, forget func()) {
	hurried, over, signals := make(chan struct{}), make(chan struct{}), make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	await := func() (came bool) {
		select {
		case <-signals:
			return true
		case <-over:
			return false
		}
	}
	var waits sync.WaitGroup
	waits.Go(func() {
		if !await() {
			return
		}
		stop()
		if hurries && !await() {
			return
		}
		signal.Stop(signals) // the next one kills
		close(hurried)
	})
	return hurried, func() {
		signal.Stop(signals)
		close(over)
		waits.Wait()
	}
}

// Hint adds to an error what to do about it.
func Hint(err error, hint string) error {
	return &failure{status: ExitFailed, text: err.Error(), hint: hint}
}

// Execute runs the program with args and returns its exit status.
func (p Program) Execute(ctx context.Context, s *Surroundings, args []string) int {
	var common common
	s.Metrics = NewRegistry()
	began := false
	root := &cobra.Command{
		Use: p.Name, Short: p.Short, Long: p.Short + "\n\n" + p.Long + "\n\n" + exitHelp, Args: cobra.NoArgs, Version: Version(),
		SilenceErrors: true, SilenceUsage: true, CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return s.set(cmd, &common.log) },
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := errors.Join(s.wrong, s.file.Locate(errors.Join(common.check(s.Env), p.Check(s)))); err != nil {
				return err
			}
			began = true
			s.Secrets = common.broker.secrets()
			_, stop, err := common.metrics.Serve(s.Metrics, s.Log)
			if err != nil {
				return err
			}
			defer stop()
			if err := s.trace(common.traces, p.Name, nameOf(cmd)); err != nil {
				return err
			}
			defer s.Traces.Close()
			if p.Reload != nil {
				s.reload = Reloading(s.withCommon(p.Reload, &common.log), func(f *pflag.FlagSet) error { return f.Parse(args) }, s, cmd.Flags())
			}
			return p.serve(cmd.Context(), s, &common.broker)
		},
	}
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	root.SetArgs(args)
	p.Flags(root.Flags())
	common.declare(root.Flags(), root.PersistentFlags())
	root.AddCommand(p.healthCommand(s))
	if p.More != nil {
		root.AddCommand(p.More(s)...)
	}
	for _, c := range root.Commands() {
		run := c.RunE
		c.RunE = func(cmd *cobra.Command, args []string) error {
			began = true
			return run(cmd, args)
		}
	}
	tellVariables(root)
	err := root.ExecuteContext(ctx)
	return s.end(p.Name, err, began)
}

// end reports why the program ended and chooses the status.
func (s *Surroundings) end(name string, err error, began bool) int {
	if err == nil {
		return ExitOK
	}
	status, hint := ExitFailed, ""
	if own, ok := errors.AsType[*failure](err); ok {
		status, hint = own.status, own.hint
	} else if !began {
		status, hint = ExitUsage, name+" --help lists the flags"
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintf(s.Err, "%s: %s\n", name, line)
	}
	if hint != "" {
		fmt.Fprintf(s.Err, "  hint  %s\n", hint)
	}
	return status
}

// Hostname is the machine's name as a name in dspex.
func Hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return strings.ReplaceAll(name, ".", "-")
}

// release is set by the linker in releases.
var release = ""

// Version is that of this program.
func Version() string {
	if release != "" {
		return release
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// healthCommand is for the health checks of containers and supervisors: the same flags and variables, beside the running program.
func (p Program) healthCommand(s *Surroundings) *cobra.Command {
	var broker connection
	var name string
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask the running " + p.Name + " through the broker whether it serves; status 0 if it does",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := broker.check(s.Env); err != nil {
				return err
			}
			options, err := broker.options()
			if err != nil {
				return err
			}
			nc, err := nats.Connect(broker.server, append(options, nats.Name("dspex health"), nats.Timeout(healthTimeout))...)
			if err != nil {
				return broker.refused(err)
			}
			defer nc.Close()
			ctx, cancel := context.WithTimeout(cmd.Context(), healthTimeout)
			defer cancel()
			if err := p.Health(ctx, nc, name); err != nil {
				return fmt.Errorf("no %s named %q serves: %w", p.Name, name, err)
			}
			_, err = fmt.Fprintf(s.Out, "%s serves\n", name)
			return err
		},
	}
	broker.declare(cmd.Flags())
	cmd.Flags().StringVar(&name, "name", Hostname(), "name of the "+p.Name)
	return cmd
}

// serve connects and runs the program. Credentials that are refused at the start end it; refused later they may be in the
// middle of a rotation: it goes on trying, with the content that the files have then. A connection that ends permanently ends the program.
func (p Program) serve(asked context.Context, s *Surroundings, c *connection) error {
	ctx, cancel := context.WithCancelCause(asked)
	defer cancel(nil)
	own, err := c.options()
	if err != nil {
		return err
	}
	nc, err := nats.Connect(c.server, append(append(own, link.ConnectOptions("dspex "+p.Name)...),

		nats.IgnoreAuthErrorAbort(), nats.SetCustomDialer(&gatherDialer{net.Dialer{Timeout: dialTimeout}}),
		nats.ErrorHandler(brokerErrors(s.Log)),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil && ctx.Err() == nil { // without an error it was closed here
				s.Log.Warn("broker_away", "error", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) { s.Log.Info("broker_back", "server", nc.ConnectedUrlRedacted()) }),
		nats.ClosedHandler(func(nc *nats.Conn) {
			cancel(c.refused(fmt.Errorf("the connection ended permanently: %w", nc.LastError())))
		}))...)
	if err != nil {
		return c.refused(err)
	}
	defer nc.Close()
	var keeper sync.WaitGroup
	keeper.Go(func() { quorum.New(nc, stream.CheckQuorum, s.Log).Run(ctx) })
	keeper.Go(func() { s.followHangups(ctx) })
	feeding, stop := context.WithCancel(context.WithoutCancel(ctx)) // until what it does at its end is logged
	keeper.Go(func() {
		if err := s.feed.Serve(feeding, nc); err != nil {
			s.Log.Error("log_not_served", "error", err)
		}
	})
	defer keeper.Wait()
	defer stop()
	defer cancel(nil)
	err = p.Run(ctx, s, nc)
	if asked.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // it had to end while it waited for something
	}
	if cause := context.Cause(ctx); err == nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}
