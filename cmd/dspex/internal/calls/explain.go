package calls

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
	"github.com/dspex/dspex/internal/insight"
)

func jobsExplainCommand(a *cli.App) *cobra.Command {
	var session string
	cmd := &cobra.Command{
		Use: "explain JOB", Short: "Explain in a sentence why a job waits, or why it failed",
		Long: `Explain in a sentence why a job waits and what would let it run, or how it ended. Sessions, hosts and breakers need the permissions
of an operator; without them the answer is from the job alone.

Exit status: 0 also for a job that failed. Otherwise as for call.`,
		Example: "  dspex jobs explain order-1 --session user_123",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := cli.SessionGiven(cmd); err != nil {
				return err
			}
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				job, err := c.GetJob(ctx, dspex.JobRef{Session: session, ID: args[0]})
				if err != nil {
					return err
				}
				e := insight.Explain(insight.Look(ctx, c, job))
				if !a.Text() {
					return a.Say(map[string]any{"job": job.ID, "session": job.Session, "outcome": job.Status, "attempts": job.Attempts, "why": e.Why, "next": e.Next})
				}
				fmt.Fprintln(a.Out, cli.Word(e.Why))
				if e.Next != "" {
					fmt.Fprintln(a.Out, a.Paint(a.Out, cli.Dim, cli.Word(e.Next)))
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&session, "session", "", "the job's session; without it the job is anonymous")
	return cmd
}
