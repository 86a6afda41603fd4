package jobs

import "strconv"

// Subjects and headers of the NATS wire (contract/job.md).
const (
	RPCSession    = "dspex.rpc.session." // + session id: request
	RPCAnonymous  = "dspex.rpc.anonymous"
	RPCJobsGet    = "dspex.rpc.jobs.get"
	RPCJobsCancel = "dspex.rpc.jobs.cancel"
	RPCDeadList   = "dspex.rpc.dlq.list"
	RPCDeadShow   = "dspex.rpc.dlq.show"
	RPCDeadReplay = "dspex.rpc.dlq.replay"
	RPCDeadPurge  = "dspex.rpc.dlq.purge"
	RPCHealth     = "dspex.rpc.health.check"

	RPCSessionsList    = "dspex.rpc.sessions.list"
	RPCSessionsGet     = "dspex.rpc.sessions.get"
	RPCSessionsExport  = "dspex.rpc.sessions.export"
	RPCSessionsCleanup = "dspex.rpc.sessions.cleanup"
	RPCSessionsImport  = "dspex.rpc.sessions.import"
	RPCSessionsErase   = "dspex.rpc.sessions.erase"
	RPCHostsList       = "dspex.rpc.hosts.list"
	RPCHostsDrain      = "dspex.rpc.hosts.drain"
	RPCHostsResume     = "dspex.rpc.hosts.resume"

	RPCPartitionsGet   = "dspex.rpc.partitions.get"
	RPCPartitionsSet   = "dspex.rpc.partitions.set"
	RPCConsumersList   = "dspex.rpc.consumers.list"
	RPCConsumersRemove = "dspex.rpc.consumers.remove"

	RPCStats = "dspex.rpc.stats.get"

	RPCBreakersList  = "dspex.rpc.breakers.list"
	RPCBreakersReset = "dspex.rpc.breakers.reset"

	SubjectHeartbeat = "dspex.hb."                     // + host
	SubjectControl   = "dspex.ctl."                    // + host + verb
	SubjectDrop      = "dspex.ctl.drop"                // to every host
	SubjectBeat      = "dspex.ctl.beat"                // every host answers with its heartbeat
	SubjectTelemetry = "dspex.telemetry.session_pool." // + checkout, execute or error

	HeaderJob         = "Dspex-Job"
	HeaderMode        = "Dspex-Mode"
	HeaderReplyTo     = "Dspex-Reply-To"
	HeaderDeadline    = "Dspex-Deadline"
	HeaderAttempt     = "Dspex-Attempt"
	HeaderPartial     = "Dspex-Partial"
	HeaderReplay      = "Dspex-Replay" // of a replay: the sequence of its dead letter
	HeaderRole        = "Dspex-Role"   // of what a dispatcher keeps: who asked for it
	HeaderContentType = "Content-Type"

	HeaderError     = "Nats-Service-Error"
	HeaderErrorCode = "Nats-Service-Error-Code"
)

// Lanes of anonymous jobs. Batch work leaves at least one slot of a host free for interactive work.
const (
	LaneInteractive = "interactive"
	LaneBatch       = "batch"
)

// RoleOperator is the value of HeaderRole for those who may use every command.
const RoleOperator = "operator"

// Mode tells whether somebody waits for the reply.
type Mode string

// A call has somebody waiting; a queued job waits unharmed until its deadline.
const (
	ModeCall  Mode = "call"
	ModeQueue Mode = "queue"
)

// DrainKey is the key in dspex_control that is there while a host is to be empty.
func DrainKey(host string) string { return "drain." + host }

// AssignmentKey is the key of a partition's owner in dspex_assign.
func AssignmentKey(partition int) string { return "p." + strconv.Itoa(partition) }

// AssignmentKeys matches the keys of all partitions.
const AssignmentKeys = "p.*"

// ConsumerPrefix begins the names of all consumers that a partition ever had.
func ConsumerPrefix(partition int) string { return "p" + strconv.Itoa(partition) + "-e" }

// ConsumerName is the name of the consumer of one epoch of a partition.
func ConsumerName(partition int, epoch uint64) string {
	return ConsumerPrefix(partition) + strconv.FormatUint(epoch, 10)
}
