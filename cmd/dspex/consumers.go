package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
)

func (a *app) consumersCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "consumers", Short: "Look after foreign consumers on the queues of jobs",
		Long: `Look after consumers of the streams DSPEX_JOBS and DSPEX_ANON that are not dspex's. They take jobs away, or keep a
partition from being served; the health check names them. Nothing removes them but "dspex consumers remove".`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use: "list", Short: "List the foreign consumers", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				all, err := c.Admin().Consumers(ctx)
				if err != nil {
					return err
				}
				return a.sayConsumers(all)
			})
		},
	}, &cobra.Command{
		Use: "remove STREAM CONSUMER", Short: "Remove a foreign consumer", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				if err := c.Admin().RemoveConsumer(ctx, args[0], args[1]); err != nil {
					return err
				}
				if !a.text() {
					return a.say(map[string]any{"stream": args[0], "consumer": args[1]})
				}
				return nil
			})
		},
	})
	return cmd
}

func (a *app) sayConsumers(all []dspex.ForeignConsumer) error {
	if !a.text() {
		return a.say(map[string]any{"consumers": all})
	}
	table := columns{app: a, head: []string{"STREAM", "CONSUMER", "SUBJECTS"}, right: []bool{false, false, false}}
	var rows [][]string
	for _, f := range all {
		rows = append(rows, []string{word(f.Stream), word(f.Consumer), word(strings.Join(f.Filters, " "))})
	}
	table.write(a.out, rows)
	return nil
}
