package stream

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/dspex/dspex/internal/affinity"
	"github.com/dspex/dspex/internal/contract"
	"github.com/nats-io/nats.go/jetstream"
)

// Layout is one way to spread the sessions over partitions. The broker hashes each session into a shard: its jobs lie under
// dspex.<token>.<shard>.<tenant>.<session>.<who>. A partition is every shard whose number modulo the number of partitions is the
// partition's. So another number of partitions is another grouping of the same shards, and what is stored is independent of it.
//
// More partitions than there are shards need more shards, which is another transform for what is stored from then on, under another
// token. What lies under the earlier token is older than all that lies under the next one, and they are served in this order.
type Layout struct {
	Token      string
	Shards     int
	Partitions int
}

const (
	// FirstLayout is the token that a stream is made with; later ones are named p<shards>-<number of the change>.
	FirstLayout = "p"
	// ManyShards are those of a replicated stream, and of one that gets more partitions than it has shards. There may be as many
	// partitions. It is a power of two, so that with the usual numbers all partitions have the same size.
	ManyShards = 256
)

// Partition is where a session's jobs lie.
func (l Layout) Partition(session string) int {
	return affinity.Partition(session, l.Shards) % l.Partitions
}

// Filters are the subjects of a partition's jobs.
func (l Layout) Filters(partition int) (all []string) {
	for shard := partition; shard < l.Shards; shard += l.Partitions {
		all = append(all, contract.SubjectRoot+l.Token+"."+strconv.Itoa(shard)+".>")
	}
	return all
}

// Grouped reports whether a partition is more than one shard. Hosts of earlier releases do not support that.
func (l Layout) Grouped() bool { return l.Shards != l.Partitions }

// Layouts are the one that is to be served and the one that new jobs get; they are the same but while shards are added.
type Layouts struct {
	Serving, Next Layout
	Before        int // partitions before the last change, 0 if there was none: assignments from then may be about
}

// Changing reports whether jobs of an earlier layout are left.
func (l Layouts) Changing() bool { return l.Serving != l.Next }

// What the stream's metadata contain once the number was changed.
const (
	numberNow    = "dspex_partitions" // if it is not the number of shards
	numberWas    = "dspex_partitions_before"
	firstCount   = "dspex_first_layout"    // shards of the first layout
	layoutBefore = "dspex_layout_before"   // token of the layout before the present one
	layoutSince  = "dspex_layout_since_ms" // when it became the one before, by the broker's clock
)

// firstLayout is that of a new stream. On one server the change of a transform and the storing of a job exclude each other, and hosts of
// earlier releases can serve one shard a partition; in a cluster the transform has to last.
func firstLayout(s Settings) Layout {
	l := Layout{Token: FirstLayout, Shards: s.Partitions, Partitions: s.Partitions}
	if s.Replicas > 1 {
		l.Shards = max(ManyShards, s.Partitions)
	}
	return l
}

// metadata is what the transform does not contain.
func (l Layout) metadata() map[string]string {
	if !l.Grouped() {
		return nil
	}
	return map[string]string{numberNow: strconv.Itoa(l.Partitions)}
}

// layoutOf reads the layout of new jobs from the stream's subject transform.
func layoutOf(cfg jetstream.StreamConfig) (Layout, error) {
	t := cfg.SubjectTransform
	if t == nil {
		return Layout{}, fmt.Errorf("stream %s has no subject transform: it was not made by dspex", Jobs)
	}
	before, rest, _ := strings.Cut(t.Destination, ".{{partition(")
	number, _, _ := strings.Cut(rest, ",")
	token, ours := strings.CutPrefix(before, contract.SubjectRoot)
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || !ours {
		return Layout{}, fmt.Errorf("stream %s: subject transform %q: expected dspex.<layout>.{{partition(n,1)}}", Jobs, t.Destination)
	}
	l := Layout{Token: token, Shards: n, Partitions: n}
	if text := cfg.Metadata[numberNow]; text != "" {
		if l.Partitions, err = strconv.Atoi(text); err != nil || l.Partitions < 1 || l.Partitions > n {
			return Layout{}, fmt.Errorf("stream %s: %s must be 1 to %d, got %q", Jobs, numberNow, n, text)
		}
	}
	return l, nil
}

var laterLayout = regexp.MustCompile(`^p([0-9]{1,6})-([0-9]{1,9})$`)

// layoutNamed is the layout of a token.
func layoutNamed(cfg jetstream.StreamConfig, token string) (Layout, error) {
	number := cfg.Metadata[firstCount]
	if m := laterLayout.FindStringSubmatch(token); m != nil {
		number = m[1]
	} else if token != FirstLayout {
		number = ""
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 {
		return Layout{}, fmt.Errorf("stream %s holds jobs under dspex.%s: expected p or p<shards>-<number>", Jobs, token)
	}
	return Layout{Token: token, Shards: n, Partitions: n}, nil
}

// transform puts the jobs of a layout into the shards of their sessions.
func (l Layout) transform(accounts bool) *jetstream.SubjectTransformConfig {
	if accounts {
		return &jetstream.SubjectTransformConfig{
			Source:      tenantSubjects,
			Destination: fmt.Sprintf(contract.SubjectRoot+"%s.{{partition(%d,3)}}.{{wildcard(1)}}.{{wildcard(3)}}.{{wildcard(2)}}", l.Token, l.Shards),
		}
	}
	return &jetstream.SubjectTransformConfig{
		Source:      plainSubjects,
		Destination: fmt.Sprintf(contract.SubjectRoot+"%s.{{partition(%d,2)}}.default.{{wildcard(2)}}.{{wildcard(1)}}", l.Token, l.Shards),
	}
}

// The subject determines who may put a job there: clients publish to session, dispatchers to call.
const (
	plainSubjects  = contract.SubjectRoot + "*.*"
	tenantSubjects = contract.SubjectTenant + "*.*.*"
)
