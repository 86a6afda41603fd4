// Package gatewaycmd has `dspex gateway` and `dspex tokens`.
package gatewaycmd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
	"github.com/dspex/dspex/internal/config"
	"github.com/dspex/dspex/internal/daemon"
	"github.com/dspex/dspex/internal/gateway"
	"github.com/dspex/dspex/internal/logfeed"
	"github.com/dspex/dspex/internal/tokens"
	"github.com/dspex/dspex/internal/tracing"
)

// Command is `dspex gateway`.
func Command(a *cli.App) *cobra.Command {
	var cfg gateway.Config
	var tenants []string
	var traces tracing.Config
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	cmd := &cobra.Command{
		Use:   "gateway",
		Short: "Serve HTTP for clients without NATS: jobs, sessions, health and numbers, described by /openapi.json",
		Long: `Serve HTTP for clients without NATS: run commands in sessions and without, store jobs and fetch their outcomes, cancel
them, read partial output as it comes, health and numbers. /openapi.json describes it all; docs/http.md has examples. Clients of
OpenAI find models, chat completions and responses under /v1.

Its settings may stand in the section gateway of the file of settings, which also has the broker's address.

It prints one line "ready URL" when it listens, and runs until it is interrupted. It connects to the broker as every command
does, and may do what its user may. Without --tokens it listens on the loopback interface only, and whoever is there is that user.
With --tokens ("dspex tokens" makes the file) each request needs one, and the tokens of a tenant use its --tenant connection.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			file, wrong := config.Set(own, a.Env, ".")
			if cfg.MaxBody == 0 || cfg.MaxRequests == 0 { // the zero value means the default there
				wrong = errors.Join(wrong, errors.New("--max-body and --max-requests must be more than 0"))
			}
			found := errors.Join(cfg.Check(), checkTenants(tenants, cfg.Tokens), traces.Complete(a.Env))
			if err := errors.Join(wrong, file.Locate(found)); err != nil {
				return cli.Usage("%v", err)
			}
			for _, w := range file.Warnings {
				fmt.Fprintln(a.Err, w)
			}
			from := *a
			from.Env = brokerOf(file, a.Env)
			defer daemon.Tune(a.Env)()
			return serve(cmd.Context(), &from, cfg, tenants, traces)
		},
	}
	f := own
	f.StringVar(&cfg.Listen, "listen", gateway.DefaultListen, "HOST:PORT to listen on; port 0 takes a free one")
	f.Int64Var(&cfg.MaxBody, "max-body", gateway.DefaultMaxBody, "largest body of a request in bytes")
	f.IntVar(&cfg.MaxRequests, "max-requests", gateway.DefaultMaxRequests, "concurrent requests; more are refused with 429")
	f.StringVar(&cfg.Tokens, "tokens", "", "file of the tokens that requests need; read again when it changes")
	f.StringSliceVar(&tenants, "tenant", nil, "NAME=CONTEXT: tokens of the tenant use this context of the nats command line; repeated, or separated by commas")
	f.StringSliceVar(&cfg.Models, "models", nil, "LM profile of the hosts that /v1/models shows, beside programs; repeated, or separated by commas")
	f.StringVar(&cfg.Cert, "tls-cert", "", "file of the certificate, for HTTPS")
	f.StringVar(&cfg.Key, "tls-key", "", "file of the certificate's key")
	traces.RequestFlags(f)
	f.StringVar(&cfg.TraceURL, "trace-url", "", gateway.TraceURLHelp)
	config.Flags(f, false)
	config.InSection(f, config.Section, config.Shared...)
	config.TellVariables(f)
	cmd.Flags().AddFlagSet(f)
	return cmd
}

// brokerOf is env, with what the file has of the broker's address and credentials. A password is in a file of its own there.
func brokerOf(file *config.File, env func(string) string) func(string) string {
	of := file.Env(env)
	return func(name string) string {
		if text := env(name); text != "" || !strings.HasPrefix(name, "NATS_") {
			return text
		}
		if path := of("NATS_PASSWORD_FILE"); name == "NATS_PASSWORD" && path != "" {
			text, err := os.ReadFile(path)
			if err != nil {
				return "" // the broker refuses it
			}
			return strings.TrimRight(string(text), "\r\n")
		}
		return of(name)
	}
}

func checkTenants(named []string, file string) error {
	seen := map[string]bool{tokens.Default: true}
	for _, t := range named {
		name, context, ok := strings.Cut(t, "=")
		if !ok || name == "" || context == "" || seen[name] {
			return fmt.Errorf("--tenant must be NAME=CONTEXT, each name once and not %s, the gateway's own tenant; got %q", tokens.Default, t)
		}
		seen[name] = true
	}
	if len(named) > 0 && file == "" {
		return errors.New("--tenant needs --tokens, which give the tenant of a request")
	}
	return nil
}

func serve(ctx context.Context, a *cli.App, cfg gateway.Config, tenants []string, traces tracing.Config) error {
	feed := logfeed.New("gateway", daemon.Hostname())
	log := slog.New(feed.Handler(slog.NewTextHandler(a.Err, nil)))
	cfg.Log, cfg.Tenants = log, map[string]*dspex.Client{}
	trouble := func(err error) { log.Error("broker_error", "error", err) }
	lasting := dspex.WithNATS(nats.IgnoreAuthErrorAbort(), // refused credentials may be in the middle of a rotation
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil { // without an error it was closed here
				log.Warn("broker_away", "error", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) { log.Info("broker_back", "server", nc.ConnectedUrlRedacted()) }))
	client, err := a.Connect(ctx, "gateway", trouble, dspex.WithPropagator(gateway.Traceparent), lasting)
	if err != nil {
		return err
	}
	defer client.Close()
	for _, t := range tenants {
		name, context, _ := strings.Cut(t, "=")
		of := *a
		of.Server, of.Context = "", context
		c, err := of.Connect(ctx, "gateway", trouble, dspex.WithPropagator(gateway.Traceparent), lasting)
		if err != nil {
			return err
		}
		defer c.Close()
		cfg.Tenants[name] = c
	}
	if cfg.Traces, err = tracing.Open(traces, a.Env, "gateway", rand.Text(), log); err != nil {
		return cli.Usage("%v", err)
	}
	defer cfg.Traces.Close()
	registry := daemon.NewRegistry()
	registry.MustRegister(cfg.Traces.Metrics()...)
	g, err := gateway.New(client, cfg, registry)
	if err != nil {
		return cli.Usage("%v", err)
	}
	l, err := cfg.Open()
	if err != nil {
		return &cli.Failure{Status: daemon.ExitFailed, Text: err.Error(), Hint: "use another address with --listen; port 0 takes a free one"}
	}
	if cfg.Tokens != "" && cfg.Cert == "" {
		log.Warn("tokens_unencrypted", "hint", "use --tls-cert and --tls-key, or a proxy in front with HTTPS")
	}
	defer showLog(ctx, a, feed, log)()
	fmt.Fprintf(a.Out, "%s %s\n", a.Paint(a.Out, cli.Green, "ready"), cfg.URL(l))
	return g.Serve(ctx, l, registry, log)
}
