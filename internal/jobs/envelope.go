// Package jobs defines what a job is: ids, subjects, headers, the request body, the reply body, the durable records, and the error
// categories and codes. It has the one pure function that turns a failure into a decision (Settle).
//
// It does no input or output, owns no clock and depends on neither NATS nor Python. The prose is contract/job.md.
package jobs

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dspex/dspex/internal/contract"
)

// Envelope is the content of the headers of a job's message.
type Envelope struct {
	Job      string // the client's, or q<sequence>
	Chosen   bool   // the client chose the id
	Mode     Mode
	ReplyTo  string
	Deadline time.Duration // 0: none given
	Type     string        // content type of body and reply
	Role     Role          // of the requester
	Trace    string        // traceparent of the client, "" if there is none
}

// TraceID is the trace that a traceparent names, in hex; "" if it is none, or says only that there is no trace.
func TraceID(traceparent string) string {
	if traceparent == contract.Untraced {
		return ""
	}
	id, _, _, ok := contract.ParseTraceparent(traceparent)
	if !ok {
		return ""
	}
	return hex.EncodeToString(id[:])
}

// Role is what somebody may do. It follows from the subject that a request comes by, since that is what the broker's permissions keep
// apart; no message names its owner.
type Role string

// The roles. Each may do what those before it may.
const (
	RoleClient   Role = ""                    // calls and publishes jobs
	RoleTenant   Role = contract.RoleTenant   // looks after the sessions of one tenant
	RoleOperator Role = contract.RoleOperator // looks after the deployment
)

// roleOf reads a role that a dispatcher has noted. One that is not known gives no permissions.
func roleOf(text string) Role {
	switch role := Role(text); role {
	case RoleTenant, RoleOperator:
		return role
	}
	return RoleClient
}

var knownHeaders = []string{HeaderJob, HeaderMode, HeaderReplyTo, HeaderDeadline, HeaderReplay}

// ParseHeaders reads the headers of a client's message with the given stream sequence (0 at an endpoint, before there is one). On
// error the envelope still reports where the failure must be reported.
func ParseHeaders(h map[string][]string, seq uint64) (Envelope, *Error) {
	return parseHeaders(h, seq, false)
}

// ParseStored reads subject and headers of a stored job. What a dispatcher put into the stream may contain what no client
// may: see Kept. accounts: whether tenants have accounts of their own: replies to published jobs reach them by the subjects
// that the service exports to the tenant.
func ParseStored(subject string, h map[string][]string, seq uint64, accounts bool) (Source, Envelope, *Error) {
	from := SourceOf(subject)
	env, bad := parseHeaders(h, seq, from.Kept)
	if !accounts { // nothing distinguishes operators from clients
		env.Role = RoleOperator
	}
	if from.Kept || !accounts || env.ReplyTo == "" {
		return from, env, bad
	}
	rest, exported := strings.CutPrefix(env.ReplyTo, contract.SubjectReply)
	switch {
	case exported:
		env.ReplyTo = contract.SubjectReply + from.Session.Tenant + "." + rest
	case from.Session.Tenant != DefaultTenant: // those of the tenant default may be older than the accounts
		env.ReplyTo = ""
		if bad == nil {
			bad = Refused(CodeBadReply, HeaderReplyTo, "a subject without wildcards under dspex.reply.", "an inbox does not reach another account")
		}
	}
	return from, env, bad
}

// given are the values of the headers that have a meaning.
type given struct{ replyTo, kind, job, replay, mode, deadline, trace, role string }

func valuesOf(h map[string][]string) given {
	one := func(key string) string { return one(h, key) }
	return given{
		replyTo: one(HeaderReplyTo), kind: one(HeaderContentType), job: one(HeaderJob), replay: one(HeaderReplay),
		mode: one(HeaderMode), deadline: one(HeaderDeadline), trace: one(HeaderTraceparent), role: one(HeaderRole),
	}
}

// parseHeaders reads all headers whatever is wrong with one of them, and returns the first error.
func parseHeaders(h map[string][]string, seq uint64, kept bool) (Envelope, *Error) {
	v, env := valuesOf(h), Envelope{Mode: ModeQueue, Type: JSON}
	if seq > 0 {
		env.Job = SequenceJob(seq)
	}
	bad := cmp.Or(
		env.readReplyTo(v.replyTo, kept),
		env.readType(v.kind),
		env.readJob(v.job, v.replay, seq),
		env.readMode(v.mode),
		env.readDeadline(v.deadline),
		checkHeaders(h, kept),
	)
	if isTraceparent(v.trace) { // of others no job fails: W3C Trace Context has them left alone
		env.Trace = v.trace
	}
	if kept {
		env.Role = roleOf(v.role)
	}
	return env, bad
}

func isTraceparent(text string) bool {
	if text == "" || text == contract.Untraced { // most are
		return text != ""
	}
	_, _, _, ok := contract.ParseTraceparent(text)
	return ok
}

func (env *Envelope) readReplyTo(to string, kept bool) *Error {
	switch {
	case to == "":
	case ValidReply(to) || kept && ValidInbox(to):
		env.ReplyTo = to
	default:
		return Refused(CodeBadReply, HeaderReplyTo, "a subject without wildcards under _INBOX. or dspex.reply.", "the reply subject is not allowed")
	}
	return nil
}

func (env *Envelope) readType(text string) *Error {
	kind, bad := ContentType(text)
	if bad == nil {
		env.Type = kind
	}
	return bad
}

// readJob takes the id that the client chose. letter is the header Dspex-Replay, which only the dispatcher may send.
func (env *Envelope) readJob(id, letter string, seq uint64) *Error {
	replays := validReplay(id, letter)
	switch {
	case id == "":
	case replays || ValidJob(id):
		env.Job, env.Chosen = id, true
	default:
		return Refused(CodeBadJob, HeaderJob, "1 to 48 of A-Z a-z 0-9 _ -, not q<digits>, not ending in -r<digits>", "the job id is not allowed")
	}
	if letter != "" && (seq == 0 || !replays) {
		return Refused(CodeBadHeader, HeaderReplay, "no such header: a dead letter is replayed by dspex.rpc.dlq.replay", "%s belongs to dspex", HeaderReplay)
	}
	return nil
}

func (env *Envelope) readMode(text string) *Error {
	switch text {
	case "", string(ModeQueue):
	case string(ModeCall):
		env.Mode = ModeCall
	default:
		return Refused(CodeBadHeader, HeaderMode, "call or queue", "unknown mode")
	}
	return nil
}

func (env *Envelope) readDeadline(text string) *Error {
	if text == "" {
		return nil
	}
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil || ms < 1 || ms > contract.MaxTimeout.Milliseconds() {
		return Refused(CodeBadHeader, HeaderDeadline, "milliseconds, 1 to 86400000", "the deadline is not a duration in range")
	}
	env.Deadline = time.Duration(ms) * time.Millisecond
	return nil
}

// MaxHeaderBytes bounds names and values of a message's headers together.
const MaxHeaderBytes = contract.MaxHeaderBytes

// checkHeaders refuses headers that would have no effect, and more of them than a message may have.
func checkHeaders(h map[string][]string, kept bool) (first *Error) {
	size := 0
	for key, values := range h {
		if kept && key == HeaderRole {
			continue
		}
		if bad := checkHeader(key, values); first == nil {
			first = bad
		}
		for _, v := range values {
			size += len(key) + len(v)
		}
	}
	if first == nil && size > MaxHeaderBytes {
		first = Refused(CodeBadHeader, "", fmt.Sprintf("at most %d bytes of headers", MaxHeaderBytes), "the headers have %d bytes", size)
	}
	return first
}

// checkHeader refuses what would otherwise have no effect. Names of headers are case-sensitive in NATS.
func checkHeader(key string, values []string) *Error {
	lower := strings.ToLower(key)
	known := slices.Contains(knownHeaders, key)
	switch {
	case strings.HasPrefix(lower, "dspex-") && !known:
		return Refused(CodeBadHeader, Clip(key), meant(key), "unknown header")
	case known && len(values) > 0 && values[0] == "":
		// An unset variable of a script must not cost a job its id or its deadline.
		return Refused(CodeBadHeader, key, "a value, or no such header", "the header is empty")
	case lower == "content-type" && key != HeaderContentType:
		return Refused(CodeBadHeader, Clip(key), HeaderContentType, "names of headers are case-sensitive")
	case lower == "nats-ttl":
		return Refused(CodeBadHeader, key, HeaderDeadline, "jobs must not expire from the queue")
	case len(values) > 1 && (known || key == HeaderContentType):
		return Refused(CodeBadHeader, key, "one value", "the header appears twice")
	}
	return nil
}

// meant names the header that an unknown one may stand for, else all that a client may send.
func meant(key string) string {
	for _, name := range knownHeaders {
		if strings.EqualFold(key, name) {
			return name
		}
	}
	return HeaderJob + ", " + HeaderDeadline + "; of a durable publish also " + HeaderReplyTo + ", " + HeaderMode
}

func one(h map[string][]string, key string) string {
	if v := h[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// Content types of bodies.
const (
	JSON    = contract.JSON
	MsgPack = contract.MsgPack
)

// ContentType normalises a Content-Type header; the empty one means JSON.
func ContentType(header string) (string, *Error) {
	kind, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(header)), ";")
	switch strings.TrimSpace(kind) {
	case "", JSON:
		return JSON, nil
	case MsgPack, "application/vnd.msgpack", "application/x-msgpack":
		return MsgPack, nil
	}
	return "", Refused(CodeBadHeader, HeaderContentType, JSON+" or "+MsgPack, "unknown content type")
}

// ReplayJob is the id of the job that replays a dead letter. Replays of replays keep the first job's id, so that ids do not grow.
func ReplayJob(job string, letter uint64) string {
	if i := strings.LastIndex(job, "-r"); i > 0 && contract.Digits(job[i+2:]) {
		job = job[:i]
	}
	return job + "-r" + strconv.FormatUint(letter, 10)
}

// validReplay reports whether id is what ReplayJob makes for the dead letter of the header Dspex-Replay.
func validReplay(id, letter string) bool {
	base, ok := strings.CutSuffix(id, "-r"+letter)
	return ok && contract.Digits(letter) && contract.ValidToken(base, MaxJobID)
}
