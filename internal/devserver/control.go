package devserver

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/dispatch"
	"github.com/dspex/dspex/internal/echolm"
)

// Control runs broker, dispatcher and echo model in this process; worker-hosts are processes of their own. It calls
// cfg.Ready when hosts may join, serves until ctx ends and returns when all it started has ended. Of cfg it reads Listen, Dir,
// Log, Alerts, ProbeEach and Ready.
func Control(ctx context.Context, cfg Config) error {
	if err := cfg.Check(); err != nil {
		return err
	}
	cfg = cfg.withDefaults()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	echo, err := echolm.New(echolm.Config{Log: cfg.Log})
	if err != nil {
		return err
	}
	srv, err := Broker(cfg.Listen, cfg.Dir)
	if err != nil {
		return err
	}
	defer srv.stop()
	nc, err := connect(srv, "dspex dispatcher")
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	if err := srv.ensure(ctx, js); err != nil {
		return err
	}
	d, err := dispatch.New(dispatch.Config{Name: "dev", NC: nc, Log: cfg.Log, Alerts: cfg.Alerts, ProbeEach: cfg.ProbeEach})
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	wg.Go(func() { srv.recover(ctx, d.Blocked, cfg.Log) })
	for name, run := range map[string]func(context.Context) error{"dispatcher": d.Run, "echo model": echo.Run} {
		wg.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	if cfg.Ready != nil {
		cfg.Ready(Info{URL: srv.server().ClientURL(), Echo: echo.URL()})
	}
	<-ctx.Done()
	wg.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}
