package calls

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

// Batch is `dspex batch`.
func Batch(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use: "batch", Short: "Run a file of jobs, each with one outcome", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(batchSubmit(a), batchList(a), batchOne(a, "show", "Show the progress of a batch", (*dspex.Client).GetBatch), batchWait(a), batchResults(a),
		batchOne(a, "cancel", "Cancel a batch: jobs that have not begun do not run", (*dspex.Client).CancelBatch), batchRetry(a),
		batchOne(a, "erase", "Remove a batch that has ended, with its jobs and outcomes", (*dspex.Client).EraseBatch))
	return cmd
}

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
			if err := errors.Join(csv.check(args[0]), s.results.check()); err != nil {
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
		return &cli.Failure{Status: 1, Text: fmt.Sprintf("%d jobs are invalid: nothing was submitted", len(bad.Invalid)), Hint: "with --skip-invalid they fail, and the others run"}
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
	return whole(b)
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

// whole is the exit status of a batch that has ended.
func whole(b dspex.Batch) error {
	if b.Outcomes.Succeeded != b.Jobs {
		return cli.ErrSilent
	}
	return nil
}

// The time between two checks of the progress, and between two lines about it where there is no terminal.
const (
	progressLook = 500 * time.Millisecond
	progressLine = 10 * time.Second
)

// awaitBatch waits for the end: with a bar on a terminal, else with a line now and then.
func awaitBatch(ctx context.Context, a *cli.App, c *dspex.Client, b dspex.Batch) (dspex.Batch, error) {
	began, first, told := time.Now(), b.Done(), time.Now()
	var line atomic.Value
	draw := func() {
		bar := cli.BarOf(uint64(b.Done()), uint64(b.Jobs), "jobs") //nolint:gosec // both count
		line.Store(bar + pace(b, b.Done()-first, time.Since(began)) + errorsOf(b, mostInBar))
	}
	draw()
	bar := a.StartBar(func() string { return line.Load().(string) })
	defer bar.Stop()
	t := time.NewTicker(progressLook)
	defer t.Stop()
	for b.Phase != dspex.BatchEnded {
		select {
		case <-ctx.Done():
			return b, batchGoesOn(b)
		case <-t.C:
		}
		now, err := c.GetBatch(ctx, b.ID)
		if err != nil && ctx.Err() != nil {
			return b, batchGoesOn(b)
		}
		if err != nil {
			return b, err
		}
		b = now
		draw()
		if !cli.IsTerminal(a.Err) && time.Since(told) >= progressLine {
			told = time.Now()
			fmt.Fprintln(a.Err, progress(b, b.Done()-first, time.Since(began)))
		}
	}
	return b, nil
}

// batchGoesOn is the error of a command that stops waiting for a batch.
func batchGoesOn(b dspex.Batch) error {
	return &cli.Failure{Status: cli.ExitInterrupted, Text: "interrupted; the batch " + b.ID + " continues",
		Hint: fmt.Sprintf("`dspex batch wait %s` waits for its end, `dspex batch results %s` has what is done, `dspex batch cancel %s` ends it", b.ID, b.ID, b.ID)}
}

func progress(b dspex.Batch, n int, in time.Duration) string {
	return fmt.Sprintf("%d/%d jobs", b.Done(), b.Jobs) + pace(b, n, in) + errorsOf(b, 0)
}

// pace is the rate and the time that is left, of n jobs that have ended in a time.
func pace(b dspex.Batch, n int, in time.Duration) string {
	rate := float64(n) / in.Seconds()
	if n <= 0 || rate <= 0 {
		return ""
	}
	left := time.Duration(float64(b.Jobs-b.Done()) / rate * float64(time.Second))
	return fmt.Sprintf(", %.1f/s, %s left", rate, left.Round(time.Second))
}

// mostInBar is how many codes a bar has room for.
const mostInBar = 2

// errorsOf are the errors by code, the most frequent first; most of them, 0: all.
func errorsOf(b dspex.Batch, most int) string {
	codes := slices.SortedFunc(maps.Keys(b.Errors), func(x, y string) int { return b.Errors[y] - b.Errors[x] })
	if most > 0 {
		codes = codes[:min(len(codes), most)]
	}
	var text strings.Builder
	for _, code := range codes {
		fmt.Fprintf(&text, ", %s %d", cli.Word(code), b.Errors[code])
	}
	return text.String()
}

func summary(b dspex.Batch) string {
	o := b.Outcomes
	text := fmt.Sprintf("%d jobs: %d succeeded, %d failed, %d cancelled, %d expired, in %s", b.Jobs, o.Succeeded, o.Failed, o.Cancelled, o.Expired,
		b.EndedAt.Sub(b.SubmittedAt).Round(time.Millisecond))
	if b.Lost {
		text += "; the store lost some of its jobs"
	}
	return text + errorsOf(b, 0) + usageOf(b)
}

// usageOf is what the models counted.
func usageOf(b dspex.Batch) string {
	var text strings.Builder
	for _, model := range slices.Sorted(maps.Keys(b.Usage)) {
		fmt.Fprintf(&text, "; %s:", cli.Word(model))
		for _, name := range slices.Sorted(maps.Keys(b.Usage[model])) {
			fmt.Fprintf(&text, " %s %d", cli.Word(name), b.Usage[model][name])
		}
	}
	return text.String()
}
