// Package endpoint is what all request endpoints share: how a body is read into typed values, whose request it is, and how it is
// answered or refused.
package endpoint

import (
	"strings"

	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/service"
)

// Request is what came to an endpoint.
type Request = service.Request

// TenantRoot begins the subjects of a tenant: its name and the subject without the leading "dspex." follow.
const TenantRoot = contract.SubjectTenant

// TenantOf reports whose request it is.
func TenantOf(r Request) string {
	if rest, ok := strings.CutPrefix(r.Subject(), TenantRoot); ok {
		tenant, _, _ := strings.Cut(rest, ".")
		return tenant
	}
	if named := r.Headers().Get(jobs.HeaderTenant); named != "" {
		return named
	}
	return jobs.DefaultTenant
}

// SessionOf is a session of the requester's tenant.
func SessionOf(r Request, id string) jobs.SessionRef {
	return jobs.SessionRef{Tenant: TenantOf(r), ID: id}
}

// RoleOf reports what the requester may do: permissions distinguish endpoints, so the endpoint decides. Without accounts
// everybody may do everything.
func RoleOf(r Request, accounts bool) jobs.Role {
	plain, tenants := r.Subject(), false
	if rest, ok := strings.CutPrefix(plain, TenantRoot); ok {
		_, of, _ := strings.Cut(rest, ".")
		plain, tenants = contract.SubjectRoot+of, true
	}
	switch {
	case !accounts:
		return jobs.RoleOperator
	case plain == jobs.RPCAnonymous || strings.HasPrefix(plain, jobs.RPCSession):
		return jobs.RoleClient
	case tenants:
		return jobs.RoleTenant
	}
	return jobs.RoleOperator
}

// OnlyTenant reports whose numbers a request is about, if it is about one tenant's only.
func OnlyTenant(r Request, accounts bool) (tenant string, only bool) {
	if !accounts {
		return jobs.DefaultTenant, false
	}
	return TenantOf(r), strings.HasPrefix(r.Subject(), TenantRoot) || r.Headers().Get(jobs.HeaderTenant) != ""
}
