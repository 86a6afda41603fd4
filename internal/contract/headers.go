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
	HeaderRole        = "Dspex-Role"   // of what a dispatcher keeps: who requested it
	HeaderContentType = "Content-Type"

	HeaderError     = "Nats-Service-Error"
	HeaderErrorCode = "Nats-Service-Error-Code"
)

// Forms of bodies, the values of the header Content-Type.
const (
	JSON    = "application/json"
	MsgPack = "application/msgpack"
)

// Values of HeaderRole (contract/commands.md, "Roles"). Clients have none.
const (
	RoleTenant   = "tenant"
	RoleOperator = "operator"
)

// Headers that only dead letters have (contract/dead-letters.md).
const (
	HeaderSession  = "Dspex-Session"
	HeaderTenant   = "Dspex-Tenant" // left out for the tenant default
	HeaderLane     = "Dspex-Lane"
	HeaderCommand  = "Dspex-Command"
	HeaderSequence = "Dspex-Sequence"
	HeaderStored   = "Dspex-Stored"
	HeaderReason   = "Dspex-Reason"
	HeaderFailure  = "Dspex-Failure"
)

// MaxHeaderBytes bounds names and values of a message's headers together: they are kept in memory while a job waits.
const MaxHeaderBytes = 8 << 10
