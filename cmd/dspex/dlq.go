package main

import (
	"context"
	"encoding/json"
	"fmt"
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
	var many listFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List dead letters, the oldest first",
		Example: `  dspex dlq list --session user_123
  dspex dlq list --category timeout --newer-than 2h --all -o jsonl`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, _, err := f.filter(cmd)
			if err != nil {
				return err
			}
			if filter.Limit, err = many.most(cmd); err != nil {
				return err
			}
			return a.withClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				list := listing[dspex.DeadLetter]{row: letterRow, none: "no such dead letters", raw: func(l dspex.DeadLetter) json.RawMessage { return l.Raw }, table: columns{
					app: a, head: []string{"LETTER", "JOB", "SESSION", "COMMAND", "ATTEMPTS", "ERROR", "BURIED", "REPLAYED"},
					right: []bool{true, false, false, false, true, false, true, false},
				}}
				return list.say(a, c.Admin().DeadLetters(ctx, filter), filter.Limit)
			})
		},
	}
	f.add(cmd)
	many.add(cmd)
	return cmd
}

func letterRow(l dspex.DeadLetter) []string {
	replayed := "-"
	if l.Replayed != nil {
		replayed = word(l.Replayed.Job.ID)
	}
	return []string{
		strconv.FormatUint(l.Sequence, 10), word(l.Job.ID), dash(l.Job.Session), dash(l.Command), strconv.Itoa(l.Attempts),
		word(string(l.Category) + " " + l.Code), span(time.Since(l.CreatedAt)) + " ago", replayed,
	}
}

// letterSequence reads the name of a letter.
func letterSequence(text string) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n == 0 {
		return 0, usage("a dead letter must be a number, the first column of `dspex dlq list`, got %q", text)
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
				l, err := c.Admin().GetDeadLetter(ctx, sequence)
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
		replayed = fmt.Sprintf("%s, %s ago", word(l.Replayed.Job.ID), span(time.Since(l.Replayed.At)))
	}
	request := clean(string(l.Request))
	if l.Request == nil {
		request = fmt.Sprintf("%d bytes that cannot be read", len(l.RequestBytes))
	}
	rows := []row{
		{"letter", strconv.FormatUint(l.Sequence, 10)}, {"job", word(l.Job.ID)}, {"session", word(l.Job.Session)}, {"lane", word(string(l.Lane))}, {"mode", word(l.Mode)},
		{"accepted", span(time.Since(l.AcceptedAt)) + " ago"}, {"buried", span(time.Since(l.CreatedAt)) + " ago"}, {"replayed", replayed},
		{"request", request}, {"attempts", strconv.Itoa(l.Attempts)}, {"error", word(string(l.Category) + " " + l.Code)}, {"message", clean(l.Message)},
	}
	if e := l.LastError; e != nil {
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
