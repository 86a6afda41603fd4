// Command worker-host is the data plane: it owns partitions of the sessions and runs their jobs in its Python workers.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/daemon"
	"github.com/dspex/dspex/internal/host"
	"github.com/dspex/dspex/internal/host/workers"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/mock"
	"github.com/dspex/dspex/internal/pyenv"
	"github.com/dspex/dspex/internal/pyproc"
	"github.com/dspex/dspex/internal/sandbox"
	"github.com/dspex/dspex/internal/wire"
)

func main() { os.Exit(run()) }

// run is main with an exit status, so that tests can start it in a process of their own.
func run() int { return daemon.Main(program(), os.Getenv) }

func program() daemon.Program {
	o := &options{}
	return daemon.Program{
		Name:  "worker-host",
		Short: "The data plane of dspex: owns sessions and runs their jobs in Python workers",
		Long: `It waits for a dispatcher to make the streams, takes the partitions that the leading dispatcher assigns to it, and runs
their jobs in a pool of Python workers. At the end it takes no new jobs, lets the running ones finish and gives each partition
back as soon as nothing of it runs; a second signal gives up what still runs.

It writes one line "ready NAME" once a worker serves.`,
		Flags: o.declare, Check: o.check, Run: o.run, Reload: o.reload, Hurries: true, Health: health,
		More: func(s *daemon.Surroundings) []*cobra.Command { return []*cobra.Command{prepare(s)} },
	}
}

// run serves with the pool for as long as the host runs: jobs in flight at the end keep their workers.
func (o *options) run(ctx context.Context, s *daemon.Surroundings, nc *nats.Conn) (err error) {
	if !o.pooling {
		s.Log.Warn("pooling_disabled", "hint", "pooling_enabled is false: this host starts no workers and takes no jobs")
		fmt.Fprintln(s.Out, "pooling is disabled", o.name)
		<-ctx.Done()
		return nil
	}
	if o.mode != "" {
		s.Log.Warn("test_mode", "mode", string(o.mode), "hint", "for tests of programs that use dspex: leave --test-mode and $TEST_MODE out where others rely on answers")
	}
	if o.mode == mock.Adapter {
		pool := mock.NewPool(o.name, o.workers, o.slots, o.scenario)
		return o.serve(ctx, s, nc, workforce{pool: pool, engine: func() string { return mock.EngineName }})
	}
	python, err := o.environment(ctx, s.Err)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	box, err := o.openSandbox(s, python)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, box.Close()) }()
	if box.Exchange != nil {
		if err := o.models.Outside(); err != nil {
			return err
		}
	}
	pool := pyproc.New(o.poolConfig(python, box, s.Log))
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	var proxy sync.WaitGroup
	defer proxy.Wait()
	if box.Exchange != nil { // as long as a worker may have a job
		proxy.Go(func() {
			if err := o.models.Serve(serving, box.Exchange, s.Log); err != nil {
				cancel(err)
			}
		})
	}
	ended := make(chan error, 1)
	go func() {
		err := pool.Run(serving)
		cancel(err) // a pool that gives up ends the host: another one takes the sessions
		ended <- err
	}()
	defer func() { stop(); err = errors.Join(err, <-ended) }()
	if err := pool.Ready(ctx); err != nil {
		return err
	}
	return o.serve(ctx, s, nc, workforce{workers.Python(pool), pool, workers.EngineOf(pool), box.Level.String(), workers.Metrics(pool)})
}

// workforce is what runs the jobs.
type workforce struct {
	pool    workers.Pool
	python  *pyproc.Pool // nil: a test mode without processes
	engine  func() string
	sandbox string
	metrics prometheus.Collector // nil: there are none
}

func (o *options) serve(ctx context.Context, s *daemon.Surroundings, nc *nats.Conn, w workforce) error {
	h, err := host.New(host.Config{Name: o.name, NC: nc, Pool: mock.WithFaults(w.pool, o.scenario), Models: o.models, Log: s.Log,
		Capacity: o.workers * o.slots, Engine: w.engine, Sandbox: w.sandbox, Version: daemon.Version(), SessionIdle: o.idle, CheckoutTimeout: o.checkout, Grace: o.grace, Breaker: o.breaker, Defaults: o.jobOptions, Weights: o.weights, Machine: clock.System(), Traces: s.Traces, Reload: func() control.Reloaded { return daemon.Report(s.Reload()) },
		OnReady: func() { fmt.Fprintln(s.Out, "ready", o.name) }})
	if err != nil {
		return err
	}
	s.Metrics.MustRegister(h)
	o.live.Store(&running{host: h, pool: w.python, boxed: w.sandbox != "" && w.sandbox != sandbox.None.String(), strict: w.sandbox == sandbox.Strict.String()})
	if w.metrics != nil {
		s.Metrics.MustRegister(w.metrics)
	}
	over := make(chan struct{})
	var hurries sync.WaitGroup
	defer hurries.Wait()
	defer close(over)
	hurries.Go(func() {
		select {
		case <-s.Hurry:
			h.Hurry()
		case <-over:
		}
	})
	return h.Run(ctx)
}

// openSandbox makes what keeps the workers from the host.
func (o *options) openSandbox(s *daemon.Surroundings, python pyenv.Env) (*sandbox.Box, error) {
	box, err := o.sandbox.Open(append(s.Secrets, o.keyFiles...), append(pyenv.Certificates(s.Env), python.Read...))
	if err == nil && box.Lacks != nil {
		s.Log.Warn("workers_without_sandbox", "error", box.Lacks.Error(), "hint", "they have the permissions of this process's user")
	}
	return box, err
}

func (o *options) poolConfig(python pyenv.Env, box *sandbox.Box, log *slog.Logger) pyproc.Config {
	cfg := pyproc.Config{Command: python.Command(), Env: python.Environ(box.Environ()...), Scratch: box.Scratch, Name: o.name, Size: o.workers, Weights: o.weights, Log: log,
		Init: func(worker string) []byte {
			init := map[string]any{"engine": o.engine, "slots": o.slots, "worker": worker, "imports": o.modules.List(), "warm_up": !o.pool.Basic()}
			if o.mode == mock.Bridge {
				init["answers"] = o.scenario.Answers()
			}
			b, err := wire.Encode(python.Init(init))
			if err != nil {
				panic(err) // text and numbers always encode
			}
			return b
		}}
	if box.Exchange != nil {
		cfg.Channel = box.Exchange.Open
	}
	o.pool.Apply(&cfg)
	return cfg
}

// health queries the host itself: it answers while it takes jobs.
func health(ctx context.Context, nc *nats.Conn, name string) error {
	_, err := nc.RequestWithContext(ctx, jobs.SubjectControl+name+".ping", nil)
	return err
}
