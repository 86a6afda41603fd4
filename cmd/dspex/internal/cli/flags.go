package cli

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// SessionGiven refuses an empty --session: an unset variable of a script must not make its jobs anonymous.
func SessionGiven(cmd *cobra.Command) error {
	if flag := cmd.Flags().Lookup("session"); flag.Changed && flag.Value.String() == "" {
		return Usage("--session is empty: leave it out for an anonymous job")
	}
	return nil
}

// NotEmpty refuses flags whose text is empty: an unset variable of a script must not leave out what it meant.
func NotEmpty(cmd *cobra.Command) (err error) {
	if err := SessionGiven(cmd); err != nil {
		return err
	}
	cmd.LocalFlags().VisitAll(func(flag *pflag.Flag) {
		if err == nil && flag.Changed && flag.Value.Type() == "string" && flag.Value.String() == "" {
			err = Usage("--%s is empty: leave it out, or give it a value", flag.Name)
		}
	})
	return err
}
