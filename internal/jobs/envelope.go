// Package jobs defines what a job is: ids, subjects, headers, the request body, the reply body, the durable records, the error
// categories and codes, and the one pure function that turns a failure into a decision (Settle).
//
// It does no input or output, owns no clock and depends on neither NATS nor Python. The prose is contract/job.md.
package jobs

import (
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
	Role     Role          // of whoever requested it
	Trace    string        // traceparent of the client, "" if there is none
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

func parseHeaders(h map[string][]string, seq uint64, kept bool) (Envelope, *Error) {
	env := Envelope{Mode: ModeQueue, Type: JSON}
	if seq > 0 {
		env.Job = SequenceJob(seq)
	}
	var first *Error
	note := func(e *Error) {
		if first == nil {
			first = e
		}
	}
	if to := one(h, HeaderReplyTo); to != "" {
		if ValidReply(to) || kept && ValidInbox(to) {
			env.ReplyTo = to
		} else {
			note(Refused(CodeBadReply, HeaderReplyTo, "a subject without wildcards under _INBOX. or dspex.reply.", "the reply subject is not allowed"))
		}
	}
	kind, e := ContentType(one(h, HeaderContentType))
	if e != nil {
		note(e)
	} else {
		env.Type = kind
	}
	if id := one(h, HeaderJob); id != "" {
		if ValidJob(id) || validReplay(id, one(h, HeaderReplay)) {
			env.Job, env.Chosen = id, true
		} else {
			note(Refused(CodeBadJob, HeaderJob, "1 to 48 of A-Z a-z 0-9 _ -, not q<digits>, not ending in -r<digits>", "the job id is not allowed"))
		}
	}
	if one(h, HeaderReplay) != "" && (seq == 0 || !validReplay(one(h, HeaderJob), one(h, HeaderReplay))) {
		note(Refused(CodeBadHeader, HeaderReplay, "no such header: a dead letter is replayed by dspex.rpc.dlq.replay", "%s belongs to dspex", HeaderReplay))
	}
	switch mode := one(h, HeaderMode); mode {
	case "", string(ModeQueue):
	case string(ModeCall):
		env.Mode = ModeCall
	default:
		note(Refused(CodeBadHeader, HeaderMode, "call or queue", "unknown mode"))
	}
	if text := one(h, HeaderDeadline); text != "" {
		ms, err := strconv.ParseInt(text, 10, 64)
		if err != nil || ms < 1 || ms > MaxTimeout.Milliseconds() {
			note(Refused(CodeBadHeader, HeaderDeadline, "milliseconds, 1 to 86400000", "the deadline is not a duration in range"))
		} else {
			env.Deadline = time.Duration(ms) * time.Millisecond
		}
	}
	trace := one(h, contract.HeaderTraceparent)
	if _, _, _, ok := contract.ParseTraceparent(trace); ok { // of others no job fails: W3C Trace Context has them left alone
		env.Trace = trace
	}
	if kept {
		env.Role = roleOf(one(h, HeaderRole))
	}
	size := 0
	for key, values := range h {
		if kept && key == HeaderRole {
			continue
		}
		if e := checkHeader(key, values); e != nil {
			note(e)
		}
		for _, v := range values {
			size += len(key) + len(v)
		}
	}
	if size > MaxHeaderBytes {
		note(Refused(CodeBadHeader, "", fmt.Sprintf("at most %d bytes of headers", MaxHeaderBytes), "the headers have %d bytes", size))
	}
	return env, first
}

// MaxHeaderBytes bounds names and values of a message's headers together.
const MaxHeaderBytes = contract.MaxHeaderBytes

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
