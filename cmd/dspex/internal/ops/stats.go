package ops

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

// Stats is `dspex stats`.
func Stats(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:   "stats",
		Short: "Show the pool's numbers",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				stats, err := c.Stats(ctx)
				if err != nil {
					return err
				}
				if !a.Text() {
					return a.Say(withEngine(stats))
				}
				a.Table(a.Out, "", statRows(stats))
				return nil
			})
		},
	}
}

// withEngine is the raw result with the engine among its extra keys.
func withEngine(s dspex.Stats) any {
	if s.Engine == "" {
		return s.Raw
	}
	var stats map[string]json.RawMessage
	var extra map[string]any
	if json.Unmarshal(s.Raw, &stats) != nil || json.Unmarshal(stats["extra"], &extra) != nil || extra == nil {
		return s.Raw
	}
	extra["engine"] = s.Engine
	all := map[string]any{"extra": extra}
	for key, value := range stats {
		if key != "extra" {
			all[key] = value
		}
	}
	return all
}

// statRows are the numbers under the names that they have on the wire.
func statRows(s dspex.Stats) []cli.Row {
	return []cli.Row{
		{"pool_size", fmt.Sprint(s.PoolSize)},
		{"active_workers", fmt.Sprint(s.ActiveWorkers)},
		{"available_workers", fmt.Sprint(s.AvailableWorkers)},
		{"overflow_workers", fmt.Sprint(s.OverflowWorkers)},
		{"active_sessions", fmt.Sprint(s.ActiveSessions)},
		{"total_requests", fmt.Sprint(s.TotalRequests)},
		{"total_errors", fmt.Sprint(s.TotalErrors)},
		{"average_response_time", fmt.Sprintf("%d ms", s.AverageResponseTime.Milliseconds())},
		{"affinity", counted(s.AffinityHits, "hit", "hits") + ", " + counted(s.AffinityMisses, "miss", "misses") + ", " + counted(s.AffinityMoves, "move", "moves")},
		{"engine", cli.Word(s.Engine)},
		{"sandbox", cli.Dash(s.Sandbox)},
		{"uptime", s.Uptime.String()},
	}
}

func counted(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.FormatInt(n, 10) + " " + many
}
