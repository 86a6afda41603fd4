package calls

import (
	"context"
	"errors"
	"regexp"

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
			return ofWhichQueue(dspex.JobRef{Session: session, ID: args[0]}, run(ctx, c, dspex.JobRef{Session: session, ID: args[0]}))
		})
	}
	cmd.Flags().StringVar(&session, "session", "", "the job's session; without it the job is anonymous")
	return cmd
}

// counted is the id that a job without one gets: the number of its message.
var counted = regexp.MustCompile(`^q[0-9]+$`)

// ofWhichQueue says of a counted id that is unknown that jobs of sessions and anonymous jobs are counted apart.
func ofWhichQueue(job dspex.JobRef, err error) error {
	e, ok := errors.AsType[*dspex.Error](err)
	if !ok || e.Code != dspex.CodeJobUnknown {
		return err
	}
	failure := *e
	if !counted.MatchString(job.ID) {
		if job.Session == "" {
			failure.Hint = "if " + job.ID + " belongs to a session, name it with --session; " + e.Hint
		}
		return &failure
	}
	failure.Hint = "jobs of sessions and anonymous jobs are counted apart: name the session of " + job.ID + " with --session, if it has one"
	if job.Session != "" {
		failure.Hint = "jobs of sessions and anonymous jobs are counted apart: leave --session out if " + job.ID + " is anonymous; `dspex jobs list` shows both"
	}
	return &failure
}
