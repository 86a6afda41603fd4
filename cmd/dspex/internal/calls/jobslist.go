package calls

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

// statuses are what --state may be.
var statuses = []string{"queued", "running", "retrying", "succeeded", "failed", "cancelled", "expired"}

func jobsListCommand(a *cli.App) *cobra.Command {
	var f dspex.JobFilter
	var state string
	var many cli.ListFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List jobs: those without outcome, then outcomes that are kept",
		Long: `List jobs: first those without outcome, in the order accepted, then the outcomes that are kept (15 minutes of calls, 24 hours of
other jobs), the oldest first. Outcomes do not keep the job's command, so --command lists jobs without outcome only.

It needs the permissions of an operator.`,
		Example: `  dspex jobs list --state running
  dspex jobs list --session user_123 --newer-than 10m
  dspex jobs list --command predict --older-than 1m --all -o jsonl`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err := cli.NotEmpty(cmd); err != nil {
				return err
			}
			f.Status = dspex.JobStatus(state)
			switch {
			case state != "" && !slices.Contains(statuses, state):
				return cli.Usage("--state must be %s, got %q", strings.Join(statuses, ", "), state)
			case f.Session != "" && f.Anonymous:
				return cli.Usage("--session and --anonymous exclude each other")
			case f.Status.Final() && f.Command != "":
				return cli.Usage("--command needs a state without outcome (queued, running, retrying): outcomes do not keep the job's command")
			case f.OlderThan < 0 || f.NewerThan < 0:
				return cli.Usage("--older-than and --newer-than must not be negative")
			}
			if f.Limit, err = many.Most(cmd); err != nil {
				return err
			}
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				list := cli.Listing[dspex.JobInfo]{Row: jobRow, None: "no such jobs", Raw: func(j dspex.JobInfo) json.RawMessage { return j.Raw }, Table: cli.Columns{
					App: a, Head: []string{"JOB", "SESSION", "STATE", "ATTEMPTS", "COMMAND", "AGE", "MODE", "ERROR"},
					Right: []bool{false, false, false, true, false, true, false, false}, Least: []int{6, 3, 7},
				}}
				return list.Say(a, c.Admin().Jobs(ctx, f), f.Limit)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&state, "state", "", "only jobs that are "+strings.Join(statuses, ", "))
	flags.StringVar(&f.Session, "session", "", "only jobs of this session")
	flags.BoolVar(&f.Anonymous, "anonymous", false, "only jobs without session")
	flags.StringVar(&f.Command, "command", "", "only jobs of this command; they have no outcome yet")
	flags.DurationVar(&f.OlderThan, "older-than", 0, "only jobs that were accepted, or have ended, longer ago")
	flags.DurationVar(&f.NewerThan, "newer-than", 0, "only jobs that were accepted, or have ended, since then")
	many.Add(cmd)
	_ = cmd.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(statuses, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
	return cmd
}

// jobRow is a job as it is listed. Its age is the time since it was accepted, or has ended.
func jobRow(j dspex.JobInfo) []string {
	at := j.EndedAt
	if at.IsZero() {
		at = j.AcceptedAt
	}
	mode := cmp.Or(string(j.Lane), j.Mode)
	return []string{cli.Word(j.ID), cli.Dash(j.Session), cli.Word(string(j.Status)), strconv.Itoa(j.Attempts), cli.Dash(j.Command), cli.Span(time.Since(at)), cli.Dash(mode), cli.Dash(j.Code)}
}
