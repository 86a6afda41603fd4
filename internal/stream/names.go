package stream

import (
	"cmp"
	"time"

	"github.com/dspex/dspex/internal/contract"
)

// Names of the broker objects. They are part of the wire.
const (
	Jobs      = "DSPEX_JOBS"
	Anonymous = "DSPEX_ANON"
	Dead      = "DSPEX_DLQ"
	Events    = "DSPEX_EVENTS"
	Audit     = "DSPEX_AUDIT"

	Assign   = "dspex_assign"
	Sessions = "dspex_sessions"
	Results  = "dspex_results"
	Control  = "dspex_control"
	Batches  = "dspex_batches"

	// AnchorSubject carries one unconsumed message in the newest block of DSPEX_JOBS: without it an emptied work queue
	// makes a block file at every job (ADR 82).
	AnchorSubject = contract.SubjectAnchor
)

// SubjectEvents matches all events, eventsBytes bounds them: the oldest go first.
const (
	SubjectEvents = contract.SubjectEvents
	eventsBytes   = 64 << 20
)

// Bounds of the audit trail: the oldest records go first. One subject's share keeps a tenant that is busy from displacing what others,
// and operators, have done.
const (
	auditAge     = 365 * 24 * time.Hour
	auditSubject = 10_000 // records
)

// DeadWindow is how long the broker keeps the ids of dead letters.
const DeadWindow = 10 * time.Minute

// Settings of the broker objects. The zero value means the defaults.
type Settings struct {
	Partitions   int   // of a new stream; default 64
	Replicas     int   // default 1
	SessionQueue int64 // waiting jobs of one session, default 256
	// Sizes of new objects; with Resize those of existing ones too, but for the sizes that are 0.
	Resize       bool
	JobsBytes    int64 // default 4 GiB
	ResultsBytes int64 // default 4 GiB
	DeadBytes    int64 // dead letters: the oldest go first; default 1 GiB
	AuditBytes   int64 // audit trail: the oldest go first; default 256 MiB
	BatchBytes   int64 // jobs and outcomes of batches; default 2 GiB
	ObjectBytes  int64 // large results; default 1 GiB
	// Bounds of objects; with Resize those of an existing deployment too, but for those that are 0.
	ObjectMost    int64 // bytes of one; default 8 MiB
	TenantObjects int64 // bytes of all of a tenant; default 256 MiB
	// Remembered is the highest sequence or revision that anybody has seen of a lost store, 0 if nobody does.
	Remembered uint64
	// neverThere reports that a missing audit trail, bucket of batches or stream of objects never existed: the deployment is of an earlier
	// release.
	neverThere bool
	// Accounts reports that tenants have accounts of their own (nats.conf): then jobs are taken under the tenants' subjects only.
	Accounts bool
}

func (s Settings) withDefaults() Settings {
	s.Partitions = cmp.Or(s.Partitions, 64)
	s.Replicas = cmp.Or(s.Replicas, 1)
	s.SessionQueue = cmp.Or(s.SessionQueue, 256)
	s.JobsBytes = cmp.Or(s.JobsBytes, 4<<30)
	s.ResultsBytes = cmp.Or(s.ResultsBytes, 4<<30)
	s.DeadBytes = cmp.Or(s.DeadBytes, 1<<30)
	s.AuditBytes = cmp.Or(s.AuditBytes, 256<<20)
	s.BatchBytes = cmp.Or(s.BatchBytes, 2<<30)
	s.ObjectBytes = cmp.Or(s.ObjectBytes, 1<<30)
	s.ObjectMost = cmp.Or(s.ObjectMost, 8<<20)
	s.TenantObjects = cmp.Or(s.TenantObjects, 256<<20)
	return s
}

// ObjectBucket holds large payloads.
const ObjectBucket = "dspex_objects"

// The streams behind the buckets.
const (
	ControlStream = "KV_" + Control
	ResultsStream = "KV_" + Results
	RecordsStream = "KV_" + Sessions
	BatchesStream = "KV_" + Batches
	ObjectsStream = "OBJ_" + ObjectBucket
)

// ResultsSubject is the subject of the keys that match filter in the bucket of results.
func ResultsSubject(filter string) string { return "$KV." + Results + "." + filter }

// Only a write shows whether a broker object accepts writes. A nats-server whose disk is full goes on answering reads and requests for
// information, and does not answer writes. It stays so, stream by stream, until it is restarted.

// probePrefix begins the subjects of probes. They are no keys of a bucket, so no watcher sees them.
const probePrefix = contract.SubjectProbe

// probeSubject is where a probe of an object is written. The transform of the jobs' stream leaves its anchor alone.
func probeSubject(name string) string {
	if name == Jobs {
		return AnchorSubject
	}
	return probePrefix + name
}

// MaxAckPending bounds the jobs of one partition that are delivered and not yet acknowledged.
const MaxAckPending = 16384
