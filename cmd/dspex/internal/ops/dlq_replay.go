package ops

import (
	"context"
	"fmt"
	"iter"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

// deadLetterChoice selects what replay and purge work on: dead letters by number, or those that match the filter.
type deadLetterChoice struct {
	deadLetterFlags
	all, yes bool
}

func (f *deadLetterChoice) add(cmd *cobra.Command) {
	f.deadLetterFlags.add(cmd)
	cmd.Flags().IntVar(&f.Limit, "limit", 0, "how many at most, the oldest first (default all that match)")
	cmd.Flags().BoolVar(&f.all, "all", false, "all dead letters")
	cmd.Flags().BoolVar(&f.yes, "yes", false, "confirm that all matching dead letters are meant")
}

// choose reads the selection; named is nil for a filter.
func (f *deadLetterChoice) choose(cmd *cobra.Command, args []string) (named []uint64, filter dspex.DeadLetterFilter, err error) {
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
		return nil, filter, cli.Usage("name the dead letters, or give a filter (--session, --category, ...) or --all")
	}
	for _, text := range args {
		n, err := deadLetterSequence(text)
		if err != nil {
			return nil, filter, err
		}
		named = append(named, n)
	}
	return named, filter, nil
}

// confirm refuses a run without --yes, and gives the number of dead letters that it would affect.
func confirm(ctx context.Context, c *dspex.Client, f *deadLetterChoice, verb string, named []uint64, filter dspex.DeadLetterFilter) error {
	if f.yes {
		return nil
	}
	count := len(named)
	if named == nil {
		for _, err := range c.Admin().DeadLetters(ctx, filter) {
			if err != nil {
				return err
			}
			count++
		}
	}
	return cli.Usage("this would %s %d dead letters: rerun with --yes to confirm", verb, count)
}

func dlqReplayCommand(a *cli.App) *cobra.Command {
	var f deadLetterChoice
	cmd := &cobra.Command{
		Use:   "replay SEQUENCE ... | --session ID --yes | --all --yes",
		Short: "Run dead letters again, as new jobs at the end of their queues",
		Long: `Run dead letters again, as new jobs at the end of their queues.

The job of dead letter 17 of the job order-1 is order-1-r17. Replaying twice makes one job. The dead letters stay, marked as replayed.

Exit status: 1 if a dead letter could not be replayed. Otherwise as for call.`,
		Example: `  dspex dlq replay 17
  dspex dlq replay --category resource_error --replayed=false --yes`,
		RunE: func(cmd *cobra.Command, args []string) error {
			named, filter, err := f.choose(cmd, args)
			if err != nil {
				return err
			}
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				if named != nil {
					return sayReplays(a, replayNamed(ctx, c, named))
				}
				if err := confirm(ctx, c, &f, "replay", named, filter); err != nil {
					return err
				}
				return sayReplays(a, c.Admin().ReplayDeadLetters(ctx, filter))
			})
		},
	}
	f.add(cmd)
	return cmd
}

func replayNamed(ctx context.Context, c *dspex.Client, named []uint64) iter.Seq2[dspex.ReplayResult, error] {
	return func(yield func(dspex.ReplayResult, error) bool) {
		for _, sequence := range named {
			if r, err := c.Admin().ReplayDeadLetter(ctx, sequence); !yield(r, err) {
				return
			}
		}
	}
}

// sayReplays prints each replay as it is made; --output json is one list at the end.
func sayReplays(a *cli.App, replays iter.Seq2[dspex.ReplayResult, error]) error {
	whole, failed, count := []any{}, false, 0
	for r, err := range replays {
		if err != nil {
			return err
		}
		failed = failed || r.Err != nil
		out := map[string]any{"sequence": r.Sequence, "session": r.Job.Session, "job": r.Job.ID, "again": r.Existing}
		count++
		if r.Err != nil {
			out["error"] = r.Err
		}
		switch a.Output {
		case "json":
			whole = append(whole, out)
		case "jsonl":
			if err := a.Say(out); err != nil {
				return err
			}
		default:
			sayReplay(a, r)
		}
	}
	if a.Output == "json" {
		if err := a.Say(whole); err != nil {
			return err
		}
	}
	if count == 0 && a.Text() {
		fmt.Fprintln(a.Err, a.Paint(a.Err, cli.Dim, "no dead letters: nothing was replayed"))
	}
	if failed {
		return cli.ErrSilent
	}
	return nil
}

func sayReplay(a *cli.App, r dspex.ReplayResult) {
	switch {
	case r.Err != nil:
		fmt.Fprintf(a.Out, "dead letter %d: %s\n", r.Sequence, cli.Word(r.Err.Error()))
	case r.Existing:
		fmt.Fprintf(a.Out, "dead letter %d: had been replayed as %s\n", r.Sequence, cli.Word(r.Job.ID))
	default:
		fmt.Fprintf(a.Out, "dead letter %d: replayed as %s\n", r.Sequence, cli.Word(r.Job.ID))
	}
}

func dlqPurgeCommand(a *cli.App) *cobra.Command {
	var f deadLetterChoice
	cmd := &cobra.Command{
		Use:     "purge SEQUENCE ... --yes | --session ID --yes | --all --yes",
		Short:   "Remove dead letters permanently",
		Example: "  dspex dlq purge --replayed --older-than 168h --yes",
		RunE: func(cmd *cobra.Command, args []string) error {
			named, filter, err := f.choose(cmd, args)
			if err != nil {
				return err
			}
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				if err := confirm(ctx, c, &f, "remove", named, filter); err != nil {
					return err
				}
				count, err := 0, error(nil)
				for _, sequence := range named {
					if err = c.Admin().PurgeDeadLetter(ctx, sequence); err != nil {
						return err
					}
					count++
				}
				if named == nil {
					count, err = c.Admin().PurgeDeadLetters(ctx, filter)
				}
				if err != nil {
					return err
				}
				if !a.Text() {
					return a.Say(map[string]any{"purged": count})
				}
				fmt.Fprintf(a.Out, "%d removed\n", count)
				return nil
			})
		},
	}
	f.add(cmd)
	return cmd
}
