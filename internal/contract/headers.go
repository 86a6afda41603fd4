package contract

// Headers of requests and replies (contract/job.md, "Headers of a request" and "Reply"). Their names are case-sensitive.
const (
	HeaderJob         = "Dspex-Job"
	HeaderMode        = "Dspex-Mode"
	HeaderReplyTo     = "Dspex-Reply-To"
	HeaderDeadline    = "Dspex-Deadline"
	HeaderAttempt     = "Dspex-Attempt"
	HeaderPartial     = "Dspex-Partial"
	HeaderReplay      = "Dspex-Replay" // of a replay: the sequence of its dead letter
	HeaderContentType = "Content-Type"

	HeaderError     = "Nats-Service-Error"
	HeaderErrorCode = "Nats-Service-Error-Code"
)

// Forms of bodies, as the header Content-Type says.
const (
	JSON    = "application/json"
	MsgPack = "application/msgpack"
)
