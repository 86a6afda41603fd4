// Package devserver runs the whole system in one process: an embedded broker with JetStream on disk, a dispatcher, a
// worker-host with its Python workers and, unless a language model is configured, the echo model.
package devserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/dspex/dspex/internal/breaker"
	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/dispatch"
	"github.com/dspex/dspex/internal/echolm"
	"github.com/dspex/dspex/internal/host"
	"github.com/dspex/dspex/internal/lm"
	"github.com/dspex/dspex/internal/mock"
	"github.com/dspex/dspex/internal/pyenv"
	"github.com/dspex/dspex/internal/pyproc"
	"github.com/dspex/dspex/internal/sandbox"
	"github.com/dspex/dspex/internal/stream"
	"github.com/dspex/dspex/internal/wire"
)

// Config says what to run. Zero values mean the documented defaults.
type Config struct {
	Engine   string         // "dspy" (default) or "stub"
	Listen   string         // HOST:PORT, default 127.0.0.1:4222; port 0 takes a free one
	Dir      string         // the broker's data; default: a directory that is removed at the end
	Workers  int            // default 4
	Slots    int            // of each worker, default 64
	Pool     pyproc.Options // of the workers; zero: the defaults
	Sandbox  sandbox.Options
	Breaker  breaker.Config // zero: the defaults
	Defaults host.Defaults  // of jobs' options
	Alerts   dispatch.Alerts
	Modules  pyenv.Modules         // the user's
	LMFile   string                // profiles; default: the echo model alone
	KeyRefs  lm.KeyRefs            // that set_lm may name
	Test     mock.Options          // zero: no test mode
	Python   string                // interpreter, default python3
	Metrics  prometheus.Registerer // gets those of dispatcher and worker-host; nil: none
	Log      *slog.Logger
	Progress io.Writer // of making the Python environment
	// Ready is told where clients connect, once requests will be answered.
	Ready func(Info)
	// Raised is told of each attempt that ended in an exception of the user's code; it must not block.
	Raised func(Raised)

	box      *sandbox.Box // made by Run, as is the rest
	mode     mock.Mode
	scenario *mock.Scenario
}

// Raised is an attempt that ended in an exception.
type Raised = host.Raised

// Info is what Ready is told.
type Info struct {
	URL    string
	Echo   string // URL of the echo model, "" when an LM is configured
	Engine string
	Mode   string                   // of tests, "" if there is none
	Took   map[string]time.Duration // what the start was spent on; the broker and the workers start side by side
}

func (i Info) took() slog.Attr {
	var all []any
	for _, name := range slices.Sorted(maps.Keys(i.Took)) {
		all = append(all, slog.Duration(name, i.Took[name]))
	}
	return slog.Group("took", all...)
}

func (c Config) withDefaults() Config {
	if c.Engine == "" {
		c.Engine = "dspy"
	}
	if c.Listen == "" {
		c.Listen = "127.0.0.1:4222"
	}
	if c.Workers == 0 {
		c.Workers = 4
	}
	if c.Slots == 0 {
		c.Slots = 64
	}
	if c.Pool == (pyproc.Options{}) {
		c.Pool = pyproc.DefaultOptions()
	}
	c.Breaker, c.Defaults = c.Breaker.WithDefaults(), c.Defaults.WithDefaults()
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Check says all that is wrong with the configuration, at once, before minutes go into a Python environment.
func (c Config) Check() error {
	c = c.withDefaults()
	_, _, test := c.testing()
	var engine, size error
	if c.Engine != "dspy" && c.Engine != "stub" {
		engine = fmt.Errorf("--engine must be dspy or stub, got %q", c.Engine)
	}
	if c.Workers < 1 || c.Workers > 256 || c.Slots < 1 || c.Slots > 1024 {
		size = fmt.Errorf("there must be 1 to 256 workers with 1 to 1024 slots, got %d with %d", c.Workers, c.Slots)
	}
	_, _, listen := splitListen(c.Listen)
	_, defaults := c.Defaults.Load()
	return errors.Join(engine, listen, size, defaults, test, c.Modules.Check(os.Getenv), c.Pool.Check(), c.Sandbox.Check(), c.Breaker.Check())
}

func (c Config) testing() (mock.Mode, *mock.Scenario, error) {
	return c.Test.Resolve(mock.Setup{Engine: c.Engine, Modules: len(c.Modules.Names) > 0, Model: c.LMFile != ""})
}

// Run serves until ctx ends and returns when all it started has ended.
func Run(ctx context.Context, cfg Config) (err error) {
	if err := cfg.Check(); err != nil {
		return err
	}
	cfg = cfg.withDefaults()
	if cfg.mode, cfg.scenario, err = cfg.testing(); err != nil {
		return err
	}
	if engine := cfg.mode.Engine(); engine != "" {
		cfg.Engine = engine
	}
	if err := isFree(cfg.Listen); err != nil {
		return err
	}
	models, echo, profiles, err := languageModels(cfg)
	if err != nil {
		return err
	}
	began := time.Now()
	info := Info{Engine: cfg.Engine, Mode: string(cfg.mode), Took: map[string]time.Duration{}}
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
	if cfg.box, err = openSandbox(cfg, append(profiles.SecretFiles(), cfg.KeyRefs.Files()...), env); err != nil {
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
	info.URL = srv.ClientURL()
	if err := serve(ctx, cfg, srv, w, models, run, func() {
		info.Took["broker_and_partitions"] = time.Since(began)
		if err := w.ready(ctx); err != nil {
			cancel(workersFailed(err))
			return
		}
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

// startPool runs the workers, and what calls models for them, until stop is called: that is after the last job. stop waits for them.
func startPool(ctx context.Context, cfg Config, env pyenv.Env, models *lm.Registry, failed func(error)) (pool *pyproc.Pool, stop func()) {
	pool = pyproc.New(poolConfig(cfg, env))
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var done sync.WaitGroup
	if cfg.box.Exchange != nil { // as long as a worker may have a job
		done.Go(func() {
			if err := models.Serve(ctx, cfg.box.Exchange, cfg.Log); err != nil {
				failed(err)
			}
		})
	}
	done.Go(func() {
		if err := pool.Run(ctx); err != nil {
			failed(workersFailed(err))
		}
	})
	return pool, func() { cancel(); done.Wait() }
}

// workforce is what runs the jobs.
type workforce struct {
	pool    host.Pool
	engine  func() string
	metrics prometheus.Collector // nil: there are none
	ready   func(context.Context) error
	stop    func()
}

// startWorkers starts the Python workers or, in a test, what stands in for them.
func startWorkers(ctx context.Context, cfg Config, env pyenv.Env, models *lm.Registry, failed func(error)) workforce {
	if cfg.mode == mock.Adapter {
		return workforce{pool: mock.NewPool("dev", cfg.Workers, cfg.Slots, cfg.scenario), engine: func() string { return mock.EngineName },
			ready: func(context.Context) error { return nil }, stop: func() {}}
	}
	pool, stop := startPool(ctx, cfg, env, models, failed)
	return workforce{host.Python(pool), host.EngineOf(pool), host.WorkerMetrics(pool), pool.Ready, stop}
}

func environment(ctx context.Context, cfg Config, litellm bool) (pyenv.Env, error) {
	if cfg.mode == mock.Adapter {
		return pyenv.Env{}, nil
	}
	paths, err := cfg.Modules.Dirs()
	if err != nil {
		return pyenv.Env{}, err
	}
	ask := pyenv.Config{Python: cfg.Python, Progress: cfg.Progress, Paths: paths, Pass: cfg.Modules.Env, Litellm: litellm}
	if cfg.Engine == "stub" {
		return pyenv.System(ctx, ask)
	}
	return pyenv.Ensure(ctx, ask)
}

// workersFailed tells why no worker starts: once, although each of them says it.
func workersFailed(err error) error {
	var start *pyproc.StartError
	if !errors.As(err, &start) || start.Message == "" {
		return fmt.Errorf("workers: %w", err)
	}
	parts := []string{"the workers do not start: " + start.Message, start.Hint, start.Traceback}
	said := slices.DeleteFunc(parts, func(part string) bool { return part == "" })
	return &workersError{strings.Join(said, "\n\n"), err}
}

type workersError struct {
	text  string
	cause error
}

func (e *workersError) Error() string { return e.text }
func (e *workersError) Unwrap() error { return e.cause }

// openSandbox makes what keeps the workers from this process.
func openSandbox(cfg Config, secrets []string, env pyenv.Env) (*sandbox.Box, error) {
	if cfg.mode == mock.Adapter {
		return &sandbox.Box{}, nil
	}
	box, err := cfg.Sandbox.Open(secrets, append(pyenv.Certificates(os.Getenv), env.Read...))
	if err == nil && box.Lacks != nil {
		cfg.Log.Warn("workers_without_sandbox", "error", box.Lacks.Error(), "hint", "they may do whatever the user of this process may")
	}
	return box, err
}

// languageModels reads the profiles; without any it starts the echo model under the name "echo".
func languageModels(cfg Config) (models *lm.Registry, echo *echolm.Server, f lm.File, err error) {
	f = lm.File{Default: "echo"}
	if cfg.LMFile != "" {
		f, err = lm.Load(cfg.LMFile)
	} else if echo, err = echolm.New(echolm.Config{Log: cfg.Log, Outputs: scripted(cfg)}); err == nil {
		f.Profiles = map[string]lm.Profile{"echo": {Provider: "openai_compatible", Model: "echo", APIBase: echo.URL()}}
	}
	if err != nil {
		return nil, nil, f, err
	}
	if models, err = lm.New(f, cfg.mode.Keys(os.Getenv)); err == nil {
		err = models.Allow(cfg.KeyRefs)
	}
	return models, echo, f, err
}

// scripted is what the echo model answers in a test, nil outside of one.
func scripted(cfg Config) func(map[string]string) map[string]any {
	if cfg.mode == "" {
		return nil
	}
	answers := cfg.scenario.Answers()
	return func(inputs map[string]string) map[string]any { return mock.FindText(answers, inputs) }
}

func poolConfig(cfg Config, env pyenv.Env) pyproc.Config {
	pool := pyproc.Config{
		Command: env.Command(), Env: env.Environ(cfg.box.Environ()...), Scratch: cfg.box.Scratch, Name: "dev", Size: cfg.Workers, Log: cfg.Log,
		Init: func(worker string) []byte {
			init := map[string]any{"engine": cfg.Engine, "slots": cfg.Slots, "worker": worker, "imports": cfg.Modules.List(), "warm_up": !cfg.Pool.Basic()}
			if cfg.mode == mock.Bridge {
				init["answers"] = cfg.scenario.Answers()
			}
			b, err := wire.Encode(env.Init(init))
			if err != nil {
				panic(err) // text and numbers always encode
			}
			return b
		},
	}
	if cfg.box.Exchange != nil {
		pool.Channel = cfg.box.Exchange.Open
	}
	cfg.Pool.Apply(&pool)
	return pool
}

// serve starts dispatcher and host on the embedded broker.
func serve(ctx context.Context, cfg Config, srv *broker, w workforce, models *lm.Registry,
	run func(string, func(context.Context) error), ready func()) error {
	control, err := connect(srv.Server, "dspex dispatcher")
	if err != nil {
		return err
	}
	data, err := connect(srv.Server, "dspex worker-host")
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
	d, err := dispatch.New(dispatch.Config{Name: "dev", NC: control, Log: cfg.Log, Settings: settings, Alerts: cfg.Alerts, Machine: clock.System(), OnReady: ready})
	if err != nil {
		return err
	}
	defaults, err := cfg.Defaults.Load()
	if err != nil {
		return err
	}
	h, err := host.New(host.Config{Name: "dev", NC: data, Pool: mock.WithFaults(w.pool, cfg.scenario), Models: models, Log: cfg.Log, Capacity: cfg.Workers * cfg.Slots, Breaker: cfg.Breaker, Defaults: defaults, Machine: clock.System(),
		Engine: w.engine, Sandbox: cfg.box.Level.String(), OnRaised: cfg.Raised})
	if err != nil {
		return err
	}
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
	run("dispatcher", func(ctx context.Context) error { defer control.Close(); return d.Run(ctx) })
	run("worker-host", func(ctx context.Context) error { defer data.Close(); return h.Run(ctx) })
	return nil
}

func connect(srv *server.Server, name string) (*nats.Conn, error) {
	return nats.Connect("", append(stream.ConnectOptions(name), nats.InProcessServer(srv))...)
}
