package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/link"
	"github.com/nats-io/nats.go/jetstream"
)

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
	token, _, _ := strings.Cut(strings.TrimPrefix(oldest.Subject, contract.SubjectRoot), ".")
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

// anyLayout matches the jobs of all layouts, and nothing else in the stream.
const anyLayout = contract.SubjectStored + ">"

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

// whenCurrent waits for a moment in which every replica has all of the stream. Each server of a cluster applies the transform itself when
// it stores a message (nats-server 2.15.2). One that stores what came before the change after it has it under another subject than the
// others, where no consumer finds it. A job that is stored in that very moment can still meet that. Only a stream of an earlier release
// has so few shards in a cluster, and only once: docs/operations.md has what an operator does.
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
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(contract.SubjectRoot+l.Token+".>"))
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
