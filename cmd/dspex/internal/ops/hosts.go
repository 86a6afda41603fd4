package ops

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

// Hosts is `dspex hosts`.
func Hosts(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use: "hosts", Short: "List, drain and resume worker-hosts", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(cli.Watched(a, hostsListCommand(a)),
		drainCommand(a, "drain HOST", "Move a host's sessions to the others and keep it empty until it is resumed", true),
		drainCommand(a, "resume HOST", "Let a drained host serve again", false))
	return cmd
}

func hostsListCommand(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the worker-hosts, measured now", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				hosts, err := c.Admin().Hosts(ctx)
				if err != nil {
					return err
				}
				if !a.Text() {
					return a.Say(hosts.Raw)
				}
				sayHosts(a, hosts)
				return nil
			})
		},
	}
}

func sayHosts(a *cli.App, hosts dspex.Hosts) {
	table := cli.Columns{
		App: a, Head: []string{"HOST", "STATE", "PARTITIONS", "WORKERS", "FREE SLOTS", "BUSY", "REQUESTS", "ERRORS", "HITS", "MISSES", "MOVES", "SANDBOX", "ENGINE"},
		Right: []bool{false, false, true, true, true, true, true, true, true, true, true, false, false},
		Least: []int{10, 9, 8, 11, 12, 5, 2, 7},
	}
	var rows [][]string
	for _, h := range hosts.Hosts {
		state := string(h.State)
		if h.Drain && h.State != dspex.HostDraining && h.State != dspex.HostDrained {
			state += ", drain"
		}
		if h.State == dspex.HostGone {
			rows = append(rows, []string{cli.Word(h.Host), cli.Word(state), strconv.Itoa(h.Partitions), "-", "-", "-", "-", "-", "-", "-", "-", "-", "-"})
			continue
		}
		count := func(n int64) string { return strconv.FormatInt(n, 10) }
		rows = append(rows, []string{
			cli.Word(h.Host), cli.Word(state), strconv.Itoa(h.Partitions), workersOf(h), fmt.Sprintf("%d/%d", h.Free, h.Capacity),
			count(h.BusySessions), count(h.TotalRequests), count(h.TotalErrors), count(h.AffinityHits), count(h.AffinityMisses), count(h.AffinityMoves), cli.Dash(h.Sandbox), cli.Dash(h.Engine),
		})
	}
	table.Write(a.Out, rows)
	if hosts.Unassigned > 0 {
		fmt.Fprintf(a.Err, "%d of %d partitions have no owner at the moment\n", hosts.Unassigned, hosts.Partitions)
	}
}

// workersOf reports how many of the workers serve, and how many do above them.
func workersOf(h dspex.HostInfo) string {
	text := fmt.Sprintf("%d/%d", h.ActiveWorkers, h.PoolSize)
	if h.OverflowWorkers > 0 {
		text += fmt.Sprintf("+%d", h.OverflowWorkers)
	}
	return text
}

func drainCommand(a *cli.App, use, short string, drain bool) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				do := c.Admin().ResumeHost
				if drain {
					do = c.Admin().DrainHost
				}
				if err := do(ctx, args[0]); err != nil {
					return err
				}
				if !a.Text() {
					return a.Say(map[string]any{"host": args[0], "drain": drain})
				}
				text := "it serves again; sessions come back to it as partitions are balanced"
				if drain {
					text = "its sessions move as soon as their jobs allow it; `dspex hosts list` shows the progress"
				}
				fmt.Fprintln(a.Err, a.Paint(a.Err, cli.Dim, text))
				return nil
			})
		},
	}
}
