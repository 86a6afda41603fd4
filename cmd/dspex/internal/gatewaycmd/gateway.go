// Package gatewaycmd has `dspex gateway`.
package gatewaycmd

import (
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex/cmd/dspex/internal/cli"
	"github.com/dspex/dspex/internal/daemon"
	"github.com/dspex/dspex/internal/gateway"
)

// Command is `dspex gateway`.
func Command(a *cli.App) *cobra.Command {
	var cfg gateway.Config
	cmd := &cobra.Command{
		Use:   "gateway",
		Short: "Serve HTTP for those who have no NATS: jobs, sessions, health and numbers, described by /openapi.json",
		Long: `Serve HTTP for those who have no NATS: run commands in sessions and without, store jobs and fetch their outcomes, cancel
them, read partial output as it comes, health and numbers. /openapi.json describes it all; docs/http.md has examples.

It prints one line "ready URL" when it listens, and runs until it is interrupted. It connects to the broker as every command
does, and may do what its user may.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cfg.Check(); err != nil {
				return cli.Usage("%v", err)
			}
			log := slog.New(slog.NewTextHandler(a.Err, nil))
			client, err := a.Connect(cmd.Context(), "gateway", func(err error) { log.Error("broker_error", "error", err) })
			if err != nil {
				return err
			}
			defer client.Close()
			registry := daemon.NewRegistry()
			g, err := gateway.New(client, cfg, registry)
			if err != nil {
				return err
			}
			l, err := cfg.Open()
			if err != nil {
				return &cli.Failure{Status: daemon.ExitFailed, Text: err.Error(), Hint: "--listen names another address; port 0 takes a free one"}
			}
			fmt.Fprintf(a.Out, "%s %s\n", a.Paint(a.Out, cli.Green, "ready"), cfg.URL(l))
			return g.Serve(cmd.Context(), l, registry, log)
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.Listen, "listen", gateway.DefaultListen, "HOST:PORT to listen on; port 0 takes a free one")
	f.Int64Var(&cfg.MaxBody, "max-body", gateway.DefaultMaxBody, "bytes that the body of a request may have")
	f.IntVar(&cfg.MaxRequests, "max-requests", gateway.DefaultMaxRequests, "requests that are served at once; more are refused with 429")
	f.StringVar(&cfg.Cert, "tls-cert", "", "file of the certificate, for HTTPS")
	f.StringVar(&cfg.Key, "tls-key", "", "file of the certificate's key")
	return cmd
}
