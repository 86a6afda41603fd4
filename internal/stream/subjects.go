package stream

import (
	"context"
	"fmt"
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

// The subject determines who may put a job there: clients publish to session, dispatchers to call.
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
