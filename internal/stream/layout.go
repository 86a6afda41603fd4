package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/affinity"
	"github.com/dspex/dspex/internal/link"
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
	// ManyShards are those of a replicated stream, and of one that gets more partitions than it has shards: as many as there may be partitions,
	// and a power of two, so that the usual numbers of partitions are of one size.
	ManyShards = 256
)

// Partition is where a session's jobs lie.
func (l Layout) Partition(session string) int {
	return affinity.Partition(session, l.Shards) % l.Partitions
}

// Filters are the subjects of a partition's jobs.
func (l Layout) Filters(partition int) (all []string) {
	for shard := partition; shard < l.Shards; shard += l.Partitions {
		all = append(all, "dspex."+l.Token+"."+strconv.Itoa(shard)+".>")
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
	token, ours := strings.CutPrefix(before, "dspex.")
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

// anyLayout matches the jobs of all layouts, and nothing else in the stream.
const anyLayout = "dspex.*.*.>"

// ReadLayouts finds out what is to be served: the layout of the oldest job that is left.
func ReadLayouts(ctx context.Context, js jetstream.JetStream) (Layouts, error) {
	s, err := js.Stream(ctx, Jobs)
	if err != nil {
		return Layouts{}, fmt.Errorf("stream %s: %w", Jobs, err)
	}
	cfg := s.CachedInfo().Config
	next, err := layoutOf(cfg)
	if err != nil {
		return Layouts{}, err
	}
	now := Layouts{Serving: next, Next: next}
	if was := cmp.Or(cfg.Metadata[numberWas], cfg.Metadata[firstCount]); was != "" {
		if now.Before, err = strconv.Atoi(was); err != nil {
			return now, fmt.Errorf("stream %s: %s must be a number, got %q", Jobs, numberWas, was)
		}
	}
	if cfg.Metadata[firstCount] == "" { // there was never another token
		return now, nil
	}
	if changing(cfg, s.CachedInfo().TimeStamp) {
		now.Serving, err = layoutNamed(cfg, cfg.Metadata[layoutBefore])
		return now, err
	}
	oldest, err := GetNext(ctx, js.Conn(), Jobs, anyLayout, 1)
	if errors.Is(err, ErrNotFound) {
		return now, nil
	}
	if err != nil {
		return Layouts{}, err
	}
	token, _, _ := strings.Cut(strings.TrimPrefix(oldest.Subject, "dspex."), ".")
	if token == next.Token {
		return now, nil
	}
	now.Serving, err = layoutNamed(cfg, token)
	return now, err
}

// layoutPause is how long a replicated stream may still take jobs in the layout of before: a server that has just become its
// leader may not have the change. On one server the change and the storing of a job exclude each other.
const layoutPause = 5 * time.Second

func changing(cfg jetstream.StreamConfig, now time.Time) bool {
	since, err := strconv.ParseInt(cfg.Metadata[layoutSince], 10, 64)
	past := now.Sub(time.UnixMilli(since))
	return cfg.Replicas > 1 && err == nil && past.Abs() < layoutPause // a change far ahead: the broker's clock was set back since
}

// Repartition has the sessions divided into another number of partitions. What waits stays where it is. Only a stream with too few
// shards gets another transform, once.
func Repartition(ctx context.Context, js jetstream.JetStream, partitions int) error {
	s, err := js.Stream(ctx, Jobs)
	if err != nil {
		return fmt.Errorf("stream %s: %w", Jobs, err)
	}
	now, err := layoutOf(s.CachedInfo().Config)
	if err != nil || now.Partitions == partitions {
		return err
	}
	if now.Shards < partitions {
		if s, err = whenCurrent(ctx, js, s); err != nil {
			return err
		}
	}
	cfg := s.CachedInfo().Config
	if cfg.Metadata == nil {
		cfg.Metadata = map[string]string{}
	}
	if now.Shards < partitions {
		if err := addShards(&cfg, now, s.CachedInfo().TimeStamp); err != nil {
			return err
		}
	}
	cfg.Metadata[numberNow] = strconv.Itoa(partitions)
	cfg.Metadata[numberWas] = strconv.Itoa(now.Partitions)
	cfg.MaxConsumers = max(cfg.MaxConsumers, 4*partitions)
	if _, err := js.UpdateStream(ctx, cfg); err != nil {
		return fmt.Errorf("stream %s: %w", Jobs, err)
	}
	return nil
}

// addShards puts what is stored from now on into ManyShards, under another token.
func addShards(cfg *jetstream.StreamConfig, now Layout, at time.Time) (err error) {
	change := 1
	if m := laterLayout.FindStringSubmatch(now.Token); m != nil {
		if change, err = strconv.Atoi(m[2]); err != nil {
			return err
		}
		change++
	}
	if now.Token == FirstLayout {
		cfg.Metadata[firstCount] = strconv.Itoa(now.Shards)
	}
	cfg.Metadata[layoutBefore] = now.Token
	cfg.Metadata[layoutSince] = strconv.FormatInt(at.UnixMilli(), 10)
	next := Layout{Token: fmt.Sprintf("p%d-%d", ManyShards, change), Shards: ManyShards}
	cfg.SubjectTransform = next.transform(cfg.SubjectTransform.Source == tenantSubjects)
	return nil
}

// NotCurrentError reports that a replica has not all that the others have.
type NotCurrentError struct{ Server string }

func (e *NotCurrentError) Error() string {
	return fmt.Sprintf("all replicas of stream %s must have all of it before it gets more shards, server %s has not", Jobs, e.Server)
}

const (
	currentWait  = 5 * time.Second
	currentPause = 50 * time.Millisecond
)

// whenCurrent waits for a moment in which every replica has all of the stream. Each server of a cluster applies the transform itself
// when it stores a message (nats-server 2.15.2): one that stores what came before the change after it has it under another subject
// than the others, where no consumer finds it. A job that is stored in that very moment can still meet that. Only a stream of an earlier
// release has so few shards in a cluster, and only once: docs/operations.md has what an operator does.
func whenCurrent(ctx context.Context, js jetstream.JetStream, s jetstream.Stream) (jetstream.Stream, error) {
	for end := time.Now().Add(currentWait); ; {
		behind := allCurrent(s.CachedInfo().Cluster)
		if behind == nil || time.Now().After(end) {
			return s, behind
		}
		select {
		case <-ctx.Done():
			return s, behind
		case <-time.After(currentPause):
		}
		var err error
		if s, err = js.Stream(ctx, Jobs); err != nil {
			return s, fmt.Errorf("stream %s: %w", Jobs, err)
		}
	}
}

// allCurrent names a replica that is behind.
func allCurrent(c *jetstream.ClusterInfo) error {
	if c == nil {
		return nil
	}
	for _, r := range c.Replicas {
		if r.Offline || !r.Current || r.Lag > 0 || r.Active > link.SilentReplica {
			return &NotCurrentError{r.Name}
		}
	}
	return nil
}

// Waiting counts the jobs under a layout's token that are left.
func Waiting(ctx context.Context, js jetstream.JetStream, l Layout) (n uint64, err error) {
	s, err := js.Stream(ctx, Jobs)
	if err != nil {
		return 0, fmt.Errorf("stream %s: %w", Jobs, err)
	}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter("dspex."+l.Token+".>"))
	if err != nil {
		return 0, fmt.Errorf("stream %s: %w", Jobs, err)
	}
	for _, messages := range info.State.Subjects {
		n += messages
	}
	return n, nil
}

// has reports whether a consumer is one that a partition of the layout may have.
func (l Layout) has(c *jetstream.ConsumerInfo) bool {
	var n int
	_, err := fmt.Sscanf(c.Name, "p%d-", &n)
	return err == nil && n < l.Partitions && slices.Equal(filters(c.Config), l.Filters(n))
}

// DropLayouts deletes the partitions' consumers of all layouts but one. Nothing is left there for them, and a stream has room for
// this many consumers only.
func DropLayouts(ctx context.Context, js jetstream.JetStream, keep Layout) error {
	s, err := js.Stream(ctx, Jobs)
	if err != nil {
		return fmt.Errorf("stream %s: %w", Jobs, err)
	}
	list := s.ListConsumers(ctx)
	var others []string
	for c := range list.Info() {
		if ours[Jobs].MatchString(c.Name) && !keep.has(c) {
			others = append(others, c.Name)
		}
	}
	if err := list.Err(); err != nil {
		return fmt.Errorf("list consumers: %w", err)
	}
	for _, name := range others {
		if err := js.DeleteConsumer(ctx, Jobs, name); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return fmt.Errorf("delete consumer %s: %w", name, err)
		}
	}
	return nil
}
