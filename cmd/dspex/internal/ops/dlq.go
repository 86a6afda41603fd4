package ops

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

// DeadLetters is `dspex dlq`.
func DeadLetters(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use: "dlq", Short: "List, show, replay and purge dead letters: jobs that failed permanently", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(dlqListCommand(a), dlqShowCommand(a), dlqReplayCommand(a), dlqPurgeCommand(a))
	return cmd
}

func dlqListCommand(a *cli.App) *cobra.Command {
	var f deadLetterFlags
	var many cli.ListFlags
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
			if filter.Limit, err = many.Most(cmd); err != nil {
				return err
			}
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				list := cli.Listing[dspex.DeadLetter]{Row: deadLetterRow, None: "no dead letters", Raw: func(l dspex.DeadLetter) json.RawMessage { return l.Raw }, Table: cli.Columns{
					App: a, Head: []string{"SEQUENCE", "JOB", "SESSION", "COMMAND", "ATTEMPTS", "ERROR", "AGE", "REPLAYED"},
					Right: []bool{true, false, false, false, true, false, true, false}, Least: []int{7, 4, 3},
				}}
				return list.Say(a, c.Admin().DeadLetters(ctx, filter), filter.Limit)
			})
		},
	}
	f.add(cmd)
	many.Add(cmd)
	return cmd
}

func deadLetterRow(l dspex.DeadLetter) []string {
	replayed := "-"
	if l.Replayed != nil {
		replayed = cli.Word(l.Replayed.Job.ID)
	}
	return []string{
		strconv.FormatUint(l.Sequence, 10), cli.Word(l.Job.ID), cli.Dash(l.Job.Session), cli.Dash(l.Command), strconv.Itoa(l.Attempts),
		cli.Word(string(l.Category) + " " + l.Code), cli.Span(time.Since(l.CreatedAt)), replayed,
	}
}

func dlqShowCommand(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use: "show SEQUENCE", Short: "Show one dead letter: its request, and every attempt's error", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			sequence, err := deadLetterSequence(args[0])
			if err != nil {
				return err
			}
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				l, err := c.Admin().GetDeadLetter(ctx, sequence)
				if err != nil {
					return err
				}
				if !a.Text() {
					return a.Say(l.Raw)
				}
				sayDeadLetter(a, l)
				return nil
			})
		},
	}
}

func sayDeadLetter(a *cli.App, l dspex.DeadLetterDetails) {
	replayed := ""
	if l.Replayed != nil {
		replayed = fmt.Sprintf("%s, %s ago", cli.Word(l.Replayed.Job.ID), cli.Span(time.Since(l.Replayed.At)))
	}
	request := cli.Clean(string(l.Request))
	if l.Request == nil {
		request = fmt.Sprintf("%d bytes that cannot be read", len(l.RequestBytes))
	}
	rows := []cli.Row{
		{"dead letter", strconv.FormatUint(l.Sequence, 10)}, {"job", cli.Word(l.Job.ID)}, {"session", cli.Word(l.Job.Session)}, {"lane", cli.Word(string(l.Lane))}, {"mode", cli.Word(l.Mode)},
		{"accepted", cli.Span(time.Since(l.AcceptedAt)) + " ago"}, {"dead-lettered", cli.Span(time.Since(l.CreatedAt)) + " ago"}, {"replayed", replayed},
		{"request", request}, {"attempts", strconv.Itoa(l.Attempts)}, {"error", cli.Word(string(l.Category) + " " + l.Code)}, {"message", cli.Clean(l.Message)},
	}
	if e := l.LastError; e != nil {
		rows = append(rows, cli.Row{"hint", cli.Clean(e.Hint)}, cli.Row{"exception", cli.Word(e.PythonType)}, cli.Row{"traceback", cli.Clean(e.Traceback)})
	}
	a.Table(a.Out, "", rows)
	if len(l.Failures) == 0 {
		return
	}
	table := cli.Columns{App: a, Head: []string{"ATTEMPT", "AT", "WORKER", "ERROR", "MESSAGE"}, Right: []bool{true, false, false, false, false}}
	var failures [][]string
	for _, f := range l.Failures {
		at := "-"
		if !f.At.IsZero() {
			at = f.At.Local().Format(time.DateTime)
		}
		failures = append(failures, []string{strconv.Itoa(f.Attempt), at, cli.Dash(f.Worker), cli.Word(string(f.Category) + " " + f.Code), cli.Word(f.Message)})
	}
	fmt.Fprintln(a.Out)
	table.Write(a.Out, failures)
}
