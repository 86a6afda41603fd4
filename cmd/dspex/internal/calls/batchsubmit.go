package calls

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

// submission is what can be chosen about a batch.
type submission struct {
	id          string
	results     table
	concurrency int
	keep        time.Duration
	skip        bool
}

func (s *submission) declare(cmd *cobra.Command) {
	f := cmd.Flags()
	s.results.declare(cmd, "", "wait for the end and write the results to this file, - for standard output; as CSV if its name ends in .csv")
	f.IntVar(&s.concurrency, "concurrency", 64, "jobs of the batch at the broker at a time, 1 to 1024")
	f.DurationVar(&s.keep, "keep", 7*24*time.Hour, "how long jobs and outcomes are kept after the end, 1m to 720h")
}

// mostBatchID is how long the id of a batch may be.
const mostBatchID = 48

// check refuses what the service would refuse after all jobs are uploaded.
func (s *submission) check() error {
	allowed := func(c rune) bool {
		return c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_' || c == '-'
	}
	switch {
	case len(s.id) > mostBatchID || strings.ContainsFunc(s.id, func(c rune) bool { return !allowed(c) }):
		return cli.Usage("the batch's id must be 1 to %d of A-Z a-z 0-9 _ -, got %q", mostBatchID, s.id)
	case s.concurrency < 1 || s.concurrency > 1024:
		return cli.Usage("--concurrency must be 1 to 1024, got %d", s.concurrency)
	case s.keep < time.Minute || s.keep > 720*time.Hour:
		return cli.Usage("--keep must be 1m to 720h, got %v", s.keep)
	}
	return s.results.check()
}

func (s *submission) options() []dspex.BatchOption {
	opts := []dspex.BatchOption{dspex.BatchConcurrency(s.concurrency), dspex.BatchKeep(s.keep)}
	if s.skip {
		opts = append(opts, dspex.BatchSkipInvalid())
	}
	return opts
}

func batchSubmit(a *cli.App) *cobra.Command {
	var s submission
	var csv sheet
	cmd := &cobra.Command{
		Use:   "submit FILE",
		Short: "Submit a file of jobs, one JSON object per line, or CSV; - for standard input",
		Long: `Submit a file of jobs, one JSON object per line: {"command": "predict", "args": {"question": "..."}, "session": "user_123", "id": "row-1"}. The keys
options, session and id may be left out. The file is read once and never held in memory. All bad lines are reported, and nothing is submitted unless
--skip-invalid is given.

Each row of a CSV file is a job of the same --command. Its first row has the names of the columns; --arg says which are arguments, a name with dots is inside of
a map: --arg inputs.question=column2. --column chooses what a CSV file of results has.

The same file under the same --id is one run: submit it again when you do not know whether it was submitted.

Exit status: 0 submitted, or with --out: all jobs have succeeded; 1 a job has not, or the batch was refused. Otherwise as for call.`,
		Example: `  dspex batch submit jobs.jsonl --id nightly-7 --out results.jsonl
  dspex batch submit questions.csv --command predict --arg question=column2 --out answers.csv --column question=request.args.question --column answer=result.answer`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := errors.Join(csv.check(args[0]), s.check()); err != nil {
				return err
			}
			in := io.NopCloser(a.In)
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return cli.Usage("%v", err)
				}
				in = f
			}
			defer func() { _ = in.Close() }()
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				if at := (&places{bad: map[int]string{}}); csv.is {
					return s.run(ctx, a, c, csv.jobsOf(in, at), at)
				}
				return s.run(ctx, a, c, linesOf(in), &places{})
			})
		},
	}
	s.declare(cmd)
	csv.declare(cmd)
	cmd.Flags().StringVar(&s.id, "id", "", "the batch's id, which makes it idempotent (default: a new one)")
	cmd.Flags().BoolVar(&s.skip, "skip-invalid", false, "let invalid jobs fail and run the others")
	return cmd
}

// linesOf are the jobs of a file.
func linesOf(in io.Reader) iter.Seq2[dspex.BatchJob, error] {
	return func(yield func(dspex.BatchJob, error) bool) {
		lines := bufio.NewScanner(in)
		lines.Buffer(make([]byte, 0, 64<<10), mostLine)
		n, blank := 0, 0
		for lines.Scan() {
			n++
			if len(strings.TrimSpace(lines.Text())) == 0 {
				blank = n
				continue
			}
			if blank > 0 { // results are named by their place in the file
				yield(dspex.BatchJob{}, &cli.Failure{Status: 1, Text: fmt.Sprintf("line %d must be a job, got an empty line", blank)})
				return
			}
			if !yield(dspex.BatchJob{Raw: slices.Clone(lines.Bytes())}, nil) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield(dspex.BatchJob{}, &cli.Failure{Status: 1, Text: fmt.Sprintf("line %d cannot be read: %v", n+1, err)})
		}
	}
}

// run submits jobs and, if results are requested, waits and writes them.
func (s *submission) run(ctx context.Context, a *cli.App, c *dspex.Client, jobs iter.Seq2[dspex.BatchJob, error], at *places) error {
	b, err := c.SubmitBatch(ctx, s.id, jobs, s.options()...)
	if bad := (*dspex.InvalidJobsError)(nil); errors.As(err, &bad) {
		sayInvalid(a, bad.Invalid, at)
		return &cli.Failure{Status: 1, Text: refused(len(bad.Invalid)), Hint: "with --skip-invalid they fail, and the others run"}
	}
	if unclear, is := errors.AsType[*dspex.UnclearBatchError](err); is {
		fmt.Fprintf(a.Err, "the batch has the id %s: the same file under --id %s goes on with it\n", unclear.ID, unclear.ID)
		return unclear.Err
	}
	if err != nil {
		return err
	}
	sayInvalid(a, b.Invalid, at)
	if s.results.out == "" {
		return sayBatch(a, b)
	}
	fmt.Fprintf(a.Err, "batch %s, %d jobs\n", b.ID, b.Jobs)
	if !s.results.live {
		if b, err = awaitBatch(ctx, a, c, b); err != nil {
			return err
		}
	}
	err = s.results.write(ctx, a, c, b.ID, dspex.BatchQuery{})
	switch {
	case err != nil && ctx.Err() != nil:
		return batchGoesOn(b)
	case err != nil:
		return err
	case s.results.live:
		if b, err = c.GetBatch(ctx, b.ID); err != nil {
			return err
		}
	}
	fmt.Fprintln(a.Err, summary(b))
	return exitOf(b)
}

func sayInvalid(a *cli.App, all []dspex.InvalidJob, in *places) {
	for _, i := range all {
		if rule := in.bad[i.Index]; rule != "" {
			fmt.Fprintf(a.Err, "line %d: %s (bad_request)\n", in.line(i.Index), cli.Word(rule))
			continue
		}
		at := ""
		if i.Err.Path != "" {
			at = cli.Word(i.Err.Path) + ": "
		}
		must := ""
		if i.Err.Expected != "" {
			must = ", must be " + cli.Word(i.Err.Expected)
		}
		fmt.Fprintf(a.Err, "line %d: %s%s%s (%s)\n", in.line(i.Index), at, cli.Word(i.Err.Message), must, i.Err.Code)
	}
}

// exitOf is the exit status of a batch that has ended.
func exitOf(b dspex.Batch) error {
	if b.Outcomes.Succeeded != b.Jobs {
		return cli.ErrSilent
	}
	return nil
}
