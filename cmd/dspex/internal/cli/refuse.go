package cli

import (
	"errors"

	"github.com/spf13/cobra"
)

// useless is a global flag that has no effect on a command: it is refused there, and not in its help.
type useless struct{ why string }

func (u useless) Set(string) error { return errors.New(u.why) }
func (useless) String() string     { return "" }
func (useless) Type() string       { return "string" }

// WithoutBroker is for commands that connect to no broker of others.
func WithoutBroker(cmd *cobra.Command) *cobra.Command {
	return without(cmd, "it does not connect to a broker", "server", "context")
}

// WithoutOutput is for commands that print their output as it comes.
func WithoutOutput(cmd *cobra.Command) *cobra.Command {
	return without(cmd, "it prints text only", "output")
}

func without(cmd *cobra.Command, why string, names ...string) *cobra.Command {
	for _, name := range names {
		short := map[string]string{"output": "o"}[name]
		cmd.Flags().VarPF(useless{why}, name, short, "").Hidden = true
	}
	return cmd
}
