package contract

import "slices"

// ofSessions are the commands of dspex that take the argument session_id. In a command of a user's modules an argument of that
// name is the user's own.
var ofSessions = []string{"create_program", "execute_program", "list_programs", "get_program_info", "delete_program", "set_lm", "configure_lm",
	"get_session_data", "update_session_data", "cleanup", "reset_state", "cleanup_session", "erase_session", "import_session"}

// ArgSession is the argument that names a session.
const ArgSession = "session_id"

// TakesSession reports whether the command's argument session_id names a session.
func TakesSession(command string) bool { return slices.Contains(ofSessions, command) }

// InlineOnly reports whether all arguments of the command must be in the request: who stores it looks at them.
func InlineOnly(command string) bool {
	return command == "set_lm" || command == "configure_lm" || RoleNeeded(command, true) != ""
}

// InlineArgs are the arguments that must be in the request itself, whatever the command: they are looked at before it runs.
var InlineArgs = []string{"api_key", "id", "program_id", ArgSession}

// RoleNeeded is the role that a command needs, in a session or without one: contract/commands.md, "Roles". "" is anybody's.
func RoleNeeded(command string, inSession bool) string {
	switch command {
	case "shutdown", "push_program", "withdraw_program":
		return RoleOperator
	case "set_lm", "configure_lm":
		if !inSession { // it chooses for everybody
			return RoleOperator
		}
	case "erase_session", "import_session":
		return RoleTenant
	}
	return ""
}
