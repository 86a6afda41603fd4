package contract

import (
	"strconv"
	"strings"
)

// Bounds of the ids that clients choose (contract/job.md, "Endpoints").
const (
	MaxSessionID = 64
	MaxJobID     = 48
)

// How ids are described to whoever sent another one.
const (
	ExpectedSession = "[A-Za-z0-9_-]{1,64}"
	ExpectedJob     = "[A-Za-z0-9_-]{1,48}, not of the forms q<digits> or ...-r<digits>"
	ExpectedReply   = "a subject without wildcards under _INBOX. or dspex.reply."
)

// ValidSession reports whether id may name a session, a host or a dispatcher: [A-Za-z0-9_-]{1,64}.
func ValidSession(id string) bool { return ValidToken(id, MaxSessionID) }

// ValidJob reports whether a client may choose id as its job's id. The forms q<digits> and ...-r<digits> belong to the
// product: the former names a job by its stream sequence, the latter a replay.
func ValidJob(id string) bool {
	if !ValidToken(id, MaxJobID) {
		return false
	}
	if id[0] == 'q' && Digits(id[1:]) {
		return false
	}
	if i := strings.LastIndex(id, "-r"); i >= 0 && Digits(id[i+2:]) {
		return false
	}
	return true
}

// ValidReply reports whether a reply may be published on subject with the service's permissions: no wildcard, no empty token, and
// under _INBOX. or dspex.reply. only.
func ValidReply(subject string) bool {
	return ValidReplyUnder("_INBOX.", subject) || ValidReplyUnder(SubjectReply, subject)
}

// maxReply bounds a reply subject.
const maxReply = 256

// ValidReplyUnder reports whether subject begins with prefix and has no wildcard and no empty token behind it.
func ValidReplyUnder(prefix, subject string) bool {
	rest, ok := strings.CutPrefix(subject, prefix)
	if !ok || rest == "" || len(subject) > maxReply {
		return false
	}
	for token := range strings.SplitSeq(rest, ".") {
		if token == "" {
			return false
		}
		for i := range len(token) {
			if c := token[i]; c <= ' ' || c == '*' || c == '>' || c >= 0x7f {
				return false
			}
		}
	}
	return true
}

// MaxTenant bounds a tenant's name: the public key of an account has 56 characters.
const MaxTenant = 64

// ValidToken reports whether s has 1 to most characters, all of them of A-Z a-z 0-9 _ -.
func ValidToken(s string, most int) bool {
	if s == "" || len(s) > most {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// Digits reports whether s is a decimal number.
func Digits(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// SequenceJob is the id of a job whose client chose none: the acknowledgement of its publish has the sequence.
func SequenceJob(seq uint64) string { return "q" + strconv.FormatUint(seq, 10) }

// JobSequence returns the stream sequence behind an id that SequenceJob made.
func JobSequence(id string) (uint64, bool) {
	if len(id) < 2 || id[0] != 'q' || !Digits(id[1:]) {
		return 0, false
	}
	seq, err := strconv.ParseUint(id[1:], 10, 64)
	return seq, err == nil && seq > 0
}
