package dispatch

import (
	"log/slog"
	"slices"
	"strings"

	"github.com/dspex/dspex/internal/dispatch/endpoint"

	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/jobs"
)

// Tenants send requests to subjects of their own, which the broker makes of the account that a request comes from. Under the plain
// ones are for the clients of a broker without accounts, and the operators of one with accounts, who may name a tenant.

// tenantSubject is a tenants' subject of an endpoint.
func tenantSubject(plain string) string {
	return contract.InTenant("*", plain)
}

// forTenants are the endpoints that concern a tenant's own jobs and sessions. All others concern the service as a whole.
var forTenants = []string{
	jobs.RPCSession + "*", jobs.RPCAnonymous, jobs.RPCAdminSession + "*", jobs.RPCAdminAnonymous, jobs.RPCJobsGet, jobs.RPCJobsCancel, jobs.RPCJobsList, contract.RPCJobsSubmit, jobs.RPCHealth, jobs.RPCStats, jobs.RPCBreakersList,
	jobs.RPCDeadList, jobs.RPCDeadShow, jobs.RPCDeadReplay, jobs.RPCDeadPurge,
	jobs.RPCSessionsList, jobs.RPCSessionsGet, jobs.RPCSessionsExport, jobs.RPCSessionsCleanup, jobs.RPCSessionsImport, jobs.RPCSessionsErase,
	contract.RPCObjectsGet, contract.RPCObjectsUpload, contract.RPCObjectsComplete,
	contract.RPCBatchesUpload, contract.RPCBatchesSubmit, contract.RPCBatchesGet, contract.RPCBatchesList, contract.RPCBatchesResults, contract.RPCBatchesCancel, contract.RPCBatchesErase,
}

// ofTenants are the endpoints as tenants see them.
func ofTenants(all []served) (theirs []served) {
	for _, e := range all {
		if slices.Contains(forTenants, e.subject) {
			e.name, e.subject = "tenant-"+e.name, tenantSubject(e.subject)
			theirs = append(theirs, e)
		}
	}
	return theirs
}

// rightful runs f for requests that name no tenant but the one that they may.
func rightful(accounts func() bool, f func(endpoint.Request)) func(endpoint.Request) {
	return func(r endpoint.Request) {
		named := r.Headers().Get(jobs.HeaderTenant)
		tenants := strings.HasPrefix(r.Subject(), endpoint.TenantRoot)
		switch {
		case named == "":
			f(r)
		case tenants || !accounts():
			endpoint.Refuse(r, jobs.Refused(jobs.CodeBadHeader, jobs.HeaderTenant, "no such header", "%s is for operators of a broker with accounts", jobs.HeaderTenant))
		case !jobs.ValidTenant(named):
			endpoint.Refuse(r, jobs.Refused(jobs.CodeBadHeader, jobs.HeaderTenant, "1 to 64 of A-Z a-z 0-9 _ -", "the tenant's name is not allowed"))
		default:
			f(r)
		}
	}
}

// answerable runs f for requests that may be answered. A reply goes out with the dispatcher's permissions, so the requester cannot
// choose any subject: under dspex. and $ not even the refusal is sent.
func answerable(log *slog.Logger, f func(endpoint.Request)) func(endpoint.Request) {
	return func(r endpoint.Request) {
		to := r.Reply()
		switch {
		case jobs.ValidInbox(to):
			f(r)
		case to == "": // nobody could be answered
		case strings.HasPrefix(to, contract.SubjectRoot) || strings.HasPrefix(to, "$"):
			log.Warn("reply_subject_refused", "subject", r.Subject())
		default:
			e := jobs.Errorf(jobs.Python, jobs.CodeBadReply, "the reply subject is not allowed")
			e.Expected = "a subject without wildcards under _INBOX. or dspex.reply."
			endpoint.Refuse(r, e)
		}
	}
}
