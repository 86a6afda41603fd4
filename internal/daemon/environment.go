package daemon

import (
	"github.com/spf13/cobra"

	"github.com/dspex/dspex/internal/config"
)

// tellVariables adds each flag's variable to its help.
func tellVariables(root *cobra.Command) {
	config.TellVariables(root.LocalFlags())
	for _, c := range root.Commands() {
		config.TellVariables(c.LocalNonPersistentFlags())
	}
}

// set sets the flags that were not given from their variables and from the file of settings, and makes the log.
func (s *Surroundings) set(cmd *cobra.Command, log *logging) error {
	file, err := config.Set(cmd.Flags(), s.Env, ".")
	if err != nil {
		return err
	}
	if s.Log, err = log.logger(s.Err); err != nil {
		return err
	}
	if file.Path != "" {
		s.Log.Info("config_file", "path", file.Path)
	}
	for _, w := range file.Warnings {
		s.Log.Warn("config_warning", "text", w)
	}
	return nil
}
