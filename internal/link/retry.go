package link

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// retryTime bounds the wait for brokers that start, or elect: a stream needs most of its replicas.
	retryTime  = 2 * time.Minute
	retryPause = 500 * time.Millisecond
	// noPeers is the broker's code for a stream whose replicas find no place.
	noPeers jetstream.ErrorCode = 10005
)

// Retry tries until it works, the error is not one that passes, or two minutes are over. Programs start with it what needs the
// broker: one that is started with its brokers, or in the middle of an election, has to wait and not to end.
func Retry(ctx context.Context, log *slog.Logger, passes func(error) bool, try func(context.Context) error) error {
	logged := ""
	for end := time.Now().Add(retryTime); ; {
		err := try(ctx)
		if err == nil || ctx.Err() != nil || time.Now().After(end) || !passes(err) {
			return err
		}
		if err.Error() != logged {
			logged = err.Error()
			log.Info("waiting_for_the_broker", "error", err)
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(retryPause):
		}
	}
}

// passing are errors of a connection that is lost, or of a broker that does not answer. nats.go reports that the connection is closed
// also when it is recreated.
var passing = []error{context.DeadlineExceeded, nats.ErrTimeout, nats.ErrNoResponders, nats.ErrConnectionClosed, nats.ErrDisconnected, nats.ErrConnectionReconnecting}

// Passes reports whether an error is one of a broker that is starting, electing, or away: nothing but time helps.
func Passes(err error) bool {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return api.Code == 503 || api.ErrorCode == noPeers
	}
	return slices.ContainsFunc(passing, func(p error) bool { return errors.Is(err, p) })
}
