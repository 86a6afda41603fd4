package jobs

import "github.com/dspex/dspex/internal/contract"

// Role is what somebody may do. It follows from the subject that a request comes by, since that is what the broker's permissions keep
// apart; no message names its owner.
type Role string

// The roles. Each may do what those before it may.
const (
	RoleClient   Role = ""                    // calls and publishes jobs
	RoleTenant   Role = contract.RoleTenant   // looks after the sessions of one tenant
	RoleOperator Role = contract.RoleOperator // looks after the deployment
)

// roleOf reads a role that a dispatcher has noted. One that is not known gives no rights.
func roleOf(text string) Role {
	switch role := Role(text); role {
	case RoleTenant, RoleOperator:
		return role
	}
	return RoleClient
}

// Needs is the role that the command needs there.
func (r Request) Needs(at SessionRef) Role { return Role(contract.RoleNeeded(r.Command, at.ID != "")) }

// Forbids is the error of a command that the role may not use there, nil if it may.
func (role Role) Forbids(r Request, at SessionRef) *Error {
	needed := r.Needs(at)
	if needed == RoleClient || role == RoleOperator || role == needed {
		return nil
	}
	what := r.Command
	if at.ID == "" && needed == RoleOperator && (what == "set_lm" || what == "configure_lm") {
		what += " without a session"
	}
	to := contract.RPCAdminAnonymous
	if at.ID != "" {
		to = contract.RPCAdminSession + "<session>"
	}
	e := Refused(CodeRole, "command", "the operator role", "%s needs the operator role", what)
	if role == RoleTenant {
		return e.WithHint("it concerns all tenants: operators of a tenant may not use it")
	}
	return e.WithHint("operators send it to %s (`dspex call --operator`); published jobs never have the role", to)
}
