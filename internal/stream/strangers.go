package stream

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

// Stranger is a consumer of the jobs that is not dspex's. On a work queue it takes them away, or keeps ours from being made.
type Stranger struct {
	Stream   string
	Consumer string
	Filters  []string
}

// ours are the names of our consumers; those of partitions carry number and epoch.
var ours = map[string]*regexp.Regexp{
	Jobs:      regexp.MustCompile(`^p[0-9]+-e[0-9]+$`),
	Anonymous: regexp.MustCompile(`^(interactive|batch)$`),
}

// mostStrangers bounds how many are listed.
const mostStrangers = 16

// Strangers finds the consumers of others, the first few of each stream.
func Strangers(ctx context.Context, js jetstream.JetStream) (all []Stranger, err error) {
	for _, name := range []string{Jobs, Anonymous} {
		s, err := js.Stream(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("stream %s: %w", name, err)
		}
		names := s.ConsumerNames(ctx)
		var foreign []string
		for consumer := range names.Name() {
			if !ours[name].MatchString(consumer) && len(foreign) < mostStrangers {
				foreign = append(foreign, consumer)
			}
		}
		if err := names.Err(); err != nil {
			return nil, fmt.Errorf("list consumers of %s: %w", name, err)
		}
		for _, consumer := range foreign {
			c, err := s.Consumer(ctx, consumer)
			if errors.Is(err, jetstream.ErrConsumerNotFound) {
				continue
			}
			other := Stranger{Stream: name, Consumer: consumer}
			if err == nil { // a push consumer is not reported in this way
				other.Filters = filters(c.CachedInfo().Config)
			}
			all = append(all, other)
		}
	}
	return all, nil
}

// Leftovers are consumers of partitions whose epoch is over: the assignment has a later revision. Who takes the partition deletes them, so
// one that stays was left by a host that stalled. They hold back jobs of a work queue.
func Leftovers(ctx context.Context, js jetstream.JetStream) (all []string, err error) {
	s, err := js.Stream(ctx, Jobs)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", Jobs, err)
	}
	assigned, err := js.Stream(ctx, "KV_"+Assign)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", "KV_"+Assign, err)
	}
	names := s.ConsumerNames(ctx)
	for consumer := range names.Name() {
		var partition int
		var epoch uint64
		if _, bad := fmt.Sscanf(consumer, "p%d-e%d", &partition, &epoch); bad != nil || !ours[Jobs].MatchString(consumer) {
			continue
		}
		m, err := assigned.GetLastMsgForSubject(ctx, fmt.Sprintf("$KV.%s.p.%d", Assign, partition))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("assignment of partition %d: %w", partition, err)
		}
		if epoch < m.Sequence {
			all = append(all, consumer)
		}
	}
	return all, names.Err()
}

// RemoveLeftover deletes a consumer of a partition whose epoch is over, if it is so still.
func RemoveLeftover(ctx context.Context, js jetstream.JetStream, consumer string) error {
	all, err := Leftovers(ctx, js)
	if err != nil || !slices.Contains(all, consumer) {
		return err
	}
	if err := js.DeleteConsumer(ctx, Jobs, consumer); !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return err
	}
	return nil
}

func filters(cfg jetstream.ConsumerConfig) []string {
	switch {
	case len(cfg.FilterSubjects) > 0:
		return cfg.FilterSubjects
	case cfg.FilterSubject != "":
		return []string{cfg.FilterSubject}
	}
	return []string{">"}
}

// ErrOurs reports that a consumer is one that dspex needs.
var ErrOurs = errors.New("the consumer is dspex's own")

// RemoveStranger deletes a consumer of others. It reports false if there is none of that name.
func RemoveStranger(ctx context.Context, js jetstream.JetStream, stream, consumer string) (bool, error) {
	if own, known := ours[stream]; !known || own.MatchString(consumer) {
		return false, ErrOurs
	}
	err := js.DeleteConsumer(ctx, stream, consumer)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return false, nil
	}
	return err == nil, err
}
