package jobs

import (
	"strconv"

	"github.com/dspex/dspex/internal/contract"
)

// Bounds of the ids that clients choose.
const (
	MaxSessionID = contract.MaxSessionID
	MaxJobID     = contract.MaxJobID
)

// ValidSession reports whether id may name a session.
func ValidSession(id string) bool { return contract.ValidSession(id) }

// ValidJob reports whether a client may choose id as its job's id.
func ValidJob(id string) bool { return contract.ValidJob(id) }

// SequenceJob is the id of a job whose client chose none: the PubAck tells it the sequence.
func SequenceJob(seq uint64) string { return "q" + strconv.FormatUint(seq, 10) }

// JobSequence returns the stream sequence behind an id that SequenceJob made.
func JobSequence(id string) (uint64, bool) {
	if len(id) < 2 || id[0] != 'q' || !digits(id[1:]) {
		return 0, false
	}
	seq, err := strconv.ParseUint(id[1:], 10, 64)
	return seq, err == nil && seq > 0
}

// importedReply begins the subjects that the broker makes for the replies to another account's requests.
const importedReply = "_R_."

// ValidInbox reports whether a request may be answered on its reply subject: as ValidReply, and also through the broker's own
// subject for the inbox of another account.
func ValidInbox(subject string) bool {
	return contract.ValidReplyUnder(importedReply, subject) || ValidReply(subject)
}

// ValidReply reports whether a reply may be published on subject with the host's rights.
func ValidReply(subject string) bool { return contract.ValidReply(subject) }

func digits(s string) bool {
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
