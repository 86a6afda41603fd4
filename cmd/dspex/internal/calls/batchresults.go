package calls

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

// batchOne is a command that takes an id and shows the batch.
func batchOne(a *cli.App, name, short string, do func(*dspex.Client, context.Context, string) (dspex.Batch, error)) *cobra.Command {
	return &cobra.Command{
		Use: name + " BATCH", Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				b, err := do(c, ctx, args[0])
				if err != nil {
					return err
				}
				return sayBatch(a, b)
			})
		},
	}
}

func batchList(a *cli.App) *cobra.Command {
	var many cli.ListFlags
	cmd := &cobra.Command{
		Use: "list", Short: "List the batches, the newest first, and when they expire", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			most, err := many.Most(cmd)
			if err != nil {
				return err
			}
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				list := cli.Listing[dspex.Batch]{Row: batchRow, None: "no batches", Raw: func(b dspex.Batch) json.RawMessage { return b.Raw }, Table: cli.Columns{
					App: a, Head: []string{"BATCH", "PHASE", "JOBS", "SUCCEEDED", "FAILED", "SUBMITTED", "KEPT UNTIL"},
					Right: []bool{false, false, true, true, true, false, false}, Least: []int{5},
				}}
				return list.Say(a, upTo(c.Batches(ctx), most), most)
			})
		},
	}
	many.Add(cmd)
	return cmd
}

func batchRow(b dspex.Batch) []string {
	return []string{cli.Word(b.ID), cli.Word(string(b.Phase)), fmt.Sprintf("%d/%d", b.Done(), b.Jobs), strconv.Itoa(b.Outcomes.Succeeded),
		strconv.Itoa(b.Outcomes.Failed), cli.Dash(moment(b.SubmittedAt)), cli.Dash(moment(b.ExpiresAt))}
}

// upTo ends a sequence after most items; 0: it does not.
func upTo[T any](items iter.Seq2[T, error], most int) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		n := 0
		for item, err := range items {
			if n++; !yield(item, err) || n == most {
				return
			}
		}
	}
}

func batchWait(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:   "wait BATCH",
		Short: "Wait for the end of a batch",
		Long:  "Wait for the end of a batch and show it.\n\nExit status: 0 all jobs have succeeded; 1 one has not. Otherwise as for call.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				b, err := c.GetBatch(ctx, args[0])
				if err == nil && b.Phase == dspex.BatchUploading {
					err = &cli.Failure{Status: 1, Text: "the batch was not submitted: it does not run", Hint: "submit its file again"}
				}
				if err == nil {
					b, err = awaitBatch(ctx, a, c, b)
				}
				if err != nil {
					return err
				}
				if err := sayBatch(a, b); err != nil {
					return err
				}
				return exitOf(b)
			})
		},
	}
}

var outcomeNames = []dspex.JobStatus{dspex.JobSucceeded, dspex.JobFailed, dspex.JobCancelled, dspex.JobExpired, dspex.BatchPending}

func batchResults(a *cli.App) *cobra.Command {
	var to table
	var outcomes []string
	var q dspex.BatchQuery
	cmd := &cobra.Command{
		Use:   "results BATCH",
		Short: "Write the results of a batch, one JSON object per line, in the order of its jobs",
		Long: `Write the results of a batch, one JSON object per line, in the order of its jobs: index, id, session, job, outcome, attempts, reply. While the batch runs
these are the results so far; with --as-completed the command waits for the others and writes each when it is there. With --csv or --column they are CSV.`,
		Example: `  dspex batch results nightly-7 --outcome failed,expired --inputs
  dspex batch results nightly-7 --column id --column answer=result.answer --column error=error.code --out answers.csv`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := to.check(); err != nil {
				return err
			}
			for _, name := range outcomes {
				q.Outcomes = append(q.Outcomes, dspex.JobStatus(name))
			}
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error { return to.write(ctx, a, c, args[0], q) })
		},
	}
	to.declare(cmd, "-", "file to write, - for standard output; CSV if its name ends in .csv")
	cmd.Flags().BoolVar(&to.is, "csv", false, "write CSV, whatever the name")
	cmd.Flags().StringSliceVar(&outcomes, "outcome", nil, fmt.Sprintf("only these: %s", strings.Trim(fmt.Sprint(outcomeNames), "[]")))
	cmd.Flags().BoolVar(&q.Inputs, "inputs", false, "each with its request")
	return cmd
}

func batchRetry(a *cli.App) *cobra.Command {
	var s submission
	cmd := &cobra.Command{
		Use:   "retry-failed BATCH",
		Short: "Submit the jobs of a batch that have not succeeded as a new one",
		Long: `Submit the jobs of a batch that has ended and have not succeeded as a new batch, --as. The old one stays as it is. Under the same --as they are submitted
once. Jobs that could not be run at all are left out.

Exit status: as for submit.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if s.id == "" {
				s.id = args[0] + "-retry"
			}
			if err := s.check(); err != nil {
				return err
			}
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				b, err := c.GetBatch(ctx, args[0])
				switch {
				case err != nil:
					return err
				case b.Phase != dspex.BatchEnded:
					return &cli.Failure{Status: 1, Text: fmt.Sprintf("the batch is %s: it must have ended", b.Phase), Hint: "dspex batch wait " + args[0]}
				case b.Outcomes.Succeeded == b.Jobs:
					fmt.Fprintln(a.Err, "all jobs have succeeded: there is nothing to submit")
					return nil
				}
				return s.run(ctx, a, c, failedOf(ctx, c, args[0]), &places{})
			})
		},
	}
	s.declare(cmd)
	cmd.Flags().StringVar(&s.id, "as", "", "id of the new batch (default BATCH-retry)")
	return cmd
}

// failedOf are the jobs of a batch that have not succeeded.
func failedOf(ctx context.Context, c *dspex.Client, id string) iter.Seq2[dspex.BatchJob, error] {
	q := dspex.BatchQuery{Inputs: true, Outcomes: []dspex.JobStatus{dspex.JobFailed, dspex.JobCancelled, dspex.JobExpired}}
	return func(yield func(dspex.BatchJob, error) bool) {
		for r, err := range c.BatchResults(ctx, id, q) {
			if err == nil && len(r.Request) == 0 {
				continue
			}
			var raw json.RawMessage
			if err == nil {
				raw, err = requestOf(r)
			}
			if !yield(dspex.BatchJob{Raw: raw}, err) || err != nil {
				return
			}
		}
	}
}

// requestOf is the job of a result, as it was submitted.
func requestOf(r dspex.BatchResult) (json.RawMessage, error) {
	job := map[string]any{}
	var request map[string]json.RawMessage
	if err := json.Unmarshal(r.Request, &request); err != nil {
		return nil, fmt.Errorf("the request of job %d: %w", r.Index, err)
	}
	for key, value := range request {
		job[key] = value
	}
	if r.ID != "" {
		job["id"] = r.ID
	}
	if r.Job.Session != "" {
		job["session"] = r.Job.Session
	}
	return json.Marshal(job)
}
