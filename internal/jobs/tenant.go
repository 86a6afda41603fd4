package jobs

import (
	"strings"

	"github.com/dspex/dspex/internal/contract"
)

// DefaultTenant is the tenant of a broker without accounts.
const DefaultTenant = contract.DefaultTenant

// MaxTenant bounds a tenant's name.
const MaxTenant = contract.MaxTenant

// ValidTenant reports whether name may be a tenant's: [A-Za-z0-9_-]{1,64}.
func ValidTenant(name string) bool { return contract.ValidToken(name, MaxTenant) }

// SessionRef names a session: ids belong to their tenant. With an empty ID it stands for the tenant's jobs without session.
//
// All keys and subjects that hold something of a session are made here. Those of the tenant default have no tenant in them, as in records
// from before there were tenants. Neither tenants nor ids have dots, so the number of tokens keeps the two forms apart: wildcards of one
// form never match the other.
type SessionRef struct{ Tenant, ID string }

// Anonymous stands for the tenant's jobs without session.
func Anonymous(tenant string) SessionRef { return SessionRef{Tenant: tenant} }

// scope is the tenant and a dot, nothing for the tenant default.
func (r SessionRef) scope() string {
	if r.Tenant == DefaultTenant {
		return ""
	}
	return r.Tenant + "."
}

// Valid reports whether tenant and id may be there.
func (r SessionRef) Valid() bool { return ValidTenant(r.Tenant) && ValidSession(r.ID) }

// String names the session to people and workers: <id>, or <tenant>/<id>.
func (r SessionRef) String() string {
	if r.Tenant == DefaultTenant {
		return r.ID
	}
	return r.Tenant + "/" + r.ID
}

// RecordKey is the key of the session's record in dspex_sessions.
func (r SessionRef) RecordKey() string { return "s." + r.scope() + r.ID }

// AttemptRecordKey is the key of the small record of the session's running attempt, in dspex_sessions.
func (r SessionRef) AttemptRecordKey() string { return "h." + r.scope() + r.ID }

// ProgramKey is the key of an anonymous program of the tenant in dspex_sessions.
func (r SessionRef) ProgramKey(id string) string { return "a." + r.scope() + id }

// ResultKey is the key of a job's outcome in dspex_results.
func (r SessionRef) ResultKey(job string) string {
	if r.ID == "" {
		return "r.a." + r.scope() + job
	}
	return "r.s." + r.scope() + r.ID + "." + job
}

// AttemptKey is the key of the failed attempts of a job without session in dspex_results.
func (r SessionRef) AttemptKey(job string) string { return "t." + r.scope() + job }

// DeadSubject is where the dead letters of its jobs are kept.
func (r SessionRef) DeadSubject() string {
	if r.ID == "" {
		return strings.TrimSuffix(contract.DeadAnon+"."+r.scope(), ".")
	}
	return contract.DeadSession + r.scope() + r.ID
}

// InvalidSubject is where dead letters of the tenant's jobs are kept whose subject names no possible session.
func (r SessionRef) InvalidSubject() string {
	return strings.TrimSuffix(contract.DeadInvalid+"."+r.scope(), ".")
}

// PublishSubject is where a client publishes a job of the session, lane one of its tenant's jobs without session.
func (r SessionRef) PublishSubject(lane string) string {
	return r.subject(contract.SubjectSession, contract.SubjectAnonymous, lane)
}

// CallSubject is where a dispatcher keeps one. No client may publish there, so what stands in its headers is the dispatcher's.
func (r SessionRef) CallSubject(lane string) string {
	return r.subject(contract.SubjectCall, contract.SubjectCallAnonymous, lane)
}

func (r SessionRef) subject(session, anonymous, lane string) string {
	plain := session + r.ID
	if r.ID == "" {
		plain = anonymous + lane
	}
	if r.Tenant == DefaultTenant {
		return plain
	}
	return contract.InTenant(r.Tenant, plain)
}

// Last tokens of the subject under which the jobs' stream holds a job: who put it there.
const (
	byClient     = "session"
	byDispatcher = "call"
)

// QueueSubjects match the session's jobs in every layout of the stream, or the tenant's jobs without session: published ones,
// those that a dispatcher kept, and, of the tenant default, those from before there were tenants, or accounts.
func (r SessionRef) QueueSubjects() []string {
	if r.ID == "" {
		return append(r.laneSubjects(LaneInteractive), r.laneSubjects(LaneBatch)...)
	}
	all := []string{contract.SubjectStored + r.Tenant + "." + r.ID + ".*"}
	if r.Tenant == DefaultTenant {
		all = append(all, contract.SubjectStored+r.ID)
	}
	return all
}

// PublishedSubjects match the jobs of the session that clients published.
func (r SessionRef) PublishedSubjects() string {
	return contract.SubjectStored + r.Tenant + "." + r.ID + "." + byClient
}

func (r SessionRef) laneSubjects(lane string) []string {
	all := []string{r.PublishSubject(lane), r.CallSubject(lane)}
	if r.Tenant == DefaultTenant { // whose clients have an account of that name
		all = append(all, contract.InTenant(DefaultTenant, contract.SubjectAnonymous+lane))
	}
	return all
}

// Source is the content of the subject of a stored job.
type Source struct {
	Session SessionRef
	Lane    string // of a job without session
	Kept    bool   // a dispatcher put it there
}

// SourceOf reads the subject of a stored job. A subject that is none of ours has no tenant.
func SourceOf(subject string) Source {
	rest, ok := strings.CutPrefix(subject, contract.SubjectRoot)
	if !ok {
		return Source{}
	}
	token, tenant := strings.Split(rest, "."), DefaultTenant
	if token[0][:1] == "p" { // of any layout
		return sourceOfSession(token)
	}
	if len(token) > 2 && token[0] == "t" {
		tenant, token = token[1], token[2:]
	}
	switch {
	case len(token) == 2 && token[0] == "anonymous":
		return Source{Session: Anonymous(tenant), Lane: token[1]}
	case len(token) == 3 && token[0] == byDispatcher && token[1] == "anonymous":
		return Source{Session: Anonymous(tenant), Lane: token[2], Kept: true}
	}
	return Source{}
}

func sourceOfSession(token []string) Source {
	switch {
	case len(token) == 5 && (token[4] == byClient || token[4] == byDispatcher):
		return Source{Session: SessionRef{token[2], token[3]}, Kept: token[4] == byDispatcher}
	case len(token) == 3: // stored before there were tenants
		return Source{Session: SessionRef{DefaultTenant, token[2]}}
	}
	return Source{}
}

// LaneSubjects are where the jobs of a lane wait; those of tenants only where there are accounts.
func LaneSubjects(lane string, accounts bool) []string {
	all := []string{Anonymous(DefaultTenant).PublishSubject(lane), Anonymous(DefaultTenant).CallSubject(lane)}
	if accounts {
		all = append(all, Anonymous("*").PublishSubject(lane), Anonymous("*").CallSubject(lane))
	}
	return all
}
