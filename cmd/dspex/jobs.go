package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
)

func (a *app) jobsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "jobs", Short: "Look after jobs by their ids", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.jobsGetCommand(), a.jobsWaitCommand(), a.jobsCancelCommand())
	return cmd
}

func (a *app) jobsGetCommand() *cobra.Command {
	var session string
	cmd := &cobra.Command{
		Use:   "get JOB",
		Short: "Show how far a job is, or how it ended",
		Long:  "Show how far a job is, or how it ended.\n\nExit status: 0 also for a job that failed: being told is what was asked for. Otherwise as for call.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := sessionGiven(cmd); err != nil {
				return err
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				job, err := c.GetJob(ctx, dspex.JobRef{Session: session, ID: args[0]})
				if err != nil {
					return err
				}
				return a.sayJob(job)
			})
		},
	}
	cmd.Flags().StringVar(&session, "session", "", "the job's session; without it the job is anonymous")
	return cmd
}

func (a *app) jobsWaitCommand() *cobra.Command {
	var session string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "wait JOB",
		Short: "Wait for a job and print its result, as call would have",
		Long:  "Wait for a job and print its result, as call would have.\n\n" + exitHelp,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := sessionGiven(cmd); err != nil {
				return err
			}
			if timeout < 0 {
				return usage("--timeout is negative")
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				if timeout > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, timeout)
					defer cancel()
				}
				return a.sayReply(c.Wait(ctx, dspex.JobRef{Session: session, ID: args[0]}))
			})
		},
	}
	cmd.Flags().StringVar(&session, "session", "", "the job's session; without it the job is anonymous")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "how long to wait (default until it ends)")
	return cmd
}

func (a *app) jobsCancelCommand() *cobra.Command {
	var session string
	cmd := &cobra.Command{
		Use:   "cancel JOB",
		Short: "End a job early: queued, waiting for a retry, or running",
		Long: `End a job early and show how it ended. A queued job never runs; a running one is stopped, and its worker is replaced if it
cannot be. A job that has ended before keeps its outcome.

Exit status: 0 if the job has ended, whatever its outcome. Otherwise as for call.`,
		Example: "  dspex jobs cancel order-1 --session user_123",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := sessionGiven(cmd); err != nil {
				return err
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				job, err := c.Cancel(ctx, dspex.JobRef{Session: session, ID: args[0]})
				if err != nil {
					return err
				}
				return a.sayJob(job)
			})
		},
	}
	cmd.Flags().StringVar(&session, "session", "", "the job's session; without it the job is anonymous")
	return cmd
}

func (a *app) sayJob(job dspex.Job) error {
	if !a.text() {
		out := map[string]any{"job": job.ID, "session": job.Session, "outcome": job.Status, "attempts": job.Attempts}
		if job.Reply != nil {
			out["reply"] = job.Reply.Raw
		}
		return a.say(out)
	}
	a.table(a.out, "", []row{{"job", word(job.ID)}, {"session", word(job.Session)}, {"outcome", word(string(job.Status))}, {"attempts", fmt.Sprint(job.Attempts)}})
	var e *dspex.Error
	switch {
	case errors.As(job.Err, &e):
		a.sayFailure(e)
	case job.Err != nil:
		return job.Err
	case job.Reply != nil:
		fmt.Fprintln(a.out)
		a.sayResult(*job.Reply)
	}
	return nil
}
