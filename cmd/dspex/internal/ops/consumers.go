package ops

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

// Consumers is `dspex consumers`.
func Consumers(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use: "consumers", Short: "List and remove foreign consumers on the queues of jobs",
		Long: `Manage consumers of the streams DSPEX_JOBS and DSPEX_ANON that do not belong to dspex. They take jobs away, or prevent a
partition from being served; the health check names them. Only "dspex consumers remove" removes them.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use: "list", Short: "List the foreign consumers", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				all, err := c.Admin().Consumers(ctx)
				if err != nil {
					return err
				}
				return sayConsumers(a, all)
			})
		},
	}, &cobra.Command{
		Use: "remove STREAM CONSUMER", Short: "Remove a foreign consumer", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				if err := c.Admin().RemoveConsumer(ctx, args[0], args[1]); err != nil {
					return err
				}
				if !a.Text() {
					return a.Say(map[string]any{"stream": args[0], "consumer": args[1]})
				}
				return nil
			})
		},
	})
	return cmd
}

func sayConsumers(a *cli.App, all []dspex.ForeignConsumer) error {
	if !a.Text() {
		return a.Say(map[string]any{"consumers": all})
	}
	table := cli.Columns{App: a, Head: []string{"STREAM", "CONSUMER", "SUBJECTS"}, Right: []bool{false, false, false}}
	var rows [][]string
	for _, f := range all {
		rows = append(rows, []string{cli.Word(f.Stream), cli.Word(f.Consumer), cli.Word(strings.Join(f.Filters, " "))})
	}
	table.Write(a.Out, rows)
	return nil
}
