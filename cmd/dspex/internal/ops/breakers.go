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

// Breakers is `dspex breakers`.
func Breakers(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use: "breakers", Short: "Show the circuit breakers",
		Long: `Show the circuit breakers of each host's workers (pool.HOST), of their starts (start.HOST) and of each language model
(lm.PROVIDER/MODEL). While one is open, calls that need it fail at once and published jobs wait.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				list, err := c.Admin().Breakers(ctx)
				if err != nil {
					return err
				}
				return sayBreakers(a, list)
			})
		},
	}
	cmd.AddCommand(&cobra.Command{
		Use: "reset NAME", Short: "Close a circuit breaker on all hosts", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				b, err := c.Admin().ResetBreaker(ctx, args[0])
				if err != nil {
					return err
				}
				return sayBreakers(a, []dspex.Breaker{b})
			})
		},
	})
	return cmd
}

func sayBreakers(a *cli.App, list []dspex.Breaker) error {
	if !a.Text() {
		raw := make([]json.RawMessage, len(list))
		for i, b := range list {
			raw[i] = b.Raw
		}
		return a.Say(map[string]any{"breakers": raw})
	}
	table := cli.Columns{App: a, Head: []string{"BREAKER", "STATE", "FAILURES", "SUCCESSES", "TRIALS", "RETRY IN", "LAST FAILURE"}, Right: []bool{false, false, true, true, true, true, false}, Least: []int{4, 3, 6}}
	var rows [][]string
	for _, b := range list {
		retry, last := "-", "-"
		if b.State == dspex.BreakerOpen {
			retry = cli.Span(b.RetryIn)
		}
		if b.LastFailure != nil {
			last = fmt.Sprintf("%s %s", cli.Word(b.LastFailure.What), b.LastFailure.At.Local().Format(time.TimeOnly))
		}
		rows = append(rows, []string{cli.Word(b.Name), cli.Word(string(b.State)), fmt.Sprintf("%d/%d", b.FailureCount, b.Config.FailureThreshold),
			fmt.Sprintf("%d/%d", b.SuccessCount, b.Config.SuccessThreshold), strconv.Itoa(b.HalfOpenCount), retry, last})
	}
	table.Write(a.Out, rows)
	return nil
}
