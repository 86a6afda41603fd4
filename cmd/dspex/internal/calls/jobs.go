package calls

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

// Jobs is `dspex jobs`.
func Jobs(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use: "jobs", Short: "List, show, await and cancel jobs", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(cli.Watched(a, jobsListCommand(a)), cli.Watched(a, jobsGetCommand(a)), jobsExplainCommand(a), jobsWaitCommand(a), jobsCancelCommand(a))
	return cmd
}

func jobsGetCommand(a *cli.App) *cobra.Command {
	return ofJob(a, &cobra.Command{
		Use:   "get JOB",
		Short: "Show the state of a job, or its outcome",
		Long:  "Show the state of a job, or its outcome.\n\nExit status: 0 even if the job failed. Otherwise as for call.",
	}, func(ctx context.Context, c *dspex.Client, ref dspex.JobRef) error {
		job, err := c.GetJob(ctx, ref)
		if err != nil {
			return err
		}
		return sayJob(a, job)
	})
}

func jobsWaitCommand(a *cli.App) *cobra.Command {
	var timeout time.Duration
	cmd := ofJob(a, &cobra.Command{
		Use:   "wait JOB",
		Short: "Wait for a job and print its result, like call",
		Long:  "Wait for a job and print its result, like call.\n\n" + cli.ExitHelp,
		PreRunE: func(*cobra.Command, []string) error {
			if timeout < 0 {
				return cli.Usage("--timeout must not be negative")
			}
			return nil
		},
	}, func(ctx context.Context, c *dspex.Client, job dspex.JobRef) error {
		if timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, timeout)
			defer cancel()
		}
		if _, err := c.GetJob(ctx, job); unknown(err) { // Wait would wait for it to come
			return err
		}
		said := watch(ctx, a, c, job)
		defer said.stop()
		reply, err := c.Wait(ctx, job)
		said.stop()
		return sayReply(a, reply, err)
	})
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "how long to wait (default until it ends)")
	return cmd
}

func jobsCancelCommand(a *cli.App) *cobra.Command {
	return ofJob(a, &cobra.Command{
		Use:   "cancel JOB",
		Short: "Cancel a job: queued, waiting for a retry, or running",
		Long: `Cancel a job and show its outcome. A queued job never runs; a running one is stopped, and its worker is replaced if it
does not stop. A job that has already ended keeps its outcome.

Exit status: 0 if the job has ended, whatever its outcome. Otherwise as for call.`,
		Example: "  dspex jobs cancel order-1 --session user_123",
	}, func(ctx context.Context, c *dspex.Client, ref dspex.JobRef) error {
		job, err := c.Cancel(ctx, ref)
		if err != nil {
			return err
		}
		return sayJob(a, job)
	})
}

func sayJob(a *cli.App, job dspex.Job) error {
	if !a.Text() {
		out := map[string]any{"job": job.ID, "session": job.Session, "outcome": job.Status, "attempts": job.Attempts}
		if job.Reply != nil {
			out["reply"] = job.Reply.Raw
		}
		return a.Say(out)
	}
	a.Table(a.Out, "", []cli.Row{{"job", cli.Word(job.ID)}, {"session", cli.Word(job.Session)}, {"outcome", cli.Word(string(job.Status))}, {"attempts", fmt.Sprint(job.Attempts)}})
	var e *dspex.Error
	switch {
	case errors.As(job.Err, &e):
		a.SayFailure(e)
	case job.Err != nil:
		return job.Err
	case job.Reply != nil:
		fmt.Fprintln(a.Out)
		sayResult(a, *job.Reply)
	}
	return nil
}

// unknown reports whether the error means that there is no such job.
func unknown(err error) bool {
	e, ok := errors.AsType[*dspex.Error](err)
	return ok && e.Code == dspex.CodeJobUnknown
}
