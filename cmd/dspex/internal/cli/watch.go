package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

// watchPause is the time between two pictures of a command that is watched; tests set it.
var watchPause = 2 * time.Second

// clearScreen puts what follows at the top of an empty terminal.
const clearScreen = "\x1b[H\x1b[2J"

// Watched adds --watch to a command that shows something of one moment.
func Watched(a *App, cmd *cobra.Command) *cobra.Command {
	var watch bool
	cmd.Flags().BoolVar(&watch, "watch", false, "show it again every 2 s, until it is interrupted")
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !watch {
			return run(cmd, args)
		}
		if a.Output == "json" {
			return Usage("--watch prints one picture after the other: use -o jsonl")
		}
		for {
			if a.Text() && IsTerminal(a.Out) {
				fmt.Fprint(a.Out, clearScreen)
			}
			if err := run(cmd, args); err != nil && !errors.Is(err, ErrSilent) {
				return err
			}
			select {
			case <-cmd.Context().Done():
				return nil
			case <-time.After(watchPause):
			}
		}
	}
	return cmd
}
