package jobs

import (
	"github.com/dspex/dspex/internal/contract"
)

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
