package backup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/contract"
)

// beats is longer than the pause between two heartbeats of a host.
const beats = 3 * time.Second

// Alone is an error while a dispatcher or a host runs.
func Alone(ctx context.Context, nc *nats.Conn) error {
	m, err := nc.RequestWithContext(ctx, "$SRV.PING.dspex", nil)
	switch {
	case err == nil:
		return fmt.Errorf("no dispatcher may run, got one: %s", m.Data)
	case !errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("look for dispatchers: %w", err)
	}
	sub, err := nc.SubscribeSync(contract.SubjectHeartbeat + "*")
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }()
	ctx, cancel := context.WithTimeout(ctx, beats)
	defer cancel()
	switch beat, err := sub.NextMsgWithContext(ctx); {
	case err == nil:
		return fmt.Errorf("no worker-host may run, got the heartbeat %s", beat.Subject)
	case !errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("look for worker-hosts: %w", err)
	}
	return nil
}
