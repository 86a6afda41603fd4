// Package calls accepts calls: a request is checked, admitted and kept in a stream as a job, whose host answers it.
package calls

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dspex/dspex/internal/dispatch/admission"
	"github.com/dspex/dspex/internal/dispatch/audit"
	"github.com/dspex/dspex/internal/dispatch/intake"
	"github.com/dspex/dspex/internal/dispatch/outcomes"
	"github.com/dspex/dspex/internal/dispatch/quota"
	"github.com/dspex/dspex/internal/dispatch/stores"

	"github.com/dspex/dspex/internal/dispatch/endpoint"

	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
	"github.com/dspex/dspex/internal/tracing"
)

// Calls accepts calls, with what its fields have.
type Calls struct {
	Broker    *stream.Access
	Stores    *stores.Stores
	Probes    *stores.Probes
	Quotas    *quota.Meter
	Admission *admission.Gate
	Trail     *audit.Trail
	Timeouts  *outcomes.Timeouts
	Traces    *tracing.Tracer // nil: there are no spans
	refusedBy sync.Map        // code of a refused call -> *atomic.Int64
	asides    sync.WaitGroup  // looks whether a session is there
}

// Refused counts the calls that were refused for lack of room, by the code of the error.
func (c *Calls) Refused() map[string]int64 {
	counts := map[string]int64{}
	for _, code := range roomCodes {
		counts[code] = 0
		if n, ok := c.refusedBy.Load(code); ok {
			counts[code] = n.(*atomic.Int64).Load()
		}
	}
	return counts
}

// Wait waits for the calls that are being accepted.
func (c *Calls) Wait() { c.asides.Wait() }

// Session accepts a session's call: checked, then kept in the stream; the host answers the inbox.
func (c *Calls) Session(r endpoint.Request) {
	id := r.Subject()[strings.LastIndexByte(r.Subject(), '.')+1:]
	if !jobs.ValidSession(id) {
		e := jobs.Errorf(jobs.Session, jobs.CodeBadSession, "the session id is not allowed")
		e.Expected = "1 to 64 of A-Z a-z 0-9 _ -"
		endpoint.Refuse(r, e)
		return
	}
	c.call(r, endpoint.SessionOf(r, id))
}

// Anonymous accepts a call without a session.
func (c *Calls) Anonymous(r endpoint.Request) {
	c.call(r, endpoint.SessionOf(r, ""))
}

func (c *Calls) call(r endpoint.Request, to jobs.SessionRef) {
	env, bad := callHeaders(r)
	if bad != nil {
		endpoint.Refuse(r, bad)
		return
	}
	c.accept(r, env, to, r.Data())
}

// callHeaders reads the headers of a request that becomes a call.
func callHeaders(r endpoint.Request) (jobs.Envelope, *jobs.Error) {
	header := maps.Clone(r.Headers())
	delete(header, jobs.HeaderTenant) // it has been looked at
	env, bad := jobs.ParseHeaders(header, 0)
	for _, name := range []string{jobs.HeaderReplyTo, jobs.HeaderMode} {
		if bad == nil && one(header, name) != "" {
			bad = jobs.Refused(jobs.CodeBadHeader, name, "no such header: a call is answered in its inbox", "%s is for durable publishes", name)
		}
	}
	return env, bad
}

// accept stores a call, once it is checked.
func (c *Calls) accept(r endpoint.Request, env jobs.Envelope, to jobs.SessionRef, body []byte) {
	req, bad := jobs.ParseRequest(env.Type, body, c.Broker.MaxPayload/2)
	role := endpoint.RoleOf(r, c.Broker.Accounts())
	if bad == nil && to.ID == "" {
		to, bad = named(role, req, to)
	}
	if bad == nil {
		bad = role.Forbids(req, to)
	}
	r = c.Trail.Call(r, role, req, to, bad)
	if bad == nil {
		bad = c.Probes.Refusal(streamOf(to))
	}
	if bad == nil && (role != jobs.RoleOperator || !c.Broker.Accounts()) { // what an operator does about a crowd is not refused
		bad = c.Admission.Admit(to, env, r.Reply(), max(env.Deadline, req.Deadline))
	}
	full := false
	if bad == nil && role != jobs.RoleOperator {
		full, bad = c.Quotas.Admit(to.Tenant)
	}
	if bad != nil {
		c.Refuse(r, bad)
		return
	}
	if full && to.ID != "" {
		c.ifKnown(r, to, func() { c.keep(r, env, to, body, req) })
		return
	}
	c.keep(r, env, to, body, req)
}

// named is the session of the requester's tenant that the arguments of a call without a session name. The broker's permissions are to
// subjects: a client with permission for one session only must not reach another one by an argument.
func named(role jobs.Role, req jobs.Request, to jobs.SessionRef) (jobs.SessionRef, *jobs.Error) {
	id, bad := req.Named()
	if bad != nil || id == "" {
		return to, bad
	}
	if role == jobs.RoleClient {
		return to, jobs.Refused(jobs.CodeRole, "args.session_id", "no session_id here", "%s names a session by an argument, which needs the operator role", req.Command).
			WithHint("send it to %s<session>, without the role; operators to %s", jobs.RPCSession, jobs.RPCAdminAnonymous)
	}
	to.ID = id
	return to, nil
}

// refusals for lack of room, which metrics count.
var roomCodes = []string{jobs.CodeOverloaded, jobs.CodeQuota, jobs.CodeQueueFull, jobs.CodeStoreFull, jobs.CodeBroker}

// Refuse refuses a call and counts it, if it was for lack of room.
func (c *Calls) Refuse(r endpoint.Request, e *jobs.Error) {
	if slices.Contains(roomCodes, e.Code) {
		n, _ := c.refusedBy.LoadOrStore(e.Code, new(atomic.Int64))
		n.(*atomic.Int64).Add(1)
	}
	endpoint.Refuse(r, e)
}

// keep stores a call that is accepted.
func (c *Calls) keep(r endpoint.Request, env jobs.Envelope, to jobs.SessionRef, body []byte, req jobs.Request) {
	role := endpoint.RoleOf(r, c.Broker.Accounts())
	header := map[string][]string{
		jobs.HeaderMode: {string(jobs.ModeCall)}, jobs.HeaderReplyTo: {r.Reply()}, jobs.HeaderContentType: {env.Type},
	}
	if env.Chosen {
		header[jobs.HeaderJob] = []string{env.Job}
	}
	if env.Deadline > 0 {
		header[jobs.HeaderDeadline] = []string{strconv.FormatInt(env.Deadline.Milliseconds(), 10)}
	}
	of, above := c.Traces.Root(env.Trace)
	switch trace := cmp.Or(of.Traceparent(), env.Trace); {
	case trace == "":
	case env.Trace == "" && !of.Sampled():
		header[contract.HeaderTraceparent] = []string{contract.Untraced}
	default:
		header[contract.HeaderTraceparent] = []string{trace}
	}
	began := time.Now()
	if role != jobs.RoleClient && c.Broker.Accounts() {
		header[jobs.HeaderRole] = []string{string(role)}
	}
	c.Broker.Publish(to.CallSubject(outcomes.CallLane), header, body, func(ack stream.Ack, err error) {
		defer intake.Stored(r) // or refused below
		if of.Sampled() {
			c.span(of, above, began, to, env, req, ack.Sequence, err)
		}
		switch {
		case err != nil:
			c.Stores.Missed(err)
			c.Probes.Diagnose(streamOf(to), err, func(err error) { c.Refuse(r, endpoint.NotAccepted(err)) })
		default:
			if to.ID == "" {
				c.Timeouts.Expect(ack.Sequence, max(env.Deadline, req.Deadline))
			}
			job := env.Job
			if !env.Chosen {
				job = jobs.SequenceJob(ack.Sequence)
			}
			c.Trail.Job(r, job)
		}
	})
}

// span makes that of an accepted call: from its arrival until the broker has stored it.
func (c *Calls) span(of, above tracing.Context, began time.Time, to jobs.SessionRef, env jobs.Envelope, req jobs.Request, sequence uint64, err error) {
	s := tracing.Span{Name: "accept " + req.Command, Kind: tracing.Producer, Start: c.Broker.Clock.Now().Add(-time.Since(began)), End: c.Broker.Clock.Now(),
		Attributes: []tracing.Attribute{tracing.Text("messaging.system", "nats"), tracing.Text("messaging.operation.type", "send"),
			tracing.Text("dspex.command", req.Command), tracing.Text("dspex.tenant", to.Tenant)}}
	if to.ID != "" {
		s.Attributes = append(s.Attributes, tracing.Text("dspex.session", to.ID))
	}
	switch {
	case err != nil:
		s.Error = jobs.CodeBroker
	case env.Chosen:
		s.Attributes = append(s.Attributes, tracing.Text("dspex.job", env.Job))
	default:
		s.Attributes = append(s.Attributes, tracing.Text("dspex.job", jobs.SequenceJob(sequence)))
	}
	c.Traces.RecordAs(of, above, s)
}

// streamOf is the stream that keeps the calls of a session, or those without one.
func streamOf(to jobs.SessionRef) string {
	if to.ID == "" {
		return stream.Anonymous
	}
	return stream.Jobs
}

func one(h map[string][]string, key string) string {
	if v := h[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// ifKnown runs keep if the session is there, and refuses the call else.
func (c *Calls) ifKnown(r endpoint.Request, of jobs.SessionRef, keep func()) {
	done, bad := c.Quotas.Look()
	if bad != nil {
		c.Refuse(r, bad)
		return
	}
	c.asides.Go(func() {
		defer done()
		if bad := c.Quotas.KnownSession(of); bad != nil {
			c.Refuse(r, bad)
			return
		}
		keep()
	})
}
