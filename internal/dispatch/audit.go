package dispatch

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/dispatch/stores"

	"github.com/dspex/dspex/internal/dispatch/endpoint"
	"github.com/dspex/dspex/internal/service"

	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
	"github.com/dspex/dspex/internal/wire"
)

// What operators do is recorded in DSPEX_AUDIT (contract/audit.md), one record for each request, before its answer is sent. An
// action that cannot be recorded is done all the same: an operator who mends a broker must not be stopped by it. It is logged whole,
// counted, and named by health.

// audits says which requests of an endpoint are recorded.
type audits string

const (
	auditNone     audits = "none"     // they change nothing, and show nothing that a client has sent
	auditAll      audits = "all"      // whoever asks
	auditOperator audits = "operator" // an operator's of a broker with accounts, who acts upon a tenant's jobs; clients do it with their own
	auditCalls    audits = "calls"    // the command decides (auditsCall)
)

// auditRecord is what is kept of one action: no bodies and no free text but short names.
type auditRecord struct {
	Schema     int            `json:"schema"`
	At         string         `json:"at"`
	Dispatcher string         `json:"dispatcher"`
	Action     string         `json:"action"`
	Role       string         `json:"role"`
	Who        *auditWho      `json:"who,omitempty"`
	Tenant     string         `json:"tenant,omitempty"`
	Args       map[string]any `json:"args"`
	Bytes      int            `json:"body_bytes"`
	Hash       string         `json:"body_sha256"`
	Outcome    string         `json:"outcome"`
	Error      *auditError    `json:"error,omitempty"`
	Job        string         `json:"job,omitempty"`
}

// auditWho is what the broker says of whoever asks. Without accounts it says nothing.
type auditWho struct {
	Account string `json:"account,omitempty"`
	User    string `json:"user,omitempty"`
	Name    string `json:"name,omitempty"` // of the connection, as its owner has called it
	Host    string `json:"host,omitempty"`
}

type auditError struct {
	Category string `json:"error_category"`
	Code     string `json:"code"`
}

const (
	auditSchema   = 1
	auditAccepted = "accepted"
	auditRefused  = "refused"
)

// audited is a request whose answer goes out when what it did is recorded.
type audited struct {
	endpoint.Request
	d      *Dispatcher
	record auditRecord
}

// auditing records the requests of an endpoint.
func (d *Dispatcher) auditing(e served, f func(endpoint.Request)) func(endpoint.Request) {
	switch e.audit {
	case auditNone, auditCalls:
		return f
	}
	action := strings.TrimPrefix(e.plain, "dspex.rpc.")
	return func(r endpoint.Request) {
		role := d.roleOf(r)
		if e.audit == auditOperator && !(d.broker.Accounts() && role == jobs.RoleOperator) {
			f(r)
			return
		}
		a := d.audit(r, action, role, endpoint.TenantOf(r))
		a.readBody()
		f(a)
	}
}

// auditsCall reports whether a call is recorded, and under which name.
func (d *Dispatcher) auditsCall(role jobs.Role, req jobs.Request, to jobs.SessionRef, bad *jobs.Error) (action string, recorded bool) {
	needed := req.Needs(to)
	switch {
	case role == jobs.RoleClient && (bad == nil || bad.Code != jobs.CodeRole):
		return "", false
	case needed != jobs.RoleClient:
		return "call." + req.Command, true // one of ours: Needs names them
	case role == jobs.RoleTenant:
		return "", false
	}
	return "call", d.broker.Accounts()
}

// auditCall begins the record of a call if there is to be one.
func (d *Dispatcher) auditCall(r endpoint.Request, role jobs.Role, req jobs.Request, to jobs.SessionRef, bad *jobs.Error) endpoint.Request {
	if _, is := r.(*audited); is {
		return r
	}
	action, recorded := d.auditsCall(role, req, to, bad)
	if !recorded {
		return r
	}
	a := d.audit(r, action, role, to.Tenant)
	a.readArgs(req.Args)
	a.record.Args["command"] = jobs.Clip(req.Command)
	if to.ID != "" {
		a.record.Args["session"] = to.ID
	}
	return a
}

func (d *Dispatcher) audit(r endpoint.Request, action string, role jobs.Role, tenant string) *audited {
	sum := sha256.Sum256(r.Data())
	a := &audited{Request: r, d: d, record: auditRecord{
		Schema: auditSchema, At: endpoint.TimeText(d.broker.Clock.Now()), Dispatcher: d.cfg.Name, Action: action, Role: string(role), Args: map[string]any{},
		Bytes: len(r.Data()), Hash: hex.EncodeToString(sum[:]), Outcome: auditAccepted,
	}}
	if role == jobs.RoleClient {
		a.record.Role = "client"
	}
	if jobs.ValidTenant(tenant) {
		a.record.Tenant = tenant
	}
	if d.broker.Accounts() {
		a.record.Who = whoAsks(r.Headers().Get(headerClientInfo))
	}
	return a
}

// headerClientInfo is what the broker tells of whoever asks through an import of another account. In the service's own account
// whoever asks could write it.
const headerClientInfo = "Nats-Request-Info"

func whoAsks(info string) *auditWho {
	var i struct{ Acc, User, Name, Host string }
	if json.Unmarshal([]byte(info), &i) != nil {
		return nil
	}
	return &auditWho{Account: jobs.Clip(i.Acc), User: jobs.Clip(i.User), Name: jobs.Clip(i.Name), Host: jobs.Clip(i.Host)}
}

// auditArgs are the arguments that are recorded, if they are short: names, numbers and choices. All others may hold what a client has
// sent, or a secret.
var auditArgs = map[string]bool{
	"session": true, "session_id": true, "job": true, "host": true, "partitions": true, "stream": true, "consumer": true, "name": true,
	"sequence": true, "anonymous": true, "all": true, "error_category": true, "code": true, "older_than_ms": true, "newer_than_ms": true, "replayed": true,
	"limit": true, "replace": true, "id": true, "model": true, "provider": true,
}

const auditLongest = 128 // bytes of an argument

// readBody takes the arguments of a request's body, as far as it can be read.
func (a *audited) readBody() {
	body, kind := a.Data(), a.Headers().Get(jobs.HeaderContentType)
	if kind, bad := jobs.ContentType(kind); bad == nil && kind == jobs.JSON {
		var err error
		if body, err = wire.FromJSON(body, wire.Request); err != nil {
			return
		}
	} else if wire.Check(body, wire.Request) != nil {
		return
	}
	a.readArgs(body)
}

// readArgs takes those of a MessagePack map.
func (a *audited) readArgs(args []byte) {
	in := wire.NewReader(args)
	n, err := in.Map()
	for i := 0; i < n && err == nil; i++ {
		var key string
		if key, err = in.Str(); err != nil {
			return
		}
		switch kind := in.Kind(); {
		case auditArgs[key] && kind == wire.Str:
			var v string
			if v, err = in.Str(); err == nil && len(v) <= auditLongest {
				a.record.Args[key] = v
			}
		case auditArgs[key] && kind == wire.Int:
			a.record.Args[key], err = in.Int()
		case auditArgs[key] && kind == wire.Bool:
			a.record.Args[key], err = in.Bool()
		default:
			err = in.Skip()
		}
	}
}

// answerMargin is more than the headers of an answer take.
const answerMargin = 512

// Respond answers when the action is recorded.
func (a *audited) Respond(body []byte, headers service.Headers) error {
	if len(body)+answerMargin > a.d.broker.MaxPayload {
		return service.ErrTooLarge
	}
	a.d.keepRecord(a.record, func() { _ = a.Request.Respond(body, headers) })
	return nil
}

// Refuse answers when that it was refused is recorded.
func (a *audited) Refuse(number int, text string, body []byte, headers service.Headers) error {
	a.d.keepRecord(a.record, func() { _ = a.Request.Refuse(number, text, body, headers) })
	return nil
}

// NoteRefusal notes why the request is refused (endpoint.Refuse).
func (a *audited) NoteRefusal(e *jobs.Error) {
	a.record.Outcome, a.record.Error = auditRefused, &auditError{string(e.Category), e.Code}
}

// noteJob records, if that is to be, a request that has become a job, whose host answers.
func (d *Dispatcher) noteJob(r endpoint.Request, job string) {
	if a, is := r.(*audited); is {
		a.record.Job = job
		d.keepRecord(a.record, func() {})
	}
}

// subject is where the record is kept: what tenants do has a share of its own.
func (r *auditRecord) subject() string {
	of := r.Tenant
	if of == "" {
		of = jobs.DefaultTenant
	}
	switch jobs.Role(r.Role) {
	case jobs.RoleOperator:
		return contract.AuditOperator + r.Action
	case jobs.RoleTenant:
		return contract.AuditTenant + of
	}
	return contract.AuditClient + of
}

// keepRecord keeps a record, then goes on. It does not block.
func (d *Dispatcher) keepRecord(r auditRecord, then func()) {
	body, err := json.Marshal(r)
	if err != nil {
		panic(err) // names and numbers always marshal
	}
	if err := d.probes.Takes(stream.Audit); errors.Is(err, stream.ErrStoreFull) { // known before: nobody waits for it
		d.trail.miss(d, body, err)
		then()
		return
	}
	d.broker.Publish(r.subject(), nil, body, func(_ stream.Ack, err error) {
		if err != nil {
			d.stores.Missed(err)
			d.trail.miss(d, body, err)
		}
		then()
	})
}

// trail counts what could not be recorded.
type trail struct {
	mu   sync.Mutex
	lost int64
	last time.Time
}

func (t *trail) miss(d *Dispatcher, record []byte, err error) {
	t.mu.Lock()
	t.lost++
	t.last = time.Now()
	t.mu.Unlock()
	d.log.Error("audit_not_recorded", "record", json.RawMessage(record), "error", err, "hint", "the action was done all the same; keep this line")
}

func (t *trail) count() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lost
}

// reasons tell the health check for a while of what was not recorded.
func (t *trail) reasons(now time.Time) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lost == 0 || now.Sub(t.last) >= stores.ReportedFor {
		return nil
	}
	return []string{fmt.Sprintf("%d actions of operators could not be recorded in %s, the last one %s ago: the dispatchers' logs have them (audit_not_recorded)", t.lost, stream.Audit, now.Sub(t.last).Round(time.Second))}
}
