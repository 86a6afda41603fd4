// Command worker-host is the data plane: it owns partitions of the sessions and runs their jobs in its Python workers.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/host"
	"github.com/dspex/dspex/internal/lm"
	"github.com/dspex/dspex/internal/pyenv"
	"github.com/dspex/dspex/internal/pyproc"
	"github.com/dspex/dspex/internal/wire"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "worker-host:", err)
		os.Exit(1)
	}
}

type options struct {
	server, creds, name, engine, python, lmFile, imports string
	workers, slots                                       int
	idle, checkout                                       time.Duration
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("worker-host", flag.ContinueOnError)
	f.StringVar(&o.server, "server", env("NATS_URL", nats.DefaultURL), "URL of the NATS server (or NATS_URL)")
	f.StringVar(&o.creds, "creds", "", "NATS credentials file")
	f.StringVar(&o.name, "name", hostname(), "name of this host, unique in the deployment")
	f.StringVar(&o.engine, "engine", "dspy", "dspy or stub")
	f.StringVar(&o.python, "python", "", "Python interpreter, 3.11 or newer (default: python3)")
	f.StringVar(&o.lmFile, "lm", "", "file of LM profiles")
	f.StringVar(&o.imports, "import", "", "Python modules, comma separated, whose commands and programs become available")
	f.IntVar(&o.workers, "workers", 4, "Python workers (the manual's pool_size)")
	f.IntVar(&o.slots, "slots", 64, "concurrent jobs in each worker")
	f.DurationVar(&o.idle, "session-idle", time.Hour, "how long an idle session is kept")
	f.DurationVar(&o.checkout, "checkout-timeout", 5*time.Second, "how long a call waits for a slot")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case o.engine != "dspy" && o.engine != "stub":
		return o, fmt.Errorf("engine %q: expected dspy or stub", o.engine)
	}
	return o, nil
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	models, err := loadModels(o.lmFile)
	if err != nil {
		return err
	}
	imports := []string{}
	if o.imports != "" {
		imports = strings.Split(o.imports, ",")
	}
	python, err := environment(ctx, o, len(imports) > 0)
	if err != nil {
		return err
	}
	opts := []nats.Option{nats.Name("dspex worker-host " + o.name), nats.ReconnectBufSize(-1), nats.MaxReconnects(-1)}
	if o.creds != "" {
		opts = append(opts, nats.UserCredentials(o.creds))
	}
	nc, err := nats.Connect(o.server, opts...)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", o.server, err)
	}
	defer nc.Close()
	pool := pyproc.New(pyproc.Config{Command: python.Command(), Env: python.Environ(), Name: o.name, Size: o.workers, Log: log,
		Init: func(worker string) []byte {
			b, err := wire.Encode(map[string]any{"engine": o.engine, "slots": o.slots, "worker": worker, "imports": imports})
			if err != nil {
				panic(err) // text and numbers always encode
			}
			return b
		}})
	return serve(ctx, o, nc, pool, models, log)
}

// serve runs the pool for as long as the host runs: jobs in flight at the end keep their workers.
func serve(ctx context.Context, o options, nc *nats.Conn, pool *pyproc.Pool, models *lm.Registry, log *slog.Logger) (err error) {
	workers, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- pool.Run(workers) }()
	defer func() { stop(); err = errors.Join(err, <-ended) }()
	if err := pool.Ready(ctx); err != nil {
		return err
	}
	h, err := host.New(host.Config{Name: o.name, NC: nc, Pool: host.Python(pool), Models: models, Log: log,
		Capacity: o.workers * o.slots, Engine: host.EngineOf(pool), SessionIdle: o.idle, CheckoutTimeout: o.checkout})
	if err != nil {
		return err
	}
	fmt.Println("ready", o.name)
	return h.Run(ctx)
}

func loadModels(path string) (*lm.Registry, error) {
	if path == "" {
		return lm.New(lm.File{}, os.Getenv)
	}
	f, err := lm.Load(path)
	if err != nil {
		return nil, err
	}
	return lm.New(f, os.Getenv)
}

func environment(ctx context.Context, o options, userCode bool) (pyenv.Env, error) {
	cfg := pyenv.Config{Python: o.python, Progress: os.Stderr}
	if userCode {
		wd, err := os.Getwd()
		if err != nil {
			return pyenv.Env{}, err
		}
		cfg.Paths = []string{wd}
	}
	if o.engine == "stub" {
		return pyenv.System(ctx, cfg)
	}
	return pyenv.Ensure(ctx, cfg)
}

func env(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "host"
	}
	return strings.NewReplacer(".", "-").Replace(name)
}
