package main

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
)

func (a *app) dlqCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "dlq", Short: "Look after dead letters: jobs that failed for good", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.dlqListCommand(), a.dlqShowCommand(), a.dlqReplayCommand(), a.dlqPurgeCommand())
	return cmd
}

// letterFlags are the filter as flags.
type letterFlags struct {
	dspex.DeadLetterFilter
	category string
	replayed bool
}

func (f *letterFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.Session, "session", "", "only letters of this session")
	flags.BoolVar(&f.Anonymous, "anonymous", false, "only letters of anonymous jobs")
	flags.StringVar(&f.category, "category", "", "only letters whose last error is of this category")
	flags.StringVar(&f.Code, "code", "", "only letters whose last error has this code")
	flags.DurationVar(&f.OlderThan, "older-than", 0, "only letters that were buried longer ago")
	flags.DurationVar(&f.NewerThan, "newer-than", 0, "only letters that were buried since")
	flags.BoolVar(&f.replayed, "replayed", false, "only letters that were replayed; --replayed=false: that were not")
}

// filter checks the flags; given says whether one restricts the choice.
func (f *letterFlags) filter(cmd *cobra.Command) (filter dspex.DeadLetterFilter, given bool, err error) {
	for _, name := range []string{"session", "anonymous", "category", "code", "older-than", "newer-than", "replayed"} {
		given = given || cmd.Flags().Changed(name)
	}
	if err := sessionGiven(cmd); err != nil {
		return filter, given, err
	}
	switch {
	case f.Session != "" && f.Anonymous:
		return filter, given, usage("--session and --anonymous exclude each other")
	case f.OlderThan < 0 || f.NewerThan < 0:
		return filter, given, usage("--older-than or --newer-than is negative")
	case f.Limit < 0:
		return filter, given, usage("--limit is negative")
	}
	f.Category = dspex.ErrorCategory(f.category)
	if cmd.Flags().Changed("replayed") {
		f.Replayed = &f.replayed
	}
	return f.DeadLetterFilter, given, nil
}

func (a *app) dlqListCommand() *cobra.Command {
	var f letterFlags
	var all bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List dead letters, the oldest first",
		Example: `  dspex dlq list --session user_123
  dspex dlq list --category timeout --newer-than 2h --all -o jsonl`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, _, err := f.filter(cmd)
			switch {
			case err != nil:
				return err
			case f.Limit < 1:
				return usage("--limit is %d: it is 1 or more, or --all lists all", f.Limit)
			case all && cmd.Flags().Changed("limit"):
				return usage("--all and --limit exclude each other")
			case all:
				filter.Limit = 0
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error { return a.listLetters(ctx, c, filter) })
		},
	}
	f.add(cmd)
	cmd.Flags().IntVar(&f.Limit, "limit", 100, "how many at most")
	cmd.Flags().BoolVar(&all, "all", false, "list all, page by page")
	return cmd
}

func (a *app) listLetters(ctx context.Context, c *dspex.Client, f dspex.DeadLetterFilter) error {
	table := columns{
		app: a, head: []string{"LETTER", "JOB", "SESSION", "COMMAND", "ATTEMPTS", "ERROR", "BURIED", "REPLAYED"},
		right: []bool{true, false, false, false, true, false, true, false},
	}
	whole := []json.RawMessage{} // of --output json alone
	var rows [][]string
	count := 0
	for l, err := range c.DeadLetters(ctx, f) {
		if err != nil {
			return err
		}
		count++
		switch a.output {
		case "json":
			whole = append(whole, l.Raw)
		case "jsonl":
			if err := a.say(l.Raw); err != nil {
				return err
			}
		default:
			if rows = append(rows, letterRow(l)); len(rows) == listPage {
				table.write(a.out, rows)
				rows = rows[:0]
			}
		}
	}
	switch {
	case a.output == "json":
		return a.say(whole)
	case a.output == "jsonl":
		return nil
	case count == 0:
		fmt.Fprintln(a.err, a.paint(a.err, dim, "no such dead letters"))
		return nil
	}
	table.write(a.out, rows)
	if count == f.Limit {
		fmt.Fprintln(a.err, a.paint(a.err, dim, "there may be more: --limit, --all"))
	}
	return nil
}

func letterRow(l dspex.DeadLetter) []string {
	replayed := "-"
	if l.Replayed != nil {
		replayed = word(l.Replayed.Job)
	}
	return []string{
		strconv.FormatUint(l.Sequence, 10), word(l.Job), dash(l.Session), dash(l.Command), strconv.Itoa(l.Attempts),
		word(string(l.Category) + " " + l.Code), span(time.Since(l.BuriedAt)) + " ago", replayed,
	}
}

// letterSequence reads the name of a letter.
func letterSequence(text string) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n == 0 {
		return 0, usage("%q names no dead letter: it is a number, the first column of `dspex dlq list`", text)
	}
	return n, nil
}

func (a *app) dlqShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show LETTER", Short: "Show all about one dead letter: its request, and every attempt's error", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			sequence, err := letterSequence(args[0])
			if err != nil {
				return err
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				l, err := c.DeadLetter(ctx, sequence)
				if err != nil {
					return err
				}
				if !a.text() {
					return a.say(l.Raw)
				}
				a.sayLetter(l)
				return nil
			})
		},
	}
}

func (a *app) sayLetter(l dspex.DeadLetterDetails) {
	replayed := ""
	if l.Replayed != nil {
		replayed = fmt.Sprintf("%s, %s ago", word(l.Replayed.Job), span(time.Since(l.Replayed.At)))
	}
	request := clean(string(l.Request))
	if l.Request == nil {
		request = fmt.Sprintf("%d bytes that cannot be read", len(l.RequestBytes))
	}
	rows := []row{
		{"letter", strconv.FormatUint(l.Sequence, 10)}, {"job", word(l.Job)}, {"session", word(l.Session)}, {"lane", word(l.Lane)}, {"mode", word(l.Mode)},
		{"accepted", span(time.Since(l.AcceptedAt)) + " ago"}, {"buried", span(time.Since(l.BuriedAt)) + " ago"}, {"replayed", replayed},
		{"request", request}, {"attempts", strconv.Itoa(l.Attempts)}, {"error", word(string(l.Category) + " " + l.Code)}, {"message", clean(l.Message)},
	}
	if e := l.Err; e != nil {
		rows = append(rows, row{"hint", clean(e.Hint)}, row{"exception", word(e.PythonType)}, row{"traceback", clean(e.Traceback)})
	}
	a.table(a.out, "", rows)
	if len(l.Failures) == 0 {
		return
	}
	table := columns{app: a, head: []string{"ATTEMPT", "AT", "WORKER", "ERROR", "MESSAGE"}, right: []bool{true, false, false, false, false}}
	var failures [][]string
	for _, f := range l.Failures {
		at := "-"
		if !f.At.IsZero() {
			at = f.At.Local().Format(time.DateTime)
		}
		failures = append(failures, []string{strconv.Itoa(f.Attempt), at, dash(f.Worker), word(string(f.Category) + " " + f.Code), word(f.Message)})
	}
	fmt.Fprintln(a.out)
	table.write(a.out, failures)
}

// letterChoice are the letters that replay and purge are about: those named, or those that match.
type letterChoice struct {
	letterFlags
	all, yes bool
}

func (f *letterChoice) add(cmd *cobra.Command) {
	f.letterFlags.add(cmd)
	cmd.Flags().IntVar(&f.Limit, "limit", 0, "how many at most, the oldest first (default all that match)")
	cmd.Flags().BoolVar(&f.all, "all", false, "all dead letters")
	cmd.Flags().BoolVar(&f.yes, "yes", false, "really do it")
}

// choose reads what is meant; named is nil for a filter.
func (f *letterChoice) choose(cmd *cobra.Command, args []string) (named []uint64, filter dspex.DeadLetterFilter, err error) {
	filter, given, err := f.filter(cmd)
	if err != nil {
		return nil, filter, err
	}
	filter.All = f.all
	ways := 0
	for _, is := range []bool{len(args) > 0, given, f.all} {
		if is {
			ways++
		}
	}
	if ways != 1 {
		return nil, filter, usage("which dead letters? Name them, or give a filter (--session, --category, ...), or --all")
	}
	for _, text := range args {
		n, err := letterSequence(text)
		if err != nil {
			return nil, filter, err
		}
		named = append(named, n)
	}
	return named, filter, nil
}

// confirm ends what was not meant so, and says how much it would have been.
func (a *app) confirm(ctx context.Context, c *dspex.Client, f *letterChoice, verb string, named []uint64, filter dspex.DeadLetterFilter) error {
	if f.yes {
		return nil
	}
	count := len(named)
	if named == nil {
		for _, err := range c.DeadLetters(ctx, filter) {
			if err != nil {
				return err
			}
			count++
		}
	}
	return usage("this would %s %d dead letters: --yes says that you mean it", verb, count)
}

func (a *app) dlqReplayCommand() *cobra.Command {
	var f letterChoice
	cmd := &cobra.Command{
		Use:   "replay LETTER ... | --session ID --yes | --all --yes",
		Short: "Run dead letters again, as new jobs at the end of their queues",
		Long: `Run dead letters again, as new jobs at the end of their queues.

The job of letter 17 of the job order-1 is order-1-r17. Asking twice makes one job. The letters stay, marked as replayed.

Exit status: 1 if a letter could not be replayed. Otherwise as for call.`,
		Example: `  dspex dlq replay 17
  dspex dlq replay --category resource_error --replayed=false --yes`,
		RunE: func(cmd *cobra.Command, args []string) error {
			named, filter, err := f.choose(cmd, args)
			if err != nil {
				return err
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				if named != nil {
					return a.sayReplays(replayNamed(ctx, c, named))
				}
				if err := a.confirm(ctx, c, &f, "replay", named, filter); err != nil {
					return err
				}
				return a.sayReplays(c.ReplayDeadLetters(ctx, filter))
			})
		},
	}
	f.add(cmd)
	return cmd
}

func replayNamed(ctx context.Context, c *dspex.Client, named []uint64) iter.Seq2[dspex.Replay, error] {
	return func(yield func(dspex.Replay, error) bool) {
		for _, sequence := range named {
			if r, err := c.ReplayDeadLetter(ctx, sequence); !yield(r, err) {
				return
			}
		}
	}
}

// sayReplays tells of each replay as it is made; --output json is one list at the end.
func (a *app) sayReplays(replays iter.Seq2[dspex.Replay, error]) error {
	whole, failed := []any{}, false
	for r, err := range replays {
		if err != nil {
			return err
		}
		failed = failed || r.Err != nil
		out := map[string]any{"sequence": r.Sequence, "session": r.Session, "job": r.Job, "again": r.Again}
		if r.Err != nil {
			out["error"] = r.Err
		}
		switch a.output {
		case "json":
			whole = append(whole, out)
		case "jsonl":
			if err := a.say(out); err != nil {
				return err
			}
		default:
			a.sayReplay(r)
		}
	}
	if a.output == "json" {
		if err := a.say(whole); err != nil {
			return err
		}
	}
	if failed {
		return errSilent
	}
	return nil
}

func (a *app) sayReplay(r dspex.Replay) {
	switch {
	case r.Err != nil:
		fmt.Fprintf(a.out, "letter %d: %s\n", r.Sequence, word(r.Err.Error()))
	case r.Again:
		fmt.Fprintf(a.out, "letter %d: had been replayed as %s\n", r.Sequence, word(r.Job))
	default:
		fmt.Fprintf(a.out, "letter %d: replayed as %s\n", r.Sequence, word(r.Job))
	}
}

func (a *app) dlqPurgeCommand() *cobra.Command {
	var f letterChoice
	cmd := &cobra.Command{
		Use:     "purge LETTER ... --yes | --session ID --yes | --all --yes",
		Short:   "Remove dead letters for good",
		Example: "  dspex dlq purge --replayed --older-than 168h --yes",
		RunE: func(cmd *cobra.Command, args []string) error {
			named, filter, err := f.choose(cmd, args)
			if err != nil {
				return err
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				if err := a.confirm(ctx, c, &f, "remove", named, filter); err != nil {
					return err
				}
				count, err := 0, error(nil)
				for _, sequence := range named {
					if err = c.PurgeDeadLetter(ctx, sequence); err != nil {
						return err
					}
					count++
				}
				if named == nil {
					count, err = c.PurgeDeadLetters(ctx, filter)
				}
				if err != nil {
					return err
				}
				if !a.text() {
					return a.say(map[string]any{"purged": count})
				}
				fmt.Fprintf(a.out, "%d removed\n", count)
				return nil
			})
		},
	}
	f.add(cmd)
	return cmd
}
