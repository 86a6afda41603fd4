package stream

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/link"
)

// Objects are the names of all broker objects.
func Objects() (names []string) {
	for _, cfg := range objects(Settings{}.withDefaults()) {
		names = append(names, cfg.Name)
	}
	return names
}

// ErrTakesNothing reports that an object does not store what it is given, though the broker answers.
var ErrTakesNothing = fmt.Errorf("%w: the broker answers but stores nothing, as it does while its disk is full and from then on until it is restarted", ErrStoreFull)

// Probe writes a small message into a broker object, reads it back and removes it. The error is one of ErrStoreFull if there is no
// room. It ends within twice AckTimeout and a second, and three times getTimeout.
//
// Dead letters are named by their sequences and events have subscribers, so these two are requested to remove a message that is not
// there: an object that takes nothing refuses that too.
func Probe(ctx context.Context, js jetstream.JetStream, w *Writer, name string) error {
	subject := probeSubject(name)
	if name == Audit { // from which nothing can be removed: its probes expire
		_, err := w.PublishSync(&nats.Msg{Subject: subject, Header: nats.Header{"Nats-TTL": {"1s"}}})
		return err
	}
	if name == Dead || name == Events {
		return removeProbe(ctx, js, name, jetstream.WithPurgeSubject(subject))
	}
	ack, err := w.PublishSync(&nats.Msg{Subject: subject})
	if err != nil {
		return Diagnose(ctx, js.Conn(), w, name, err)
	}
	if _, err := GetSequence(ctx, js.Conn(), name, ack.Sequence); err != nil && !errors.Is(err, ErrNotFound) { // another dispatcher may have removed it
		return fmt.Errorf("read back: %w", err)
	}
	if name == Jobs { // the newest anchor stays; earlier ones go, also those of writes whose acknowledgement was lost
		return removeProbe(ctx, js, name, jetstream.WithPurgeSubject(subject), jetstream.WithPurgeSequence(ack.Sequence))
	}
	return removeProbe(ctx, js, name, jetstream.WithPurgeSubject(subject), jetstream.WithPurgeSequence(ack.Sequence+1))
}

func removeProbe(ctx context.Context, js jetstream.JetStream, name string, which ...jetstream.StreamPurgeOpt) error {
	ctx, cancel := context.WithTimeout(ctx, getTimeout)
	defer cancel()
	s, err := js.Stream(ctx, name)
	if err != nil {
		return fmt.Errorf("stream %s: %w", name, err)
	}
	err = s.Purge(ctx, which...)
	if api, ok := errors.AsType[*jetstream.APIError](err); ok && strings.Contains(api.Description, "no space left") {
		return ErrTakesNothing
	}
	return err
}

// Diagnose reports what lies behind a write to an object that was not acknowledged. It is ErrTakesNothing if the object's leader answers
// and has its replicas, but a second write changes nothing there and is not acknowledged either. Else it is the error itself. A broker
// that is merely slow has stored something meanwhile, and in a cluster the first write may have met an election.
func Diagnose(ctx context.Context, nc *nats.Conn, w *Writer, name string, err error) error {
	if !errors.Is(err, ErrUnknown) || errors.Is(err, ErrNoStream) || name == Dead || name == Events { // these two have no subject for probes
		return err
	}
	before, none := standOf(ctx, nc, name)
	if none != nil {
		return err
	}
	_, again := w.PublishSync(&nats.Msg{Subject: probeSubject(name)})
	if errors.Is(again, ErrStoreFull) {
		return again
	}
	if after, none := standOf(ctx, nc, name); !errors.Is(again, ErrUnknown) || none != nil || after != before {
		return err
	}
	return ErrTakesNothing
}

// stand is who leads an object, "" where it has no replicas, and what it stored last.
type stand struct {
	leader string
	last   uint64
}

// standOf fails if the leader has not most of its replicas.
func standOf(ctx context.Context, nc *nats.Conn, name string) (stand, error) {
	ctx, cancel := context.WithTimeout(ctx, getTimeout)
	defer cancel()
	info, err := link.Quorum(ctx, nc, name)
	if err != nil {
		return stand{}, err
	}
	s := stand{last: info.State.LastSeq}
	if info.Cluster != nil && len(info.Cluster.Replicas) > 0 {
		s.leader = info.Cluster.Leader
	}
	return s, nil
}

// CheckQuorum checks whether the leader of the stream of jobs can store something. A leader that is cut off goes on answering for ten
// seconds, but reports since when it has had no contact with its replicas.
func CheckQuorum(ctx context.Context, nc *nats.Conn) error {
	_, err := link.Quorum(ctx, nc, Jobs)
	if errors.Is(err, jetstream.ErrStreamNotFound) { // a stream that was deleted is missed everywhere
		return nil
	}
	return err
}
