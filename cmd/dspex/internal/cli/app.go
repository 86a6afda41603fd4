// Package cli is what all commands of dspex share: streams, global flags, the connection, exit statuses, tables and colours.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/daemon"
)

// Exit statuses beside those of package daemon, as in the help text.
const (
	ExitTimeout     = 4
	ExitInterrupted = 130
)

// ExitHelp is the help text about exit statuses.
const ExitHelp = `Exit status: 0 done; 1 the job failed or was refused; 2 wrong usage; 3 the broker or the pool cannot be reached;
4 no reply in time; 130 interrupted.`

// DefaultServer is where a broker is looked for unless an address is given.
const DefaultServer = "nats://127.0.0.1:4222"

// App is one run of the program: its streams, its surroundings and the global flags.
type App struct {
	Program  string // how to call this program, in examples
	In       io.Reader
	Out, Err io.Writer
	Env      func(string) string

	Server, Context, Output string
	ServerGiven             bool
	Began                   bool // a subcommand runs: what was typed made sense
}

// Quiet ends the program with the status of another, which has reported the error.
type Quiet struct{ Status int }

func (q *Quiet) Error() string { return fmt.Sprintf("it ended with status %d", q.Status) }

// ErrSilent ends the program with status 1 after the error was reported.
var ErrSilent = errors.New("reported already")

// ExitStatus is the exit status for an error.
func ExitStatus(ctx context.Context, err error) int {
	var own *Failure
	var other *Quiet
	var e *dspex.Error
	switch {
	case errors.As(err, &own):
		return own.Status
	case errors.As(err, &other):
		return other.Status
	case ctx.Err() != nil:
		return ExitInterrupted
	case errors.As(err, &e):
		switch e.Code {
		case dspex.CodeBroker, dspex.CodePoolUnavailable:
			return daemon.ExitUnreachable
		case dspex.CodeClientTimeout:
			return ExitTimeout
		}
		if errors.Is(e, dspex.ErrInvalid) {
			return daemon.ExitUsage
		}
	}
	return daemon.ExitFailed
}

// WithClient connects, does one thing and closes the connection. What the broker denies ends it at once: there would be no answer.
func (a *App) WithClient(ctx context.Context, do func(context.Context, *dspex.Client) error) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	c, err := a.Connect(ctx, "command line", func(err error) {
		if !errors.Is(err, nats.ErrPermissionViolation) {
			fmt.Fprintln(a.Err, "dspex:", err)
			return
		}
		end(&Failure{Status: daemon.ExitFailed, Text: "permission denied by the broker: " + err.Error(), Hint: "use a user with the permission: docs/operations.md, Permissions"})
	})
	if err != nil {
		return err
	}
	defer c.Close()
	err = do(ctx, c)
	if denied, ok := errors.AsType[*Failure](context.Cause(ctx)); ok && err != nil {
		return denied
	}
	return err
}

// Connect opens the connection that the global flags request, under a name that the broker's list shows; trouble receives errors that
// the broker sends outside of its replies.
func (a *App) Connect(ctx context.Context, name string, trouble func(error), of ...dspex.ConnectOption) (*dspex.Client, error) {
	address, options, err := a.Target()
	if err != nil {
		return nil, err
	}
	options = append(options, nats.Name("dspex "+name), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { trouble(err) }))
	c, err := dspex.Connect(ctx, address, append(of, dspex.WithNATS(options...))...)
	if e, ok := errors.AsType[*dspex.Error](err); ok {
		e.Path = daemon.WithoutPassword(address)
	}
	return c, err
}

// Target is where to connect and with what.
func (a *App) Target() (string, []nats.Option, error) {
	name := a.Context
	if name == "" && !a.ServerGiven {
		name = a.Env("NATS_CONTEXT")
	}
	address := a.Server
	if name == "" {
		options, err := a.surrounding().options(a.Env)
		return FirstOf(address, a.Env("NATS_URL"), DefaultServer), options, err
	}
	c, err := readContext(a.Env, name)
	if err != nil {
		return "", nil, err
	}
	options, err := c.options(a.Env)
	return FirstOf(address, c.URL, DefaultServer), options, err
}

// FirstOf is the first text that is not empty.
func FirstOf(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}

// surrounding is what the variables of the nats command line set when no context is named.
func (a *App) surrounding() *natsContext {
	return &natsContext{
		name: "of the environment", again: func() (string, error) { return a.Env("NATS_PASSWORD"), nil },
		User: a.Env("NATS_USER"), Password: a.Env("NATS_PASSWORD"), Creds: a.Env("NATS_CREDS"), NKey: a.Env("NATS_NKEY"),
		Cert: a.Env("NATS_CERT"), Key: a.Env("NATS_KEY"), CA: a.Env("NATS_CA"), InboxPrefix: a.Env("NATS_INBOX_PREFIX"),
	}
}
