package dispatch

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/dspex/dspex/internal/dispatch/outcomes"

	"github.com/dspex/dspex/internal/dispatch/endpoint"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// callSession accepts a session's call: checked, then kept in the stream; the host answers the inbox.
func (d *Dispatcher) callSession(r endpoint.Request) {
	id := r.Subject()[strings.LastIndexByte(r.Subject(), '.')+1:]
	if !jobs.ValidSession(id) {
		e := jobs.Errorf(jobs.Session, jobs.CodeBadSession, "the session id is not allowed")
		e.Expected = "1 to 64 of A-Z a-z 0-9 _ -"
		endpoint.Refuse(r, e)
		return
	}
	d.call(r, endpoint.SessionOf(r, id))
}

func (d *Dispatcher) callAnonymous(r endpoint.Request) {
	d.call(r, endpoint.SessionOf(r, ""))
}

func (d *Dispatcher) call(r endpoint.Request, to jobs.SessionRef) {
	env, bad := callHeaders(r)
	if bad != nil {
		endpoint.Refuse(r, bad)
		return
	}
	d.accept(r, env, to, r.Data())
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
func (d *Dispatcher) accept(r endpoint.Request, env jobs.Envelope, to jobs.SessionRef, body []byte) {
	req, bad := jobs.ParseRequest(env.Type, body, d.broker.MaxPayload/2)
	role := endpoint.RoleOf(r, d.broker.Accounts())
	if bad == nil && to.ID == "" {
		to, bad = named(role, req, to)
	}
	if bad == nil {
		bad = role.Forbids(req, to)
	}
	r = d.trail.Call(r, role, req, to, bad)
	if bad == nil {
		bad = d.probes.Refusal(streamOf(to))
	}
	if bad == nil && (role != jobs.RoleOperator || !d.broker.Accounts()) { // what an operator does about a crowd is not refused
		bad = d.admissions.Admit(to, env, r.Reply(), max(env.Deadline, req.Deadline))
	}
	full := false
	if bad == nil && role != jobs.RoleOperator {
		full, bad = d.quotas.Admit(to.Tenant)
	}
	if bad != nil {
		d.refuseCall(r, bad)
		return
	}
	if full && to.ID != "" {
		d.ifKnown(r, to, func() { d.keep(r, env, to, body, req) })
		return
	}
	d.keep(r, env, to, body, req)
}

// named is the session of the asker's tenant that the arguments of a call without a session name. The broker's rights are to
// subjects: who has the rights of one session only must not reach another one by an argument.
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

// refusals that tell of a want of room, which metrics count.
var roomCodes = []string{jobs.CodeOverloaded, jobs.CodeQuota, jobs.CodeQueueFull, jobs.CodeStoreFull, jobs.CodeBroker}

// refuseCall refuses a call and counts it, if it was for want of room.
func (d *Dispatcher) refuseCall(r endpoint.Request, e *jobs.Error) {
	if slices.Contains(roomCodes, e.Code) {
		n, _ := d.refusedBy.LoadOrStore(e.Code, new(atomic.Int64))
		n.(*atomic.Int64).Add(1)
	}
	endpoint.Refuse(r, e)
}

// keep stores a call that is accepted.
func (d *Dispatcher) keep(r endpoint.Request, env jobs.Envelope, to jobs.SessionRef, body []byte, req jobs.Request) {
	role := endpoint.RoleOf(r, d.broker.Accounts())
	header := map[string][]string{
		jobs.HeaderMode: {string(jobs.ModeCall)}, jobs.HeaderReplyTo: {r.Reply()}, jobs.HeaderContentType: {env.Type},
	}
	if env.Chosen {
		header[jobs.HeaderJob] = []string{env.Job}
	}
	if env.Deadline > 0 {
		header[jobs.HeaderDeadline] = []string{strconv.FormatInt(env.Deadline.Milliseconds(), 10)}
	}
	if role != jobs.RoleClient && d.broker.Accounts() {
		header[jobs.HeaderRole] = []string{string(role)}
	}
	d.broker.Publish(to.CallSubject(outcomes.CallLane), header, body, func(ack stream.Ack, err error) {
		switch {
		case err != nil:
			d.stores.Missed(err)
			d.probes.Diagnose(streamOf(to), err, func(err error) { d.refuseCall(r, endpoint.NotAccepted(err)) })
		default:
			if to.ID == "" {
				d.timeouts.Expect(ack.Sequence, max(env.Deadline, req.Deadline))
			}
			job := env.Job
			if !env.Chosen {
				job = jobs.SequenceJob(ack.Sequence)
			}
			d.trail.Job(r, job)
		}
	})
}

// streamOf is the stream that keeps the calls of a session, or those without one.
func streamOf(to jobs.SessionRef) string {
	if to.ID == "" {
		return stream.Anonymous
	}
	return stream.Jobs
}

// answerable runs f for requests that may be answered. A reply goes out with the dispatcher's rights, so who asks cannot
// choose any subject: under dspex. and $ not even the refusal is sent.
func (d *Dispatcher) answerable(f func(endpoint.Request)) func(endpoint.Request) {
	return func(r endpoint.Request) {
		to := r.Reply()
		switch {
		case jobs.ValidInbox(to):
			f(r)
		case to == "": // nobody could be answered
		case strings.HasPrefix(to, "dspex.") || strings.HasPrefix(to, "$"):
			d.log.Warn("reply_subject_refused", "subject", r.Subject())
		default:
			e := jobs.Errorf(jobs.Python, jobs.CodeBadReply, "the reply subject is not allowed")
			e.Expected = "a subject without wildcards under _INBOX. or dspex.reply."
			endpoint.Refuse(r, e)
		}
	}
}

func one(h map[string][]string, key string) string {
	if v := h[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// ifKnown runs keep if the session is there, and refuses the call else.
func (d *Dispatcher) ifKnown(r endpoint.Request, of jobs.SessionRef, keep func()) {
	done, bad := d.quotas.Look()
	if bad != nil {
		d.refuseCall(r, bad)
		return
	}
	d.asides.Go(func() {
		defer done()
		if bad := d.quotas.KnownSession(of); bad != nil {
			d.refuseCall(r, bad)
			return
		}
		keep()
	})
}
