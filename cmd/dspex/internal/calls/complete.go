package calls

import (
	"strings"

	"github.com/spf13/cobra"
)

// usual are the commands of every deployment (contract/commands.md). Those of its own modules are not known here.
var usual = []string{
	"cleanup", "cleanup_session\tremove the state of a session", "create_program\tmake a program from a signature", "delete_program", "execute_program\trun a program",
	"get_program_info", "get_session_data", "get_stats", "list_programs", "ping", "predict\tanswer a question, or run a signature", "reset_state", "set_lm\tchoose a language model",
	"update_session_data",
}

// completeCommand completes the command after `call`, and nothing behind it: arguments are the command's own.
func completeCommand(_ *cobra.Command, words []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(words) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var fit []cobra.Completion
	for _, name := range usual {
		if strings.HasPrefix(name, typed) {
			fit = append(fit, name)
		}
	}
	return fit, cobra.ShellCompDirectiveNoFileComp
}
