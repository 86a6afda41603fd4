package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/dspex/dspex/internal/link"
	"github.com/nats-io/nats.go/jetstream"
)

// Ensure makes every broker object that is missing and leaves those alone that exist, but for their subjects and sizes. Calling
// it twice, or from two processes at once, is fine. It returns the number of partitions in force: a deployment keeps its own.
func Ensure(ctx context.Context, js jetstream.JetStream, s Settings) (partitions int, err error) {
	if err := link.CheckVersion(js.Conn()); err != nil {
		return 0, err
	}
	s.neverThere = true
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
	logged := ""
	for {
		missing, err := firstMissing(ctx, js)
		if err == nil && missing == "" {
			return nil
		}
		if reason := fmt.Sprint(missing, err); reason != logged {
			logged = reason
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

// adapt brings the broker objects of an earlier version, or of a deployment that gets accounts, to the subjects of now, and with Resize
// to the sizes that were requested. What they hold stays.
func adapt(ctx context.Context, js jetstream.JetStream, s Settings) error {
	jobs, err := js.Stream(ctx, Jobs)
	if err != nil {
		return fmt.Errorf("stream %s: %w", Jobs, err)
	}
	layout, err := layoutOf(jobs.CachedInfo().Config)
	if err != nil {
		return err
	}
	have, err := AccountsOf(ctx, js)
	if err != nil {
		return err
	}
	if have && !s.Accounts {
		return fmt.Errorf("stream %s takes the jobs of tenants with accounts of their own: start with --accounts", Jobs)
	}
	for _, want := range objects(s.withDefaults()) {
		at, err := js.Stream(ctx, want.Name)
		if err != nil {
			return fmt.Errorf("stream %s: %w", want.Name, err)
		}
		info := at.CachedInfo()
		cfg := info.Config
		cfg.Subjects = want.Subjects
		switch want.Name {
		case Jobs:
			cfg.SubjectTransform, cfg.Duplicates, cfg.AllowAtomicPublish = layout.transform(s.Accounts), jobsWindow, true
		case Anonymous:
			cfg.Duplicates, cfg.AllowAtomicPublish = jobsWindow, true
		case ObjectsStream:
			cfg.Metadata = s.rebounded(cfg.Metadata)
		}
		if cfg.MaxBytes, err = s.resized(info); err != nil {
			return err
		}
		if same(cfg, info.Config) {
			continue
		}
		if _, err := js.UpdateStream(ctx, cfg); err != nil {
			return fmt.Errorf("stream %s: change it: %w", want.Name, err)
		}
	}
	return nil
}

func same(a, b jetstream.StreamConfig) bool {
	return a.Duplicates == b.Duplicates && a.AllowAtomicPublish == b.AllowAtomicPublish && a.MaxBytes == b.MaxBytes && slices.Equal(a.Subjects, b.Subjects) &&
		maps.Equal(a.Metadata, b.Metadata) && reflect.DeepEqual(a.SubjectTransform, b.SubjectTransform)
}

// sized are the objects whose size an operator chooses, with the flag that does.
var sized = map[string]struct {
	flag string
	of   func(Settings) int64
}{
	Jobs:          {"--jobs-size", func(s Settings) int64 { return s.JobsBytes }},
	Anonymous:     {"--jobs-size", func(s Settings) int64 { return s.JobsBytes }},
	ResultsStream: {"--results-size", func(s Settings) int64 { return s.ResultsBytes }},
	BatchesStream: {"--batches-size", func(s Settings) int64 { return s.BatchBytes }},
	ObjectsStream: {"--objects-size", func(s Settings) int64 { return s.ObjectBytes }},
	Dead:          {"--dlq-size", func(s Settings) int64 { return s.DeadBytes }},
}

// resized is the size that an object is to have: the one that was requested, or the one that it has. It is never below what the
// object holds: of dead letters the broker would drop the oldest, and of the others take nothing for hours.
func (s Settings) resized(info *jetstream.StreamInfo) (int64, error) {
	size, ours := sized[info.Config.Name]
	if !ours || !s.Resize || size.of(s) == 0 {
		return info.Config.MaxBytes, nil
	}
	if want := size.of(s); want >= int64(info.State.Bytes) || want == info.Config.MaxBytes {
		return want, nil
	}
	return 0, fmt.Errorf("%s must be at least what stream %s holds, %d MiB, got %d MiB", size.flag, info.Config.Name, info.State.Bytes>>20+1, size.of(s)>>20)
}

// ResizeHint reports how an object gets more room.
func ResizeHint(name string) string {
	if size, ours := sized[name]; ours {
		return "start the dispatchers with a larger " + size.flag + " (docs/sizing.md)"
	}
	return "give its stream more room"
}

// AccountsOf reads whether the jobs' stream takes jobs under the subjects of tenants.
func AccountsOf(ctx context.Context, js jetstream.JetStream) (bool, error) {
	s, err := js.Stream(ctx, Jobs)
	if err != nil {
		return false, fmt.Errorf("stream %s: %w", Jobs, err)
	}
	t := s.CachedInfo().Config.SubjectTransform
	return t != nil && t.Source == tenantSubjects, nil
}

// rebounded has the bounds that were requested in the place of those that are there.
func (s Settings) rebounded(have map[string]string) map[string]string {
	bounds := maps.Clone(have)
	for name, bound := range map[string]int64{objectMost: s.ObjectMost, tenantObjects: s.TenantObjects} {
		if s.Resize && bound > 0 {
			bounds[name] = strconv.FormatInt(bound, 10)
		}
	}
	return bounds
}

// Deviation is a setting of a broker object that is not as Ensure makes it.
type Deviation struct {
	Object, Setting, Have, Want string
	Mendable                    bool // it can be set right, and nothing that is stored goes
}

// rule compares one setting. What operators choose (sizes, replicas, bounds of a session) has none.
type rule struct {
	setting string
	show    func(jetstream.StreamConfig) string
	differs func(have, want jetstream.StreamConfig) bool
	mend    func(have *jetstream.StreamConfig, want jetstream.StreamConfig) // nil: the broker cannot change it
}

// on is the rule of a switch that must be on.
func on(setting string, of func(*jetstream.StreamConfig) *bool) rule {
	return rule{setting, func(c jetstream.StreamConfig) string { return strconv.FormatBool(*of(&c)) },
		func(have, want jetstream.StreamConfig) bool { return *of(&want) && !*of(&have) },
		func(have *jetstream.StreamConfig, _ jetstream.StreamConfig) { *of(have) = true }}
}

// rules are what is compared. Where less would be kept than should be, more is mended; where more is kept, it is the operator's affair.
var rules = []rule{
	{"storage", func(c jetstream.StreamConfig) string { return c.Storage.String() }, func(have, want jetstream.StreamConfig) bool { return have.Storage != want.Storage }, nil},
	{"retention", func(c jetstream.StreamConfig) string { return c.Retention.String() }, func(have, want jetstream.StreamConfig) bool { return have.Retention != want.Retention }, nil},
	{"discard", func(c jetstream.StreamConfig) string { return c.Discard.String() },
		func(have, want jetstream.StreamConfig) bool { return have.Discard != want.Discard },
		func(have *jetstream.StreamConfig, want jetstream.StreamConfig) { have.Discard = want.Discard }},
	{"max_age", func(c jetstream.StreamConfig) string { return c.MaxAge.String() },
		func(have, want jetstream.StreamConfig) bool {
			return have.MaxAge > 0 && (want.MaxAge == 0 || have.MaxAge < want.MaxAge)
		},
		func(have *jetstream.StreamConfig, want jetstream.StreamConfig) { have.MaxAge = want.MaxAge }},
	{"max_msgs", func(c jetstream.StreamConfig) string { return strconv.FormatInt(c.MaxMsgs, 10) },
		func(have, _ jetstream.StreamConfig) bool { return have.MaxMsgs > 0 },
		func(have *jetstream.StreamConfig, _ jetstream.StreamConfig) { have.MaxMsgs = -1 }},
	{"max_msg_size", func(c jetstream.StreamConfig) string { return strconv.Itoa(int(c.MaxMsgSize)) },
		func(have, _ jetstream.StreamConfig) bool { return have.MaxMsgSize > 0 },
		func(have *jetstream.StreamConfig, _ jetstream.StreamConfig) { have.MaxMsgSize = -1 }},
	{"max_msgs_per_subject", func(c jetstream.StreamConfig) string { return strconv.FormatInt(c.MaxMsgsPerSubject, 10) },
		func(have, want jetstream.StreamConfig) bool {
			return have.Name != Jobs && have.MaxMsgsPerSubject > 0 && (want.MaxMsgsPerSubject <= 0 || have.MaxMsgsPerSubject < want.MaxMsgsPerSubject)
		},
		func(have *jetstream.StreamConfig, want jetstream.StreamConfig) {
			have.MaxMsgsPerSubject = cmp.Or(want.MaxMsgsPerSubject, -1)
		}},
	on("discard_new_per_subject", func(c *jetstream.StreamConfig) *bool { return &c.DiscardNewPerSubject }),
	on("allow_direct", func(c *jetstream.StreamConfig) *bool { return &c.AllowDirect }),
	on("allow_msg_ttl", func(c *jetstream.StreamConfig) *bool { return &c.AllowMsgTTL }),
	on("allow_rollup_hdrs", func(c *jetstream.StreamConfig) *bool { return &c.AllowRollup }),
	on("allow_atomic", func(c *jetstream.StreamConfig) *bool { return &c.AllowAtomicPublish }),
}

// Deviations compares the broker objects with those that Ensure makes. missing are those that are not there.
func Deviations(ctx context.Context, js jetstream.JetStream) (found []Deviation, missing []string, err error) {
	for _, want := range objects(Settings{}.withDefaults()) {
		at, err := js.Stream(ctx, want.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			missing = append(missing, want.Name)
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("stream %s: %w", want.Name, err)
		}
		have := at.CachedInfo().Config
		for _, r := range rules {
			if r.differs(have, want) {
				found = append(found, Deviation{want.Name, r.setting, r.show(have), r.show(want), r.mend != nil})
			}
		}
	}
	return found, missing, nil
}

// Mend sets right what Deviations calls mendable in a broker object, and nothing else.
func Mend(ctx context.Context, js jetstream.JetStream, object string) error {
	for _, want := range objects(Settings{}.withDefaults()) {
		if want.Name != object {
			continue
		}
		at, err := js.Stream(ctx, object)
		if err != nil {
			return fmt.Errorf("stream %s: %w", object, err)
		}
		have := at.CachedInfo().Config
		cfg := have
		for _, r := range rules {
			if r.mend != nil && r.differs(have, want) {
				r.mend(&cfg, want)
			}
		}
		if _, err := js.UpdateStream(ctx, cfg); err != nil {
			return fmt.Errorf("stream %s: change it: %w", object, err)
		}
		return nil
	}
	return fmt.Errorf("stream %s is not dspex's", object)
}
