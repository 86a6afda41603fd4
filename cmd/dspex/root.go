package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/daemon"
)

// Exit statuses beside those of package daemon, as the help tells them.
const (
	exitTimeout     = 4
	exitInterrupted = 130
)

const exitHelp = `Exit status: 0 done; 1 the job failed or was refused; 2 wrong usage; 3 the broker or the pool cannot be reached;
4 no reply in time; 130 interrupted.`

const variablesHelp = `Who you are at the broker: $NATS_USER with $NATS_PASSWORD, $NATS_CREDS, $NATS_NKEY, $NATS_CERT with $NATS_KEY, $NATS_CA and
$NATS_INBOX_PREFIX, or a context, which wins.`

const defaultServer = "nats://127.0.0.1:4222"

// app is one run of the program: its streams, its surroundings and the global flags.
type app struct {
	program  string // how to call this program, in examples
	in       io.Reader
	out, err io.Writer
	env      func(string) string

	server, context, output string
	serverGiven             bool
	began                   bool // a subcommand runs: what was typed made sense
}

// failure ends the program with a status of its own; its text is for people.
type failure struct {
	status int
	text   string
	hint   string
}

func (f *failure) Error() string { return f.text }

func usage(format string, args ...any) error {
	return &failure{status: daemon.ExitUsage, text: fmt.Sprintf(format, args...)}
}

// quiet ends the program with the status of another, which has said what there was to say.
type quiet struct{ status int }

func (q *quiet) Error() string { return fmt.Sprintf("it ended with status %d", q.status) }

// errSilent ends the program with status 1 after all has been said.
var errSilent = errors.New("said already")

func (a *app) execute(ctx context.Context, args []string) int {
	root := a.rootCommand()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return daemon.ExitOK
	}
	if !a.began {
		err = usage("%v", err)
	}
	status := exitStatus(ctx, err)
	a.sayError(err, status)
	return status
}

func exitStatus(ctx context.Context, err error) int {
	var own *failure
	var other *quiet
	var e *dspex.Error
	switch {
	case errors.As(err, &own):
		return own.status
	case errors.As(err, &other):
		return other.status
	case ctx.Err() != nil:
		return exitInterrupted
	case errors.As(err, &e):
		switch e.Code {
		case dspex.CodeBroker, dspex.CodePoolUnavailable:
			return daemon.ExitUnreachable
		case dspex.CodeClientTimeout:
			return exitTimeout
		}
		if errors.Is(e, dspex.ErrInvalid) {
			return daemon.ExitUsage
		}
	}
	return daemon.ExitFailed
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "dspex",
		Short: "A durable, session-affine pool of Python workers that run DSPy",
		Long:  "dspex calls and looks after jobs of a durable, session-affine pool of Python workers that run DSPy, over NATS.\n\n" + variablesHelp + "\n\n" + exitHelp,
		Args:  cobra.NoArgs,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			a.serverGiven = cmd.Flags().Changed("server")
			if a.output != "text" && a.output != "json" && a.output != "jsonl" {
				return fmt.Errorf("--output must be text, json or jsonl, got %q", a.output)
			}
			a.began = true
			return nil
		},
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceErrors: true, SilenceUsage: true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	flags := root.PersistentFlags()
	flags.StringVar(&a.server, "server", "", "URL of NATS (default $NATS_URL, else "+defaultServer+")")
	flags.StringVar(&a.context, "context", "", "context of the nats command line with URL and credentials (default $NATS_CONTEXT)")
	flags.StringVarP(&a.output, "output", "o", "text", "text, json or jsonl (one line each)")
	root.AddCommand(a.callCommand(), a.jobsCommand(), a.programsCommand(), a.dlqCommand(), a.sessionsCommand(), a.hostsCommand(), a.consumersCommand(), a.partitionsCommand(), a.tenantsCommand(), a.breakersCommand(), a.auditCommand(), a.backupCommand(), a.restoreCommand(), a.healthCommand(), a.statsCommand(), a.benchCommand(),
		a.envCommand(), withoutOutput(withoutBroker(a.echoLMCommand())), withoutOutput(withoutBroker(a.devCommand())), withoutOutput(withoutBroker(a.demoCommand())), withoutBroker(a.versionCommand()))
	return root
}

// withClient connects, does one thing and closes the connection. What the broker denies ends it at once: nobody would answer.
func (a *app) withClient(ctx context.Context, do func(context.Context, *dspex.Client) error) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	c, err := a.connect(ctx, func(err error) {
		if !errors.Is(err, nats.ErrPermissionViolation) {
			fmt.Fprintln(a.err, "dspex:", err)
			return
		}
		end(&failure{status: daemon.ExitFailed, text: "permission denied by the broker: " + err.Error(), hint: "another user may, see docs/operations.md, Rights"})
	})
	if err != nil {
		return err
	}
	defer c.Close()
	err = do(ctx, c)
	if denied, ok := errors.AsType[*failure](context.Cause(ctx)); ok && err != nil {
		return denied
	}
	return err
}

// connect opens the connection that the global flags ask for; trouble receives errors that the broker sends outside of its replies.
func (a *app) connect(ctx context.Context, trouble func(error)) (*dspex.Client, error) {
	address, options, err := a.target()
	if err != nil {
		return nil, err
	}
	options = append(options, nats.Name("dspex command line"), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { trouble(err) }))
	c, err := dspex.Connect(ctx, address, dspex.WithNATS(options...))
	if e, ok := errors.AsType[*dspex.Error](err); ok {
		e.Path = daemon.WithoutPassword(address)
	}
	return c, err
}

// target is where to connect and with what.
func (a *app) target() (string, []nats.Option, error) {
	name := a.context
	if name == "" && !a.serverGiven {
		name = a.env("NATS_CONTEXT")
	}
	address := a.server
	if name == "" {
		options, err := a.surrounding().options(a.env)
		return firstOf(address, a.env("NATS_URL"), defaultServer), options, err
	}
	c, err := readContext(a.env, name)
	if err != nil {
		return "", nil, err
	}
	options, err := c.options(a.env)
	return firstOf(address, c.URL, defaultServer), options, err
}

func firstOf(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}
