package gatewaycmd

import (
	"context"
	"io"
	"log/slog"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
	"github.com/dspex/dspex/internal/gateway"
	"github.com/dspex/dspex/internal/gateway/mcptools"
)

// MCP is `dspex mcp`.
func MCP(a *cli.App) *cobra.Command {
	var session string
	cmd := &cobra.Command{
		Use:   "mcp",
		Short: "Serve programs and commands as tools of the Model Context Protocol, on standard input and output",
		Long: `Serve programs and commands as tools of the Model Context Protocol, on standard input and output: a program that talks to a
language model starts it. It runs until its input ends. "dspex gateway" serves the same over HTTP, at /mcp. docs/http.md has examples.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log := slog.New(slog.NewTextHandler(a.Err, nil))
			client, err := a.Connect(cmd.Context(), "mcp", func(err error) { log.Error("broker_error", "error", err) })
			if err != nil {
				return err
			}
			defer client.Close()
			tools := mcptools.Access{Client: client, Session: session, Left: func(ctx context.Context, job dspex.JobRef) { gateway.Abandon(ctx, client, job) }}
			return mcptools.NewServer(tools, "1").Run(cmd.Context(), &mcp.IOTransport{Reader: io.NopCloser(a.In), Writer: kept{a.Out}})
		},
	}
	cmd.Flags().StringVar(&session, "session", "", "session of calls that name none (default: they have no state)")
	return cmd
}

// kept is a writer that is not ours to close.
type kept struct{ io.Writer }

// Close does nothing.
func (kept) Close() error { return nil }
