package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

// manCommand writes the help of every command as man pages.
func manCommand(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use: "man DIR", Short: "Write man pages of all commands into a directory", Args: cobra.ExactArgs(1),
		Example: "  dspex man ~/.local/share/man/man1 && man dspex-call",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil { //nolint:gosec // man pages are for everybody
				return err
			}
			cmd.Root().DisableAutoGenTag = true // the same pages each time
			if err := doc.GenManTree(cmd.Root(), &doc.GenManHeader{Title: "DSPEX", Section: "1", Source: "dspex", Manual: "dspex"}, args[0]); err != nil {
				return err
			}
			fmt.Fprintf(a.Out, "man pages are in %s\n", cli.Word(args[0]))
			return nil
		},
	}
}
