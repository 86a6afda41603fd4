package jobs

import (
	"strings"

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

// SequenceJob is the id of a job whose client chose none.
func SequenceJob(seq uint64) string { return contract.SequenceJob(seq) }

// JobSequence returns the stream sequence behind an id that SequenceJob made.
func JobSequence(id string) (uint64, bool) { return contract.JobSequence(id) }

// importedReply begins the subjects that the broker makes for the replies to another account's requests.
const importedReply = "_R_."

// Imported reports whether a reply goes to a client of another account. For each such call the broker keeps an entry until the
// export's threshold; an empty message behind the last reply ends it.
func Imported(reply string) bool { return strings.HasPrefix(reply, importedReply) }

// ValidInbox reports whether a request may be answered on its reply subject: as ValidReply, and also through the broker's own
// subject for the inbox of another account.
func ValidInbox(subject string) bool {
	return contract.ValidReplyUnder(importedReply, subject) || ValidReply(subject)
}

// ValidReply reports whether a reply may be published on subject with the host's permissions.
func ValidReply(subject string) bool { return contract.ValidReply(subject) }
