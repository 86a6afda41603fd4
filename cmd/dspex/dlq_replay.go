package main

import (
	"context"
	"fmt"
	"iter"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
)

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
		for _, err := range c.Admin().DeadLetters(ctx, filter) {
			if err != nil {
				return err
			}
			count++
		}
	}
	return usage("this would %s %d dead letters: rerun with --yes to confirm", verb, count)
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
				return a.sayReplays(c.Admin().ReplayDeadLetters(ctx, filter))
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

// sayReplays tells of each replay as it is made; --output json is one list at the end.
func (a *app) sayReplays(replays iter.Seq2[dspex.ReplayResult, error]) error {
	whole, failed := []any{}, false
	for r, err := range replays {
		if err != nil {
			return err
		}
		failed = failed || r.Err != nil
		out := map[string]any{"sequence": r.Sequence, "session": r.Job.Session, "job": r.Job.ID, "again": r.Existing}
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

func (a *app) sayReplay(r dspex.ReplayResult) {
	switch {
	case r.Err != nil:
		fmt.Fprintf(a.out, "letter %d: %s\n", r.Sequence, word(r.Err.Error()))
	case r.Existing:
		fmt.Fprintf(a.out, "letter %d: had been replayed as %s\n", r.Sequence, word(r.Job.ID))
	default:
		fmt.Fprintf(a.out, "letter %d: replayed as %s\n", r.Sequence, word(r.Job.ID))
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
