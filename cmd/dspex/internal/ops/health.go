// Package ops has the commands of operators.
package ops

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

// Health is `dspex health`.
func Health(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:   "health",
		Short: "Measure the pool's health now",
		Long: "Measure the pool's health now: healthy, degraded (it serves, but something is missing), or an error with the reason.\n\n" +
			"Exit status: 0 healthy; 1 degraded, or not able to serve. Otherwise as for call.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				health, err := c.Health(ctx)
				if err != nil {
					return err
				}
				if a.Text() {
					rows := healthRows(health)
					rows[0][1] = a.Paint(a.Out, colourOf(health.Status), rows[0][1])
					a.Table(a.Out, "", rows)
				} else if err := a.Say(health.Raw); err != nil {
					return err
				}
				if health.Status != dspex.HealthHealthy {
					return cli.ErrSilent
				}
				return nil
			})
		},
	}
}

func healthRows(h dspex.Health) []cli.Row {
	rows := []cli.Row{{"status", cli.Word(string(h.Status))}}
	for _, reason := range h.Reasons {
		rows = append(rows, cli.Row{"reason", cli.Word(reason)})
	}
	if !h.Accounts {
		rows = append(rows, cli.Row{"note", "clients share the service's account: one that may publish can write to any subject (docs/security.md)"})
	}
	return append(rows, statRows(h.Stats)...)
}

func colourOf(s dspex.HealthStatus) string {
	if s == dspex.HealthHealthy {
		return cli.Green
	}
	return cli.Yellow
}
