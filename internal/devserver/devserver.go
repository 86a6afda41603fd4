// Package devserver runs the whole system in one process: an embedded broker with JetStream on disk, a dispatcher, a
// worker-host with its Python workers and, unless a language model is configured, the echo model.
package devserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/dispatch"
	"github.com/dspex/dspex/internal/host"
	"github.com/dspex/dspex/internal/link"
	"github.com/dspex/dspex/internal/lm"
	"github.com/dspex/dspex/internal/mock"
)

func (i Info) took() slog.Attr {
	var all []any
	for _, name := range slices.Sorted(maps.Keys(i.Took)) {
		all = append(all, slog.Duration(name, i.Took[name]))
	}
	return slog.Group("took", all...)
}

// Check reports everything that is wrong with the configuration, at once, before minutes go into a Python environment.
func (c Config) Check() error {
	c = c.withDefaults()
	mode, _, test := c.testing()
	var engine, workers, slots error
	if c.Engine != "dspy" && c.Engine != "stub" {
		engine = fmt.Errorf("--engine must be dspy or stub, got %q", c.Engine)
	}
	if c.Workers < 1 || c.Workers > 256 {
		workers = fmt.Errorf("--workers must be 1 to 256, got %d", c.Workers)
	}
	if c.Slots < 1 || c.Slots > 1024 {
		slots = fmt.Errorf("--slots must be 1 to 1024, got %d", c.Slots)
	}
	_, _, listen := splitListen(c.Listen)
	_, defaults := c.Defaults.Load()
	return errors.Join(engine, listen, workers, slots, defaults, test, c.checkModels(mode), c.Modules.Check(c.Env), c.Pool.Check(), c.Times.check(), c.Sandbox.Check(), c.Breaker.Check())
}

func (c Config) checkModels(mode mock.Mode) error {
	if c.LMFile == "" {
		return nil
	}
	f, err := lm.Load(c.LMFile)
	if err == nil {
		_, err = lm.New(f, mode.Keys(c.Env))
	}
	return lm.OfFlag(err)
}

func (c Config) testing() (mock.Mode, *mock.Scenario, error) {
	return c.Test.Resolve(mock.Setup{Engine: c.Engine, Modules: len(c.Modules.Names) > 0, Model: c.LMFile != ""})
}

// tested is the configuration, which Check has found right, with what its test mode means.
func (c Config) tested() Config {
	c.mode, c.scenario, _ = c.testing()
	if c.PoolingOff {
		c.mode = mock.Adapter // of which nothing is started
	}
	if engine := c.mode.Engine(); engine != "" {
		c.Engine = engine
	}
	return c
}

// Run serves until ctx ends and returns when all it started has ended.
func Run(ctx context.Context, cfg Config) (err error) {
	if err := cmp.Or(cfg.Check(), isFree(cfg.withDefaults().Listen)); err != nil {
		return err
	}
	cfg = cfg.withDefaults().tested()
	models, echo, profiles, err := languageModels(cfg)
	if err != nil {
		return err
	}
	began := time.Now()
	info := Info{Off: cfg.PoolingOff, Engine: cfg.Engine, Mode: string(cfg.mode), Took: map[string]time.Duration{}}
	env, err := environment(ctx, cfg, profiles.NeedsLitellm())
	if err != nil {
		return err
	}
	info.Took["python_environment"] = time.Since(began)
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer func() { cancel(nil); wg.Wait() }()
	run := func(name string, f func(context.Context) error) {
		wg.Go(func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	if echo != nil {
		info.Echo = echo.URL()
		run("echo model", echo.Run)
	}
	if cfg.box, err = openSandbox(cfg, keyFiles(cfg, profiles), env); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cfg.box.Close()) }()
	if cfg.box.Exchange != nil {
		if err := models.Outside(); err != nil {
			return err
		}
	}
	w := startWorkers(ctx, cfg, env, models, cancel)
	defer w.stop()
	began = time.Now()
	srv, err := Broker(cfg.Listen, cfg.Dir)
	if err != nil {
		return err
	}
	defer srv.stop()
	info.URL = srv.server().ClientURL()
	s := &serving{cfg: cfg, profiles: profiles, models: models, echo: echo, workers: w}
	if err := s.start(ctx, srv, run, func() {
		info.Took["broker_and_partitions"] = time.Since(began)
		if err := w.ready(ctx); err != nil {
			cancel(workersFailed(err))
			return
		}
		info.Busy = func() int { return s.slots() - w.pool.Free() }
		info.Models, info.Adjust = s.modelNames, s.adjust
		info.Took["first_worker"] = time.Since(began)
		cfg.Log.Info("started", info.took())
		if cfg.Ready != nil {
			cfg.Ready(info)
		}
	}); err != nil {
		cancel(err)
	}
	<-ctx.Done()
	wg.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// start starts dispatcher and host on the embedded broker.
func (s *serving) start(ctx context.Context, srv *broker, run func(string, func(context.Context) error), ready func()) error {
	cfg, w := s.cfg, s.workers
	control, err := connect(srv, "dspex dispatcher")
	if err != nil {
		return err
	}
	data, err := connect(srv, "dspex worker-host")
	if err != nil {
		return err
	}
	js, err := jetstream.New(control)
	if err != nil {
		return err
	}
	if err := srv.ensure(ctx, js); err != nil {
		return err
	}
	settings, err := srv.settings()
	if err != nil {
		return err
	}
	d, err := dispatch.New(dispatch.Config{Name: "dev", Build: cfg.Version, NC: control, Log: cfg.Log, Settings: settings, Alerts: cfg.Alerts, Machine: clock.System(), ProbeEach: cfg.ProbeEach, PoolingOff: cfg.PoolingOff, Traces: cfg.Traces, OnReady: ready})
	if err != nil {
		return err
	}
	if s.defaults, err = cfg.Defaults.Load(); err != nil {
		return err
	}
	h, err := host.New(host.Config{Name: "dev", Version: cfg.Version, NC: data, Pool: mock.WithFaults(w.pool, cfg.scenario), Models: s.models, Log: cfg.Log, Capacity: cfg.Workers * cfg.Slots, Breaker: cfg.Breaker, Defaults: s.defaults, Machine: clock.System(),
		SessionIdle: cfg.Times.Idle, CheckoutTimeout: cfg.Times.Checkout, Grace: cfg.Times.Grace, Engine: w.engine, Sandbox: cfg.box.Level.String(), OnEnded: cfg.Ended, Traces: cfg.Traces, Reload: cfg.Reread})
	if err != nil {
		return err
	}
	s.dispatcher, s.host = d, h
	if cfg.Metrics != nil {
		collectors := []prometheus.Collector{d, h}
		if w.metrics != nil {
			collectors = append(collectors, w.metrics)
		}
		for _, c := range collectors {
			if err := cfg.Metrics.Register(c); err != nil {
				return err
			}
		}
	}
	run("broker", func(ctx context.Context) error { srv.recover(ctx, d.Blocked, cfg.Log); return nil })
	if cfg.Feed != nil {
		run("log", func(ctx context.Context) error { return cfg.Feed.Serve(ctx, control) })
	}
	run("dispatcher", func(ctx context.Context) error { defer control.Close(); return d.Run(ctx) })
	if cfg.PoolingOff {
		data.Close()
		return nil
	}
	run("worker-host", func(ctx context.Context) error { defer data.Close(); return runHost(ctx, h, cfg.Hurry) })
	return nil
}

// runHost runs the host until it has ended, sooner once hurry is closed.
func runHost(ctx context.Context, h *host.Host, hurry <-chan struct{}) error {
	over := make(chan struct{})
	var hurries sync.WaitGroup
	hurries.Go(func() {
		select {
		case <-hurry:
			h.Hurry()
		case <-over:
		}
	})
	defer hurries.Wait()
	defer close(over)
	return h.Run(ctx)
}

func connect(srv nats.InProcessConnProvider, name string) (*nats.Conn, error) {
	return nats.Connect("", append(link.ConnectOptions(name), nats.InProcessServer(srv))...)
}
