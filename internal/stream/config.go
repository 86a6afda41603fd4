package stream

import (
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/contract"
)

// objects are all streams, those of the buckets too. Those of jobs come last: nothing is accepted before all the rest is there.
func objects(s Settings) []jetstream.StreamConfig {
	first := firstLayout(s)
	return []jetstream.StreamConfig{
		bucket(Assign, 5, s),
		bucket(Control, 5, s),
		expiring(bucket(Sessions, 1, s)),
		results(s),
		batches(s),
		vault(s),
		{
			Name: Dead, Subjects: []string{contract.SubjectDead}, Retention: jetstream.LimitsPolicy, Storage: jetstream.FileStorage,
			Replicas: s.Replicas, MaxAge: 30 * 24 * time.Hour, MaxBytes: s.DeadBytes, Duplicates: DeadWindow, AllowDirect: true,
		},
		{
			Name: Events, Subjects: []string{SubjectEvents}, Retention: jetstream.LimitsPolicy, Storage: jetstream.FileStorage,
			Replicas: s.Replicas, MaxAge: 24 * time.Hour, MaxBytes: eventsBytes, AllowDirect: true,
		},
		{ // nobody may take a record away; the TTL is that of probes
			Name: Audit, Subjects: []string{contract.SubjectAudit, probeSubject(Audit)}, Retention: jetstream.LimitsPolicy, Storage: jetstream.FileStorage,
			Replicas: s.Replicas, MaxAge: auditAge, MaxBytes: s.AuditBytes, MaxMsgsPerSubject: auditSubject, DenyDelete: true, DenyPurge: true, AllowMsgTTL: true, AllowDirect: true,
		},
		{
			Name: Anonymous, Subjects: lanes(s.Accounts), Retention: jetstream.WorkQueuePolicy,
			Storage: jetstream.FileStorage, Replicas: s.Replicas, Discard: jetstream.DiscardNew, MaxBytes: s.JobsBytes,
			Duplicates: jobsWindow, AllowDirect: true, AllowAtomicPublish: true,
		},
		{
			Name: Jobs, Subjects: jobsSubjects(s.Accounts), Retention: jetstream.WorkQueuePolicy,
			Storage: jetstream.FileStorage, Replicas: s.Replicas, Discard: jetstream.DiscardNew, MaxBytes: s.JobsBytes,
			MaxMsgsPerSubject: s.SessionQueue, DiscardNewPerSubject: true, Duplicates: jobsWindow,
			AllowDirect: true, AllowAtomicPublish: true, MaxConsumers: 4 * s.Partitions,
			SubjectTransform: first.transform(s.Accounts), Metadata: first.metadata(),
			ConsumerLimits: jetstream.StreamConsumerLimits{MaxAckPending: MaxAckPending},
		},
	}
}

// bucket is the stream of a KV bucket, as NATS clients make it; they cannot report where its revisions begin.
func bucket(name string, history int64, s Settings) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: "KV_" + name, Subjects: []string{"$KV." + name + ".>", probeSubject("KV_" + name)}, Retention: jetstream.LimitsPolicy, Storage: jetstream.FileStorage,
		Replicas: s.Replicas, MaxMsgsPerSubject: history, MaxMsgs: -1, MaxBytes: -1, MaxMsgSize: -1, MaxConsumers: -1,
		Discard: jetstream.DiscardNew, Duplicates: 2 * time.Minute, AllowRollup: true, DenyDelete: true, AllowDirect: true,
	}
}

// expiring gives keys lifetimes of their own.
func expiring(cfg jetstream.StreamConfig) jetstream.StreamConfig {
	cfg.AllowMsgTTL, cfg.SubjectDeleteMarkerTTL = true, time.Minute
	return cfg
}

func results(s Settings) jetstream.StreamConfig {
	cfg := expiring(bucket(Results, 1, s))
	cfg.MaxBytes = s.ResultsBytes
	return cfg
}

func batches(s Settings) jetstream.StreamConfig {
	cfg := expiring(bucket(Batches, 1, s))
	cfg.MaxBytes = s.BatchBytes
	return cfg
}

// Objects lie as in NATS's object store: the subjects of their chunks and descriptions, and their bounds in the metadata of the stream.
const (
	chunkPrefix = "$O." + ObjectBucket + ".C."
	metaPrefix  = "$O." + ObjectBucket + ".M."

	objectMost    = "dspex-object-max"
	tenantObjects = "dspex-tenant-objects"
)

// vault is the stream of objects. No write of an object replaces another one, so that nothing needs rollups, by which one publisher could
// empty it.
func vault(s Settings) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: ObjectsStream, Subjects: []string{chunkPrefix + ">", metaPrefix + ">", probeSubject(ObjectsStream)}, Retention: jetstream.LimitsPolicy,
		Storage: jetstream.FileStorage, Replicas: s.Replicas, MaxBytes: s.ObjectBytes, Discard: jetstream.DiscardNew, AllowMsgTTL: true, AllowDirect: true,
		Metadata: s.objectBounds(),
	}
}

func (s Settings) objectBounds() map[string]string {
	return map[string]string{objectMost: strconv.FormatInt(s.ObjectMost, 10), tenantObjects: strconv.FormatInt(s.TenantObjects, 10)}
}

// jobsWindow is the shortest window of duplicates that a broker takes. A job's id is judged by the owner of its session; whoever
// sets Nats-Msg-Id all the same can make the broker drop only what is published within it.
const jobsWindow = 100 * time.Millisecond

// jobsSubjects are those of the tenants where there are accounts, which no client can name another's of; else those of the tenant
// default. What is stored has one form. The partition is that of the session's id alone, whoever's it is:
// so a deployment can get accounts while jobs wait, and every session stays where it is.
func jobsSubjects(accounts bool) []string {
	if accounts {
		return []string{contract.InTenant("*", contract.SubjectSession+"*"), contract.InTenant("*", contract.SubjectCall+"*"), AnchorSubject}
	}
	return []string{contract.SubjectSession + "*", contract.SubjectCall + "*", AnchorSubject}
}

// lanes are named one by one: a publish to another lane finds no stream and is refused, instead of waiting for ever.
func lanes(accounts bool) (subjects []string) {
	roots := []string{contract.SubjectAnonymous, contract.SubjectCallAnonymous}
	if accounts {
		roots = append(roots, contract.InTenant("*", contract.SubjectAnonymous), contract.InTenant("*", contract.SubjectCallAnonymous))
	}
	for _, root := range roots {
		subjects = append(subjects, root+contract.LaneInteractive, root+contract.LaneBatch)
	}
	return append(subjects, probeSubject(Anonymous))
}

// identityMark marks in the metadata of a restored stream which stream of its name it is. Its creation time does not: the server
// that took the copy has another one than its replicas, and than itself after a restart (nats-server 2.15.2,
// processStreamRestore).
const identityMark = "dspex_identity"

// Identify gives a stream that is about to be restored an identity of its own.
func Identify(cfg *jetstream.StreamConfig, identity int64) {
	marked := map[string]string{identityMark: strconv.FormatInt(identity, 10)}
	for key, value := range cfg.Metadata {
		if key != identityMark {
			marked[key] = value
		}
	}
	cfg.Metadata = marked
}

// Identity distinguishes a stream from those that had its name before: the mark of a restored one, the creation time (ns) of others.
func Identity(cfg jetstream.StreamConfig, created time.Time) int64 {
	if identity, err := strconv.ParseInt(cfg.Metadata[identityMark], 10, 64); err == nil {
		return identity
	}
	return created.UnixNano()
}

func identityOf(info *jetstream.StreamInfo) int64 { return Identity(info.Config, info.Created) }
