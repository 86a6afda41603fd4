package jobs

import (
	"strconv"

	"github.com/dspex/dspex/internal/contract"
)

// Subjects and headers of package contract, under the names that hosts and dispatchers use.
const (
	RPCSession   = contract.RPCSession
	RPCAnonymous = contract.RPCAnonymous
	RPCJobsGet   = contract.RPCJobsGet

	RPCAdminSession   = contract.RPCAdminSession
	RPCAdminAnonymous = contract.RPCAdminAnonymous

	RPCJobsCancel = contract.RPCJobsCancel
	RPCJobsList   = contract.RPCJobsList
	RPCDeadList   = contract.RPCDeadList
	RPCDeadShow   = contract.RPCDeadShow
	RPCDeadReplay = contract.RPCDeadReplay
	RPCDeadPurge  = contract.RPCDeadPurge
	RPCHealth     = contract.RPCHealth

	RPCSessionsList    = contract.RPCSessionsList
	RPCSessionsGet     = contract.RPCSessionsGet
	RPCSessionsExport  = contract.RPCSessionsExport
	RPCSessionsCleanup = contract.RPCSessionsCleanup
	RPCSessionsImport  = contract.RPCSessionsImport
	RPCSessionsErase   = contract.RPCSessionsErase
	RPCHostsList       = contract.RPCHostsList
	RPCHostsDrain      = contract.RPCHostsDrain
	RPCHostsResume     = contract.RPCHostsResume
	RPCHostsReload     = contract.RPCHostsReload

	RPCPartitionsGet   = contract.RPCPartitionsGet
	RPCPartitionsSet   = contract.RPCPartitionsSet
	RPCConsumersList   = contract.RPCConsumersList
	RPCConsumersRemove = contract.RPCConsumersRemove

	RPCStats = contract.RPCStats

	RPCBreakersList  = contract.RPCBreakersList
	RPCBreakersReset = contract.RPCBreakersReset

	RPCAuditList = contract.RPCAuditList

	SubjectHeartbeat = contract.SubjectHeartbeat
	SubjectControl   = contract.SubjectControl
	SubjectDrop      = contract.SubjectDrop
	SubjectBeat      = contract.SubjectBeat
	SubjectLeader    = contract.SubjectLeader
	SubjectTelemetry = contract.SubjectTelemetry

	HeaderJob         = contract.HeaderJob
	HeaderMode        = contract.HeaderMode
	HeaderReplyTo     = contract.HeaderReplyTo
	HeaderDeadline    = contract.HeaderDeadline
	HeaderAttempt     = contract.HeaderAttempt
	HeaderPartial     = contract.HeaderPartial
	HeaderReplay      = contract.HeaderReplay
	HeaderRole        = contract.HeaderRole
	HeaderContentType = contract.HeaderContentType
	HeaderTraceparent = contract.HeaderTraceparent

	HeaderError     = contract.HeaderError
	HeaderErrorCode = contract.HeaderErrorCode
)

// Lanes of anonymous jobs. Batch work leaves at least one slot of a host free for interactive work.
const (
	LaneInteractive = contract.LaneInteractive
	LaneBatch       = contract.LaneBatch
)

// Mode reports whether somebody waits for the reply.
type Mode string

// A call has somebody waiting; a queued job waits unharmed until its deadline.
const (
	ModeCall  Mode = contract.ModeCall
	ModeQueue Mode = contract.ModeQueue
)

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
