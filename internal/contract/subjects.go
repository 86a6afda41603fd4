package contract

import "strings"

// Where clients have accounts, the service has a tenant's subjects under SubjectTenant (ADR 26).
const (
	SubjectRoot   = "dspex."
	SubjectTenant = "dspex.t."   // + tenant + "." + what follows SubjectRoot
	SubjectRPC    = "dspex.rpc." // + endpoint
	DefaultTenant = "default"    // of a broker without accounts
)

// InTenant is the subject under which the service has what a tenant's client sent to subject.
func InTenant(tenant, subject string) string {
	return SubjectTenant + tenant + "." + strings.TrimPrefix(subject, SubjectRoot)
}

// Subjects that clients publish or send requests to (contract/job.md, "Endpoints").
const (
	SubjectSession   = "dspex.session."   // + session id: durable publish
	SubjectAnonymous = "dspex.anonymous." // + lane: durable publish
	SubjectReply     = "dspex.reply."     // beside inboxes, where replies may go

	RPCSession   = "dspex.rpc.session." // + session id: request
	RPCAnonymous = "dspex.rpc.anonymous"
	// The same for operators: these may use every command.
	RPCAdminSession   = "dspex.rpc.admin.session." // + session id
	RPCAdminAnonymous = "dspex.rpc.admin.anonymous"

	RPCJobsGet    = "dspex.rpc.jobs.get"
	RPCJobsCancel = "dspex.rpc.jobs.cancel"
	RPCJobsList   = "dspex.rpc.jobs.list"
	RPCJobsSubmit = "dspex.rpc.jobs.submit"
	RPCHealth     = "dspex.rpc.health.check"
	RPCStats      = "dspex.rpc.stats.get"

	RPCDeadList   = "dspex.rpc.dlq.list"
	RPCDeadShow   = "dspex.rpc.dlq.show"
	RPCDeadReplay = "dspex.rpc.dlq.replay"
	RPCDeadPurge  = "dspex.rpc.dlq.purge"

	RPCSessionsList    = "dspex.rpc.sessions.list"
	RPCSessionsGet     = "dspex.rpc.sessions.get"
	RPCSessionsExport  = "dspex.rpc.sessions.export"
	RPCSessionsCleanup = "dspex.rpc.sessions.cleanup"
	RPCSessionsImport  = "dspex.rpc.sessions.import"
	RPCSessionsErase   = "dspex.rpc.sessions.erase"

	RPCHostsList   = "dspex.rpc.hosts.list"
	RPCHostsDrain  = "dspex.rpc.hosts.drain"
	RPCHostsResume = "dspex.rpc.hosts.resume"
	RPCHostsReload = "dspex.rpc.hosts.reload"

	RPCPartitionsGet   = "dspex.rpc.partitions.get"
	RPCPartitionsSet   = "dspex.rpc.partitions.set"
	RPCConsumersList   = "dspex.rpc.consumers.list"
	RPCConsumersRemove = "dspex.rpc.consumers.remove"

	RPCBreakersList  = "dspex.rpc.breakers.list"
	RPCBreakersReset = "dspex.rpc.breakers.reset"

	RPCAuditList = "dspex.rpc.audit.list"

	RPCObjectsGet      = "dspex.rpc.objects.get"
	RPCObjectsUpload   = "dspex.rpc.objects.upload"
	RPCObjectsComplete = "dspex.rpc.objects.complete"

	RPCBatchesUpload  = "dspex.rpc.batches.upload"
	RPCBatchesSubmit  = "dspex.rpc.batches.submit"
	RPCBatchesGet     = "dspex.rpc.batches.get"
	RPCBatchesList    = "dspex.rpc.batches.list"
	RPCBatchesResults = "dspex.rpc.batches.results"
	RPCBatchesCancel  = "dspex.rpc.batches.cancel"
	RPCBatchesErase   = "dspex.rpc.batches.erase"
)

// Lanes of anonymous jobs (contract/job.md, "Endpoints").
const (
	LaneInteractive = "interactive"
	LaneBatch       = "batch" // leaves at least one slot of each host free for the others
)

// Modes of a job, in the header Dspex-Mode: whether somebody waits for the reply.
const (
	ModeCall  = "call"
	ModeQueue = "queue"
)

// Subjects inside of the service.
const (
	SubjectCall          = "dspex.call."           // + session id: a dispatcher keeps the job of a call; no client may publish there
	SubjectCallAnonymous = "dspex.call.anonymous." // + lane
	SubjectStored        = "dspex.*.*."            // + tenant + session + who put it there: jobs in their stream, of any layout and shard
	SubjectAnchor        = "dspex.anchor"
	SubjectProbe         = "dspex.probe." // + broker object
)

// Subjects between hosts and dispatchers (contract/admin.md).
const (
	SubjectHeartbeat = "dspex.hb."        // + host
	SubjectControl   = "dspex.ctl."       // + host + verb
	SubjectDrop      = "dspex.ctl.drop"   // to every host
	SubjectBeat      = "dspex.ctl.beat"   // every host answers with its heartbeat
	SubjectLeader    = "dspex.rpc.leader" // the leading dispatcher answers how its planning gets on
)

// Subjects of events and telemetry (contract/events.md).
const (
	SubjectEvents        = "dspex.events.>"
	SubjectBreakerEvents = "dspex.events.breaker."         // + change
	SubjectAlert         = "dspex.events.alert.error_rate" // too many jobs fail
	SubjectRecovered     = "dspex.events.alert.recovered"
	SubjectStoreLost     = "dspex.events.alert.store_lost"
	SubjectBatchEnded    = "dspex.events.batch.ended"
	SubjectTelemetry     = "dspex.telemetry.session_pool." // + checkout, execute or error
)

// Subjects of logs (contract/logs.md).
const (
	SubjectLogs = "dspex.logs.get" // every process answers with its last lines
	SubjectLog  = "dspex.log."     // + program + level: a line, while somebody follows
)

// Subjects of the audit trail (contract/audit.md).
const (
	SubjectAudit  = "dspex.audit.>"
	AuditOperator = "dspex.audit.operator." // + action
	AuditTenant   = "dspex.audit.tenant."   // + tenant: by an operator of the tenant
	AuditClient   = "dspex.audit.client."   // + tenant: what a client of the tenant was refused
)

// Subjects of dead letters (contract/dead-letters.md).
const (
	SubjectDead  = "dspex.dlq.>"
	DeadSession  = "dspex.dlq.s." // + session
	DeadAnon     = "dspex.dlq.a"
	DeadInvalid  = "dspex.dlq.invalid"   // jobs whose subject names no possible session
	DeadReplayed = "dspex.dlq.replayed." // + sequence of a dead letter: the note that it was replayed
)
