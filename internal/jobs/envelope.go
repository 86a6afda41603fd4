package jobs

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// Envelope is what the headers of a job's message say.
type Envelope struct {
	Job      string // the client's, or q<sequence>
	Chosen   bool   // the client chose the id
	Mode     Mode
	ReplyTo  string
	Deadline time.Duration // 0: none given
	Type     string        // content type of body and reply
}

var knownHeaders = []string{HeaderJob, HeaderMode, HeaderReplyTo, HeaderDeadline}

// ParseHeaders reads the headers of a message with the given stream sequence (0 at a door, before there is one). On error the
// envelope still says where the failure must be reported.
func ParseHeaders(h map[string][]string, seq uint64) (Envelope, *Error) {
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
		if ValidReply(to) {
			env.ReplyTo = to
		} else {
			note(bad(CodeBadReply, HeaderReplyTo, "a subject without wildcards under _INBOX. or dspex.reply.", "the reply subject is not allowed"))
		}
	}
	kind, e := ContentType(one(h, HeaderContentType))
	if e != nil {
		note(e)
	} else {
		env.Type = kind
	}
	if id := one(h, HeaderJob); id != "" {
		if ValidJob(id) {
			env.Job, env.Chosen = id, true
		} else {
			note(bad(CodeBadJob, HeaderJob, "1 to 48 of A-Z a-z 0-9 _ -, not q<digits>, not ending in -r<digits>", "the job id is not allowed"))
		}
	}
	switch mode := one(h, HeaderMode); mode {
	case "", string(ModeQueue):
	case string(ModeCall):
		env.Mode = ModeCall
	default:
		note(bad(CodeBadHeader, HeaderMode, "call or queue", "unknown mode"))
	}
	if text := one(h, HeaderDeadline); text != "" {
		ms, err := strconv.ParseInt(text, 10, 64)
		if err != nil || ms < 1 || ms > MaxTimeout.Milliseconds() {
			note(bad(CodeBadHeader, HeaderDeadline, "milliseconds, 1 to 86400000", "the deadline is not a duration in range"))
		} else {
			env.Deadline = time.Duration(ms) * time.Millisecond
		}
	}
	for key, values := range h {
		if strings.HasPrefix(strings.ToLower(key), "dspex-") && !slices.Contains(knownHeaders, key) {
			note(bad(CodeBadHeader, clip(key), strings.Join(knownHeaders, ", "), "unknown header"))
		}
		if len(values) > 1 && slices.Contains(knownHeaders, key) {
			note(bad(CodeBadHeader, key, "one value", "the header stands twice"))
		}
	}
	if _, ok := h["Nats-TTL"]; ok {
		note(bad(CodeBadHeader, "Nats-TTL", "Dspex-Deadline", "a job may not vanish from the queue by itself"))
	}
	return env, first
}

func one(h map[string][]string, key string) string {
	if v := h[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}
