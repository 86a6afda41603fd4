package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
)

func (a *app) healthCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "health",
		Short: "Measure the pool's health now",
		Long:  "Measure the pool's health now: healthy, degraded (it serves, but something is missing), or an error that says why not.\n\n" + exitHelp,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				health, err := c.Health(ctx)
				if err != nil {
					return err
				}
				if !a.text() {
					return a.say(health.Raw)
				}
				a.table(a.out, "", healthRows(health))
				return nil
			})
		},
	}
}

func healthRows(h dspex.Health) []row {
	rows := []row{{"status", word(string(h.Status))}}
	for _, reason := range h.Reasons {
		rows = append(rows, row{"reason", word(reason)})
	}
	if !h.Accounts {
		rows = append(rows, row{"note", "clients share the service's account: one that may publish can write to any subject (docs/security.md)"})
	}
	return append(rows, statRows(h.Stats)...)
}
