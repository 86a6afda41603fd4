// Package audit records what operators do, and serves the endpoint that lists it.
package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

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

// Which reports which requests of an endpoint are recorded.
type Which string

// Kinds of endpoints.
const (
	None     Which = "none"     // they change nothing, and show nothing that a client has sent
	All      Which = "all"      // the requester
	Operator Which = "operator" // an operator's of a broker with accounts, who acts upon a tenant's jobs; clients do it with their own
	Calls    Which = "calls"    // the command decides (auditsCall)
)

// record is what is kept of one action: no bodies and no free text but short names.
type record struct {
	Schema     int            `json:"schema"`
	At         string         `json:"at"`
	Dispatcher string         `json:"dispatcher"`
	Action     string         `json:"action"`
	Role       string         `json:"role"`
	Who        *who           `json:"who,omitempty"`
	Tenant     string         `json:"tenant,omitempty"`
	Args       map[string]any `json:"args"`
	Bytes      int            `json:"body_bytes"`
	Hash       string         `json:"body_sha256"`
	Outcome    string         `json:"outcome"`
	Error      *failure       `json:"error,omitempty"`
	Job        string         `json:"job,omitempty"`
}

// who is the broker's information about the requester. Without accounts it is no evidence.
type who struct {
	Account string `json:"account,omitempty"`
	User    string `json:"user,omitempty"`
	Name    string `json:"name,omitempty"` // of the connection, as its owner has called it
	Host    string `json:"host,omitempty"`
}

type failure struct {
	Category string `json:"error_category"`
	Code     string `json:"code"`
}

const (
	schema   = 1
	accepted = "accepted"
	refused  = "refused"
)

// audited is a request whose answer goes out when what it did is recorded.
type audited struct {
	endpoint.Request
	trail  *Trail
	record record
}

// Recording records the requests of an endpoint under the name of an action.
func (g *Trail) Recording(of Which, action string, f func(endpoint.Request)) func(endpoint.Request) {
	switch of {
	case None, Calls:
		return f
	}
	return func(r endpoint.Request) {
		role := endpoint.RoleOf(r, g.broker.Accounts())
		if of == Operator && !(g.broker.Accounts() && role == jobs.RoleOperator) {
			f(r)
			return
		}
		a := g.audit(r, action, role, endpoint.TenantOf(r))
		a.readBody()
		f(a)
	}
}

// auditsCall reports whether a call is recorded, and under which name.
func (g *Trail) auditsCall(role jobs.Role, req jobs.Request, to jobs.SessionRef, bad *jobs.Error) (action string, recorded bool) {
	needed := req.Needs(to)
	switch {
	case role == jobs.RoleClient && (bad == nil || bad.Code != jobs.CodeRole):
		return "", false
	case needed != jobs.RoleClient:
		return "call." + req.Command, true // one of ours: Needs names them
	case role == jobs.RoleTenant:
		return "", false
	}
	return "call", g.broker.Accounts()
}

// Call begins the record of a call if there is to be one.
func (g *Trail) Call(r endpoint.Request, role jobs.Role, req jobs.Request, to jobs.SessionRef, bad *jobs.Error) endpoint.Request {
	if _, is := r.(*audited); is {
		return r
	}
	action, recorded := g.auditsCall(role, req, to, bad)
	if !recorded {
		return r
	}
	a := g.audit(r, action, role, to.Tenant)
	a.readArgs(req.Args)
	a.record.Args["command"] = jobs.Clip(req.Command)
	if to.ID != "" {
		a.record.Args["session"] = to.ID
	}
	return a
}

func (g *Trail) audit(r endpoint.Request, action string, role jobs.Role, tenant string) *audited {
	sum := sha256.Sum256(r.Data())
	a := &audited{Request: r, trail: g, record: record{
		Schema: schema, At: endpoint.TimeText(g.broker.Clock.Now()), Dispatcher: g.dispatcher, Action: action, Role: string(role), Args: map[string]any{},
		Bytes: len(r.Data()), Hash: hex.EncodeToString(sum[:]), Outcome: accepted,
	}}
	if role == jobs.RoleClient {
		a.record.Role = "client"
	}
	if jobs.ValidTenant(tenant) {
		a.record.Tenant = tenant
	}
	if g.broker.Accounts() {
		a.record.Who = requester(r.Headers().Get(headerClientInfo))
	}
	return a
}

// headerClientInfo is the broker's information about the requester through an import of another account. In the service's own account
// the requester could write it.
const headerClientInfo = "Nats-Request-Info"

func requester(info string) *who {
	var i struct{ Acc, User, Name, Host string }
	if json.Unmarshal([]byte(info), &i) != nil {
		return nil
	}
	return &who{Account: jobs.Clip(i.Acc), User: jobs.Clip(i.User), Name: jobs.Clip(i.Name), Host: jobs.Clip(i.Host)}
}

// recordedArgs are the arguments that are recorded, if they are short: names, numbers and choices. All others may hold what a client has
// sent, or a secret.
var recordedArgs = map[string]bool{
	"session": true, "session_id": true, "job": true, "host": true, "partitions": true, "stream": true, "consumer": true, "name": true,
	"sequence": true, "anonymous": true, "all": true, "error_category": true, "code": true, "older_than_ms": true, "newer_than_ms": true, "replayed": true,
	"limit": true, "replace": true, "id": true, "model": true, "provider": true,
}

const longestArg = 128 // bytes of an argument

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
		case recordedArgs[key] && kind == wire.Str:
			var v string
			if v, err = in.Str(); err == nil && len(v) <= longestArg {
				a.record.Args[key] = v
			}
		case recordedArgs[key] && kind == wire.Int:
			a.record.Args[key], err = in.Int()
		case recordedArgs[key] && kind == wire.Bool:
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
	if len(body)+answerMargin > a.trail.broker.MaxPayload {
		return service.ErrTooLarge
	}
	a.trail.keepRecord(a.record, func() { _ = a.Request.Respond(body, headers) })
	return nil
}

// Refuse answers when that it was refused is recorded.
func (a *audited) Refuse(number int, text string, body []byte, headers service.Headers) error {
	a.trail.keepRecord(a.record, func() { _ = a.Request.Refuse(number, text, body, headers) })
	return nil
}

// Unwrap is the request as it came.
func (a *audited) Unwrap() endpoint.Request { return a.Request }

// NoteRefusal notes why the request is refused (endpoint.Refuse).
func (a *audited) NoteRefusal(e *jobs.Error) {
	a.record.Outcome, a.record.Error = refused, &failure{string(e.Category), e.Code}
}

// Job records, if that is to be, a request that has become a job, whose host answers.
func (g *Trail) Job(r endpoint.Request, job string) {
	if a, is := r.(*audited); is {
		a.record.Job = job
		g.keepRecord(a.record, func() {})
	}
}

// subject is where the record is kept: what tenants do has a share of its own.
func (r *record) subject() string {
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
func (g *Trail) keepRecord(r record, then func()) {
	body, err := json.Marshal(r)
	if err != nil {
		panic(err) // names and numbers always marshal
	}
	if err := g.stores.Takes(stream.Audit); errors.Is(err, stream.ErrStoreFull) { // known before: nobody waits for it
		g.miss(body, err)
		then()
		return
	}
	g.broker.Publish(r.subject(), nil, body, func(_ stream.Ack, err error) {
		if err != nil {
			g.stores.Missed(err)
			g.miss(body, err)
		}
		then()
	})
}

// keeper is what is known of the stream that keeps the records.
type keeper interface {
	Takes(stream string) error // why it takes no writes
	Missed(err error)          // a write that no stream took
}

// reportedFor is how long health names records that were lost.
const reportedFor = 10 * time.Minute

// New records the request of the dispatcher of that name.
func New(dispatcher string, broker *stream.Access, of keeper, log *slog.Logger) *Trail {
	return &Trail{broker: broker, log: log, dispatcher: dispatcher, stores: of}
}

// Trail records actions, and counts what could not be recorded.
type Trail struct {
	broker     *stream.Access
	log        *slog.Logger
	dispatcher string
	stores     keeper

	mu   sync.Mutex
	lost int64
	last time.Time
}

func (g *Trail) miss(record []byte, err error) {
	g.mu.Lock()
	g.lost++
	g.last = time.Now()
	g.mu.Unlock()
	g.log.Error("audit_not_recorded", "record", json.RawMessage(record), "error", err, "hint", "the action was executed anyway; keep this line")
}

// Lost counts the actions that could not be recorded.
func (g *Trail) Lost() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lost
}

// Reasons report to the health check for a while what was not recorded.
func (g *Trail) Reasons(now time.Time) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.lost == 0 || now.Sub(g.last) >= reportedFor {
		return nil
	}
	return []string{fmt.Sprintf("%d actions of operators could not be recorded in %s, the last one %s ago: the dispatchers' logs have them (audit_not_recorded)", g.lost, stream.Audit, now.Sub(g.last).Round(time.Second))}
}
