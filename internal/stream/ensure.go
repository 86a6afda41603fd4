package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/link"
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
	// deletes and re-creates its block file at every job.
	AnchorSubject = "dspex.anchor"
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

// DeadWindow is how long the broker knows the ids of dead letters.
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
	// again reports that an audit trail, a bucket of batches, or the stream of objects, that is missing was never there, as far as anybody knows: the deployment is of an
	// earlier release.
	anew bool
	// Accounts reports that tenants have accounts of their own (nats.conf): then jobs are taken under the tenants' subjects only.
	Accounts bool
}

func (s Settings) withDefaults() Settings {
	if s.Partitions == 0 {
		s.Partitions = 64
	}
	if s.Replicas == 0 {
		s.Replicas = 1
	}
	if s.SessionQueue == 0 {
		s.SessionQueue = 256
	}
	if s.JobsBytes == 0 {
		s.JobsBytes = 4 << 30
	}
	if s.ResultsBytes == 0 {
		s.ResultsBytes = 4 << 30
	}
	if s.DeadBytes == 0 {
		s.DeadBytes = 1 << 30
	}
	if s.AuditBytes == 0 {
		s.AuditBytes = 256 << 20
	}
	if s.BatchBytes == 0 {
		s.BatchBytes = 2 << 30
	}
	if s.ObjectBytes == 0 {
		s.ObjectBytes = 1 << 30
	}
	if s.ObjectMost == 0 {
		s.ObjectMost = 8 << 20
	}
	if s.TenantObjects == 0 {
		s.TenantObjects = 256 << 20
	}
	return s
}

// MaxAckPending bounds the jobs of one partition that are delivered and not yet acknowledged.
const MaxAckPending = 16384

// Ensure makes every broker object that is missing and leaves those alone that exist, but for their subjects and sizes. Calling it twice, or from two
// processes at once, is fine. It returns the number of partitions in force: a deployment keeps its own.
func Ensure(ctx context.Context, js jetstream.JetStream, s Settings) (partitions int, err error) {
	if err := link.CheckVersion(js.Conn()); err != nil {
		return 0, err
	}
	s.anew = true
	if _, err := Make(ctx, js, s); err != nil {
		return 0, err
	}
	have, err := PartitionsOf(ctx, js)
	if err != nil {
		return 0, err
	}
	if err := adapt(ctx, js, s); err != nil {
		return 0, err
	}
	return have, nil
}

// Await returns when every broker object exists: the first dispatcher makes them.
func Await(ctx context.Context, js jetstream.JetStream, log *slog.Logger) error {
	if err := link.CheckVersion(js.Conn()); err != nil {
		return err
	}
	said := ""
	for {
		missing, err := firstMissing(ctx, js)
		if err == nil && missing == "" {
			return nil
		}
		if reason := fmt.Sprint(missing, err); reason != said {
			said = reason
			log.Info("waiting_for_a_dispatcher", "missing", missing, "error", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for a dispatcher to make %s: %w", missing, ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func firstMissing(ctx context.Context, js jetstream.JetStream) (string, error) {
	for _, cfg := range objects(Settings{}.withDefaults()) {
		if cfg.Name == Events || cfg.Name == Audit || cfg.Name == BatchesStream || cfg.Name == ObjectsStream { // hosts do without them
			continue
		}
		if _, err := js.Stream(ctx, cfg.Name); err != nil {
			if errors.Is(err, jetstream.ErrStreamNotFound) {
				return cfg.Name, nil
			}
			return cfg.Name, err
		}
	}
	return "", nil
}

// PartitionsOf reads the number of partitions of new jobs from the stream's subject transform.
func PartitionsOf(ctx context.Context, js jetstream.JetStream) (int, error) {
	info, err := js.Stream(ctx, Jobs)
	if err != nil {
		return 0, fmt.Errorf("stream %s: %w", Jobs, err)
	}
	l, err := layoutOf(info.CachedInfo().Config)
	return l.Partitions, err
}

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
			Duplicates: jobsWindow, AllowDirect: true,
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

// expiring lets keys have a life of their own.
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
