package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/contract"
)

// A stream or bucket can be lost while the processes live: deleted, or with the broker's store. What is recreated begins a
// new count, and its sequences (revisions) begin above all that a lost store gave out. So the ids that the service counts, the
// sequences in records and the epochs never meet those of a lost store, and a number that is expected for a
// compare-and-set is never right by chance.

// identityMark marks in the metadata of a restored stream which stream of its name it is. Its creation time does not: the server that took the copy has
// another one than its replicas, and than itself after a restart (nats-server 2.15.2, processStreamRestore).
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

// Survey is what a look at the broker objects finds.
type Survey struct {
	Missing []string
	Renewed map[string]time.Time // those in a recreated store -> when it began
	Highest uint64               // sequence that any of them has given out
	Bounded map[string]Bounded   // those that refuse what has no room
}

// Bounded is what an object holds and may hold, in bytes.
type Bounded struct {
	Used uint64
	Room int64
}

// Look finds out which broker objects there are. An error is no evidence about any of them.
func Look(ctx context.Context, js jetstream.JetStream) (Survey, error) {
	found := Survey{Renewed: map[string]time.Time{}, Bounded: map[string]Bounded{}}
	for _, cfg := range objects(Settings{}.withDefaults()) {
		s, err := js.Stream(ctx, cfg.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			found.Missing = append(found.Missing, cfg.Name)
			continue
		}
		if err != nil {
			return Survey{}, fmt.Errorf("stream %s: %w", cfg.Name, err)
		}
		info := s.CachedInfo()
		if info.Config.FirstSeq > 1 {
			found.Renewed[cfg.Name] = info.Created
		}
		if info.Config.MaxBytes > 0 && info.Config.Discard == jetstream.DiscardNew {
			found.Bounded[cfg.Name] = Bounded{info.State.Bytes, info.Config.MaxBytes}
		}
		found.Highest = max(found.Highest, info.State.LastSeq)
	}
	return found, nil
}

// LossPause is the time between the two looks that must both miss an object before it is recreated.
const LossPause = 500 * time.Millisecond

// Make makes the broker objects that are missing and returns their names. Where nothing was ever used they begin at 1.
func Make(ctx context.Context, js jetstream.JetStream, s Settings) (made []string, err error) {
	s = s.withDefaults()
	found, err := Look(ctx, js)
	if err != nil || len(found.Missing) == 0 {
		return nil, err
	}
	s.Remembered = max(s.Remembered, found.Highest)
	if s.Remembered > 0 {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(LossPause):
		}
		again, err := Look(ctx, js)
		if err != nil {
			return nil, err
		}
		found.Missing = common(found.Missing, again.Missing)
		s.Remembered = max(s.Remembered, again.Highest)
	}
	return create(ctx, js, s, found.Missing)
}

func common(a, b []string) []string {
	return slices.DeleteFunc(a, func(name string) bool { return !slices.Contains(b, name) })
}

// create makes what is missing. A request for one that is there would be refused where its room is not there twice.
func create(ctx context.Context, js jetstream.JetStream, s Settings, missing []string) (made []string, err error) {
	first := beginning(time.Now(), s.Remembered)
	for _, cfg := range objects(s) {
		if !slices.Contains(missing, cfg.Name) {
			continue
		}
		if cfg.FirstSeq = first; (cfg.Name == Audit || cfg.Name == BatchesStream || cfg.Name == ObjectsStream) && s.anew {
			cfg.FirstSeq = 0
		}
		_, err := js.CreateStream(ctx, cfg)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another dispatcher was faster
			continue
		}
		if err != nil {
			return made, fmt.Errorf("stream %s: %w", cfg.Name, err)
		}
		made = append(made, cfg.Name)
	}
	return made, nil
}

// unseen is more than a stream gives out between two looks at it.
const unseen = 1 << 24

// beginning is the first sequence of what is made: 0, for the beginning, if no number was ever given out. Else it is the time in
// microseconds, which no stream overtakes, and which is known when nobody keeps the lost store; it stays below 2^53, so
// that every reader of JSON can represent it, until the year 2255. What is kept counts if a clock was set back.
func beginning(now time.Time, remembered uint64) uint64 {
	if remembered == 0 {
		return 0
	}
	return max(uint64(now.UnixMicro()), remembered+unseen)
}

// contents is what is lost with an object.
var contents = map[string]string{
	Jobs:           "jobs of sessions that were accepted and had no outcome",
	Anonymous:      "jobs without session that were accepted and had no outcome",
	Dead:           "dead letters",
	Events:         "events",
	Audit:          "the record of what operators did",
	"KV_" + Assign: "which host owns which sessions: it is assigned again",
	RecordsStream:  "states of sessions",
	ResultsStream:  "outcomes of jobs",
	BatchesStream:  "batches: their jobs that were not published, and their outcomes",
	ObjectsStream:  "large results and arguments: replies and jobs still refer to them",
	ControlStream:  "drained hosts, the default language model, open circuit breakers: dispatchers write again what they remember",
}

// Contents describes what a broker object contains.
func Contents(name string) string { return contents[name] }

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
