package stream

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/contract"
)

// Jobs come in under the subjects of their tenants where there are accounts, which no client can name another's of; else under
// those of the tenant default. What is stored has one form. The partition is that of the session's id alone, whoever's it is:
// so a deployment can get accounts while jobs wait, and every session stays where it is.

// jobsWindow is the shortest window of duplicates that a broker takes. A job's id is judged by the owner of its session; whoever
// sets Nats-Msg-Id all the same can make the broker drop only what is published within it.
const jobsWindow = 100 * time.Millisecond

// Who may put a job there is told by the subject: clients publish to session, dispatchers to call.
const (
	plainSubjects  = "dspex.*.*"
	tenantSubjects = "dspex.t.*.*.*"
)

func jobsSubjects(accounts bool) []string {
	if accounts {
		return []string{"dspex.t.*.session.*", "dspex.t.*.call.*", AnchorSubject}
	}
	return []string{contract.SubjectSession + "*", "dspex.call.*", AnchorSubject}
}

// transform puts the jobs of a layout into the shards of their sessions.
func (l Layout) transform(accounts bool) *jetstream.SubjectTransformConfig {
	if accounts {
		return &jetstream.SubjectTransformConfig{
			Source:      tenantSubjects,
			Destination: fmt.Sprintf("dspex.%s.{{partition(%d,3)}}.{{wildcard(1)}}.{{wildcard(3)}}.{{wildcard(2)}}", l.Token, l.Shards),
		}
	}
	return &jetstream.SubjectTransformConfig{
		Source:      plainSubjects,
		Destination: fmt.Sprintf("dspex.%s.{{partition(%d,2)}}.default.{{wildcard(2)}}.{{wildcard(1)}}", l.Token, l.Shards),
	}
}

// lanes are named one by one: a publish to another lane finds no stream and is refused, instead of waiting for ever.
func lanes(accounts bool) (subjects []string) {
	roots := []string{contract.SubjectAnonymous, "dspex.call.anonymous."}
	if accounts {
		roots = append(roots, "dspex.t.*.anonymous.", "dspex.t.*.call.anonymous.")
	}
	for _, root := range roots {
		subjects = append(subjects, root+contract.LaneInteractive, root+contract.LaneBatch)
	}
	return append(subjects, probeSubject(Anonymous))
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
			cfg.SubjectTransform, cfg.Duplicates = layout.transform(s.Accounts), jobsWindow
		case Anonymous:
			cfg.Duplicates = jobsWindow
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
	return a.Duplicates == b.Duplicates && a.MaxBytes == b.MaxBytes && slices.Equal(a.Subjects, b.Subjects) &&
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
