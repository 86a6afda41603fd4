package devserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dspex/dspex/internal/echolm"
	"github.com/dspex/dspex/internal/host/workers"
	"github.com/dspex/dspex/internal/lm"
	"github.com/dspex/dspex/internal/mock"
	"github.com/dspex/dspex/internal/pyenv"
	"github.com/dspex/dspex/internal/pyproc"
	"github.com/dspex/dspex/internal/sandbox"
	"github.com/dspex/dspex/internal/wire"
)

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
	pool    workers.Pool
	engine  func() string
	metrics prometheus.Collector // nil: there are none
	ready   func(context.Context) error
	adjust  func(pyproc.Limits) error // nil: the pool has one size
	stop    func()
}

// startFresh starts workers that are replaced when the user's code changes.
func startFresh(ctx context.Context, cfg Config, env pyenv.Env, models *lm.Registry, failed func(error)) workforce {
	lasts, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := newFresh(lasts, func() *pyproc.Pool { return pyproc.New(poolConfig(cfg, env)) })
	var done, watching sync.WaitGroup
	if cfg.box.Exchange != nil {
		done.Go(func() {
			if err := models.Serve(lasts, cfg.box.Exchange, cfg.Log); err != nil {
				failed(err)
			}
		})
	}
	watches, unwatch := context.WithCancel(ctx)
	ready := func(ctx context.Context) error {
		err := f.pool().Ready(ctx)
		if dirs, bad := cfg.Modules.Dirs(); err == nil && bad == nil {
			watching.Go(func() { f.watch(watches, dirs, cfg.Reloaded) })
		}
		return err
	}
	return workforce{f, func() string { return workers.EngineOf(f.pool())() }, f, ready, f.adjust, func() { unwatch(); watching.Wait(); cancel(); f.running.Wait(); done.Wait() }}
}

// startWorkers starts the Python workers or, in a test, what stands in for them.
func startWorkers(ctx context.Context, cfg Config, env pyenv.Env, models *lm.Registry, failed func(error)) workforce {
	if cfg.mode == mock.Adapter {
		return workforce{pool: mock.NewPool("dev", cfg.Workers, cfg.Slots, cfg.scenario), engine: func() string { return mock.EngineName },
			ready: func(context.Context) error { return nil }, stop: func() {}}
	}
	if cfg.Reload {
		return startFresh(ctx, cfg, env, models, failed)
	}
	pool, stop := startPool(ctx, cfg, env, models, failed)
	return workforce{workers.Python(pool), workers.EngineOf(pool), workers.Metrics(pool), pool.Ready, pool.Adjust, stop}
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

// workersFailed reports why no worker starts: once, although each of them reports it.
func workersFailed(err error) error {
	var start *pyproc.StartError
	if !errors.As(err, &start) || start.Message == "" {
		return fmt.Errorf("workers: %w", err)
	}
	parts := []string{"the workers do not start: " + start.Message, start.Hint, start.Traceback}
	reports := slices.DeleteFunc(parts, func(part string) bool { return part == "" })
	return &workersError{strings.Join(reports, "\n\n"), err}
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
		cfg.Log.Warn("workers_without_sandbox", "error", box.Lacks.Error(), "hint", "they have the permissions of this process's user")
	}
	return box, err
}

// languageModels reads the profiles; without any it starts the echo model under the name "echo".
func languageModels(cfg Config) (models *lm.Registry, echo *echolm.Server, f lm.File, err error) {
	if cfg.LMFile == "" {
		if echo, err = echolm.New(echolm.Config{Log: cfg.Log, Outputs: scripted(cfg)}); err != nil {
			return nil, nil, f, err
		}
	}
	models, f, err = profilesOf(cfg, echo)
	return models, echo, f, err
}

// profilesOf reads the profiles; without any the echo model is one.
func profilesOf(cfg Config, echo *echolm.Server) (models *lm.Registry, f lm.File, err error) {
	if cfg.LMFile == "" {
		f = lm.File{Default: "echo", Profiles: map[string]lm.Profile{"echo": {Provider: "openai_compatible", Model: "echo", APIBase: echo.URL()}}}
	} else if f, err = lm.Load(cfg.LMFile); err != nil {
		return nil, f, err
	}
	if models, err = lm.New(f, cfg.mode.Keys(cfg.Env)); err == nil {
		err = models.Allow(cfg.KeyRefs)
	}
	return models, f, err
}

func namesOf(f lm.File) []string { return slices.Sorted(maps.Keys(f.Profiles)) }

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
