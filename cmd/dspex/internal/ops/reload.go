package ops

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

// Reload is `dspex reload`.
func Reload(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use: "reload [HOST...]", Short: "Have worker-hosts read their file of settings again",
		Long: `Have the hosts, or all of them, read their file of settings again: the file of each host, on its machine. The size of
the pool, LM profiles, thresholds and timeouts change at once, and no job is lost. What needs a restart is named and keeps its
value. A host whose file has a fault changes nothing.

SIGHUP to a worker-host, a dispatcher or dspex dev does the same without the broker. An operator's action: the audit trail has it.

Exit status: 0 every host has read its settings; 1 one has not.`,
		Example: "  dspex reload\n  dspex reload h1 h2 -o json",
		RunE: func(cmd *cobra.Command, hosts []string) error {
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				all, err := reloadAll(ctx, c, hosts)
				if err != nil {
					return err
				}
				if !a.Text() {
					err = a.Say(map[string]any{"hosts": all})
				} else {
					sayReloads(a, all)
				}
				if refused := refusedBy(all); err == nil && refused > 0 {
					err = &cli.Failure{Status: 1, Text: fmt.Sprintf("%d of %d hosts changed nothing", refused, len(all))}
				}
				return err
			})
		},
	}
}

func reloadAll(ctx context.Context, c *dspex.Client, hosts []string) ([]dspex.HostReload, error) {
	if len(hosts) == 0 {
		hosts = []string{""}
	}
	var all []dspex.HostReload
	for _, host := range hosts {
		done, err := c.Admin().ReloadHosts(ctx, host)
		if err != nil {
			return nil, err
		}
		all = append(all, done...)
	}
	return all, nil
}

func refusedBy(all []dspex.HostReload) (n int) {
	for _, h := range all {
		if len(h.Faults) > 0 {
			n++
		}
	}
	return n
}

func sayReloads(a *cli.App, all []dspex.HostReload) {
	for _, h := range all {
		fmt.Fprintf(a.Out, "%s  %s\n", cli.Word(h.Host), cli.FirstOf(cli.Clean(h.File), "no file of settings"))
		for _, fault := range h.Faults {
			fmt.Fprintf(a.Out, "  refused        %s\n", cli.Clean(fault))
		}
		for _, s := range h.Taken {
			fmt.Fprintf(a.Out, "  taken over     %s\n", cli.Setting(s.Key, s.Was, s.Is, s.Why))
		}
		for _, s := range h.Restart {
			fmt.Fprintf(a.Out, "  needs restart  %s\n", cli.Setting(s.Key, s.Was, s.Is, s.Why))
		}
		if len(h.Faults)+len(h.Taken)+len(h.Restart) == 0 {
			fmt.Fprintln(a.Out, "  nothing has changed")
		}
	}
	if len(all) == 0 {
		fmt.Fprintln(a.Err, "no host is alive")
	}
}
