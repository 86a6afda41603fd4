package gatewaycmd

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/cmd/dspex/internal/cli"
	"github.com/dspex/dspex/internal/link"
	"github.com/dspex/dspex/internal/logfeed"
)

// showLog shows the gateway's log to operators, until stop is called. It has a connection of its own: a user that may not do this is denied
// nothing else.
func showLog(ctx context.Context, a *cli.App, feed *logfeed.Feed, log *slog.Logger) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	nc, err := connectForLog(a, cancel, log)
	if err != nil {
		cancel()
		log.Warn("log_not_shown", "error", err)
		return func() {}
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		defer nc.Close()
		if err := feed.Serve(ctx, nc); err != nil {
			log.Warn("log_not_shown", "error", err)
		}
	})
	return func() { cancel(); serving.Wait() }
}

func connectForLog(a *cli.App, denied func(), log *slog.Logger) (*nats.Conn, error) {
	address, options, err := a.Target()
	if err != nil {
		return nil, err
	}
	options = append(options, link.ConnectOptions("dspex gateway log")...)
	return nats.Connect(address, append(options, nats.IgnoreAuthErrorAbort(), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		if errors.Is(err, nats.ErrPermissionViolation) {
			log.Info("log_not_shown", "hint", "`dspex logs` shows the gateway's log if its user is an operator")
			denied()
		}
	}))...)
}
