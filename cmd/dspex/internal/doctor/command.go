package doctor

import (
	"github.com/spf13/cobra"

	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

// Command is `dspex doctor`.
func Command(a *cli.App) *cobra.Command {
	var probe, local, fix bool
	var path, monitor string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Diagnose this machine, the broker and the deployment",
		Long: `Diagnose this machine, the broker and the deployment, and suggest fixes. Without --fix it changes nothing.

--fix mends what is safe, and shows each before and after: settings of streams and buckets that would lose jobs, consumers that an earlier
epoch left behind, and secrets that everybody on this machine may read. It waits for the leader to make what is missing. Nothing that is
stored is removed. The broker's objects need the permissions of a dispatcher.

Some checks need the permissions of an operator; without them they are left out and listed as such. --probe runs one small prediction
with each language-model profile that the file of settings names: that costs money.

Exit status: 0 nothing is wrong, or all of it was mended; 1 something is. Warnings and notes do not count.`,
		Example: "  dspex doctor\n  dspex doctor --local          # without a broker\n  dspex doctor --fix\n  dspex doctor -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := &doctor{app: a, path: path, monitor: monitor, probe: probe, fix: fix}
			d.machine(cmd.Context())
			if !local {
				d.deployment(cmd.Context())
			}
			return d.say()
		},
	}
	f := cmd.Flags()
	f.BoolVar(&local, "local", false, "check only this machine")
	f.BoolVar(&fix, "fix", false, "mend what is safe")
	f.BoolVar(&probe, "probe", false, "call each language model of the file of settings once, through the deployment")
	f.StringVar(&path, "path", ".", "directory of your modules")
	f.StringVar(&monitor, "monitor", "", "address of the broker's monitoring (default: http://127.0.0.1:8222, for a broker on this machine)")
	return cmd
}
