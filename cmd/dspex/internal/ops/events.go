package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

// Events is `dspex events`.
func Events(a *cli.App) *cobra.Command {
	var f dspex.EventFilter
	var follow bool
	cmd := &cobra.Command{
		Use: "events", Short: "Follow what the service reports: breakers, alerts, lost stores, ended batches, attempts",
		Long: `Follow what the service reports of itself from now on, until it is interrupted: changes of circuit breakers, alerts, stores that
were lost and made again, batches that have ended. contract/events.md describes each event.

It needs the permissions of an operator.`,
		Example: `  dspex events
  dspex events --attempts -o jsonl`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !follow {
				return cli.Usage("--follow=false: events are not kept to be listed; `dspex jobs list`, `dlq list` and `audit` list what is")
			}
			if a.Output == "json" {
				return cli.Usage("events never end, and -o json is one value at the end: use -o jsonl")
			}
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				if a.Text() && cli.IsTerminal(a.Err) {
					fmt.Fprintln(a.Err, a.Paint(a.Err, cli.Dim, "waiting for events; Ctrl-C ends it"))
				}
				for e, err := range c.Admin().Events(ctx, f) {
					if err != nil {
						return err
					}
					if err := sayEvent(a, e); err != nil {
						return err
					}
				}
				return denied(ctx)
			})
		},
	}
	cmd.Flags().BoolVar(&follow, "follow", true, "it always follows: what was reported before is not shown")
	cmd.Flags().BoolVar(&f.Attempts, "attempts", false, "also each attempt of a job: its wait for a slot, its run, its failure")
	return cmd
}

// denied is why the broker ended it, nil if it did not.
func denied(ctx context.Context) error {
	if f, ok := errors.AsType[*cli.Failure](context.Cause(ctx)); ok {
		return f
	}
	return nil
}

func sayEvent(a *cli.App, e dspex.Event) error {
	if e.Lost > 0 {
		fmt.Fprintf(a.Err, "%d events were lost: they came faster than they were written\n", e.Lost)
	}
	if !a.Text() {
		return a.Say(e.Raw)
	}
	var fields map[string]any
	if err := json.Unmarshal(e.Raw, &fields); err != nil {
		return err
	}
	name := strings.TrimPrefix(e.Name, "dspex.")
	_, err := fmt.Fprintf(a.Out, "%s  %s  %s\n", a.Paint(a.Out, cli.Dim, e.At.Local().Format(time.TimeOnly)),
		a.Paint(a.Out, eventColour(name), fmt.Sprintf("%-28s", cli.Word(name))), fieldText(fields))
	return err
}

// eventColour is red for what needs action, green for what is over.
func eventColour(name string) string {
	switch name[strings.LastIndexByte(name, '.')+1:] {
	case "opened", "reopened", "alert", "lost", "error":
		return cli.Red
	case "closed", "recovered", "reset":
		return cli.Green
	}
	return cli.Bold
}

// fieldText are the fields of an event as key=value; of an object the name and the state.
func fieldText(fields map[string]any) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		value := fields[key]
		if key == "event" || key == "at" || value == nil {
			continue
		}
		if object, ok := value.(map[string]any); ok {
			for _, inner := range []string{"name", "batch", "state", "phase"} {
				if v, ok := object[inner]; ok {
					parts = append(parts, fmt.Sprintf("%s=%v", inner, v))
				}
			}
			continue
		}
		parts = append(parts, fmt.Sprintf("%s=%v", key, value))
	}
	return cli.Word(strings.Join(parts, " "))
}
