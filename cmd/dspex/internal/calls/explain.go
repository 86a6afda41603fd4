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
	return ofJob(a, &cobra.Command{
		Use: "explain JOB", Short: "Explain in a sentence why a job waits, or why it failed",
		Long: `Explain in a sentence why a job waits and what would let it run, or how it ended. Sessions, hosts and breakers need the permissions
of an operator; without them the answer is from the job alone.

Exit status: 0 also for a job that failed. Otherwise as for call.`,
		Example: "  dspex jobs explain order-1 --session user_123",
	}, func(ctx context.Context, c *dspex.Client, ref dspex.JobRef) error {
		job, err := c.GetJob(ctx, ref)
		if err != nil {
			return err
		}
		e := insight.Explain(insight.Look(ctx, c, job))
		if !a.Text() {
			out := map[string]any{"job": job.ID, "session": job.Session, "outcome": job.Status, "attempts": job.Attempts, "why": e.Why, "next": e.Next}
			if job.RetryIn > 0 {
				out["retry_in_ms"] = job.RetryIn.Milliseconds()
			}
			if job.TraceID != "" {
				out["trace_id"] = job.TraceID
			}
			return a.Say(out)
		}
		fmt.Fprintln(a.Out, cli.Word(e.Why))
		if e.Next != "" {
			fmt.Fprintln(a.Out, a.Paint(a.Out, cli.Dim, cli.Word(e.Next)))
		}
		if job.TraceID != "" {
			fmt.Fprintln(a.Out, a.Paint(a.Out, cli.Dim, "trace "+cli.Word(job.TraceID)))
		}
		return nil
	})
}
