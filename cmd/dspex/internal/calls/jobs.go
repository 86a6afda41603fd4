package calls

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

// Jobs is `dspex jobs`.
func Jobs(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use: "jobs", Short: "List, show, await, cancel and submit jobs", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(cli.Watched(a, jobsListCommand(a)), cli.Watched(a, jobsGetCommand(a)), jobsExplainCommand(a), jobsWaitCommand(a), jobsCancelCommand(a), jobsSubmitCommand(a))
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
		note := watch(ctx, a, c, job)
		defer note.stop()
		reply, err := c.Wait(ctx, job)
		note.stop()
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
		if job.RetryIn > 0 {
			out["retry_in_ms"] = job.RetryIn.Milliseconds()
		}
		if job.TraceID != "" {
			out["trace_id"] = job.TraceID
		}
		if job.Reply != nil {
			out["reply"] = job.Reply.Raw
		}
		return a.Say(out)
	}
	a.Table(a.Out, "", []cli.Row{{"job", cli.Word(job.ID)}, {"session", cli.Word(job.Session)}, {"outcome", cli.Word(string(job.Status))}, {"attempts", fmt.Sprint(job.Attempts)}, {"trace", cli.Word(job.TraceID)}})
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

// mostSubmitted is how many jobs `dspex jobs submit` takes.
const mostSubmitted = 1000

func jobsSubmitCommand(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:   "submit FILE",
		Short: "Submit up to 1,000 jobs, all or none",
		Long: `Submit up to 1,000 jobs, all or none, and print their ids. The file has one JSON object per line:
{"job": "order-1", "session": "user_123", "command": "predict", "args": {"question": "..."}}; - is standard input. The keys session,
args and options may be left out, but either all jobs have a session or none has. A job without one may have a lane. The job's id is its idempotency key:
when you do not know whether the file was submitted, submit it again.

For more jobs, or a file of results, use batch submit.

Exit status: 0 all jobs are stored; 1 none is. Otherwise as for call.`,
		Example: "  dspex jobs submit orders.jsonl",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			in := a.In
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return cli.Usage("%v", err)
				}
				defer func() { _ = f.Close() }()
				in = f
			}
			jobs, err := someLines(in)
			if err != nil {
				return err
			}
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error { return submitAll(ctx, a, c, jobs) })
		},
	}
}

// someLines are the jobs of a file, which may not have more than mostSubmitted.
func someLines(in io.Reader) (jobs []dspex.NewJob, err error) {
	for job, err := range linesOf(in) {
		if err != nil {
			return nil, err
		}
		if len(jobs) == mostSubmitted {
			return nil, &cli.Failure{Status: 1, Text: fmt.Sprintf("the file must have 1 to %d jobs, got more", mostSubmitted), Hint: "`dspex batch submit` takes up to 1,000,000"}
		}
		jobs = append(jobs, dspex.NewJob{Raw: job.Raw})
	}
	if len(jobs) == 0 {
		return nil, &cli.Failure{Status: 1, Text: fmt.Sprintf("the file must have 1 to %d jobs, got none", mostSubmitted)}
	}
	return jobs, nil
}

// refused is what becomes of jobs of which n are invalid.
func refused(n int) string {
	if n == 1 {
		return "1 job is invalid: nothing was submitted"
	}
	return fmt.Sprintf("%d jobs are invalid: nothing was submitted", n)
}

func submitAll(ctx context.Context, a *cli.App, c *dspex.Client, jobs []dspex.NewJob) error {
	accepted, err := c.SubmitAll(ctx, jobs)
	if bad, is := errors.AsType[*dspex.InvalidJobsError](err); is {
		sayInvalid(a, bad.Invalid, &places{})
		return &cli.Failure{Status: 1, Text: refused(len(bad.Invalid))}
	}
	if err != nil {
		return err
	}
	if !a.Text() {
		ids := make([]string, len(accepted))
		for i, job := range accepted {
			ids[i] = job.ID
		}
		return a.Say(map[string]any{"ok": true, "jobs": ids})
	}
	for _, job := range accepted {
		fmt.Fprintln(a.Out, cli.Word(job.ID))
	}
	fmt.Fprintln(a.Err, a.Paint(a.Err, cli.Dim, "accepted; `dspex jobs wait JOB --session SESSION` waits for an outcome"))
	return nil
}
