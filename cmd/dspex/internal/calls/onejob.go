package calls

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

// ofJob completes a command about one job, which its argument and --session name.
func ofJob(a *cli.App, cmd *cobra.Command, run func(context.Context, *dspex.Client, dspex.JobRef) error) *cobra.Command {
	var session string
	cmd.Args = cobra.ExactArgs(1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := cli.SessionGiven(cmd); err != nil {
			return err
		}
		return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
			return run(ctx, c, dspex.JobRef{Session: session, ID: args[0]})
		})
	}
	cmd.Flags().StringVar(&session, "session", "", "the job's session; without it the job is anonymous")
	return cmd
}
