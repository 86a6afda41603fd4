package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dspex/dspex/internal/breaker"
	"github.com/dspex/dspex/internal/config"
	"github.com/dspex/dspex/internal/daemon"
	"github.com/dspex/dspex/internal/fair"
	"github.com/dspex/dspex/internal/host"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lm"
	"github.com/dspex/dspex/internal/mock"
	"github.com/dspex/dspex/internal/pyenv"
	"github.com/dspex/dspex/internal/pyproc"
	"github.com/dspex/dspex/internal/sandbox"
)

type options struct {
	name, engine, python, lmFile string
	modules                      pyenv.Modules
	keyRefs                      lm.KeyRefs
	test                         mock.Options
	pooling                      bool
	workers, slots               int
	idle, checkout, grace        time.Duration
	pool                         pyproc.Options
	sandbox                      sandbox.Options
	breaker                      breaker.Config
	defaults                     host.Defaults
	weights                      fair.Weights

	mode       mock.Mode // read by check, as is the rest
	scenario   *mock.Scenario
	models     *lm.Registry
	litellm    bool     // a profile requests it
	keyFiles   []string // of the profiles, and those that set_lm may name
	jobOptions jobs.Defaults
	live       atomic.Pointer[running] // set when jobs can run
}

func (o *options) declare(f *pflag.FlagSet) {
	o.declarePython(f)
	f.StringVar(&o.name, "name", daemon.Hostname(), "name of this host, unique in the deployment; a restarted host keeps it")
	f.StringVar(&o.lmFile, "lm", "", "file of LM profiles, or its JSON text")
	o.keyRefs.Flags(f)
	o.modules.Flags(f)
	o.test.Flags(f)
	f.IntVar(&o.workers, "workers", 4, "Python workers (the original's pool_size)")
	f.IntVar(&o.slots, "slots", 64, "concurrent jobs in each worker")
	config.PoolingFlag(f, &o.pooling)
	o.pool.Flags(f)
	o.sandbox.Flags(f)
	o.breaker.Flags(f)
	o.defaults.Flags(f)
	f.Var(&o.weights, "tenant-weights", "shares of tenants while several have jobs waiting, such as acme=3,beta=2: 1 to 100; one that is not named has 1")
	f.DurationVar(&o.idle, "session-idle", time.Hour, "how long an idle session is kept")
	f.DurationVar(&o.checkout, "checkout-timeout", jobs.CheckoutTimeout, "how long a call waits for a slot")
	f.DurationVar(&o.grace, "grace", 30*time.Second, "how long running jobs may take to finish at the end")
}

func (o *options) declarePython(f *pflag.FlagSet) {
	f.StringVar(&o.engine, "engine", "dspy", "dspy, or stub: deterministic answers without DSPy, for trying and tests")
	f.StringVar(&o.python, "python", "", "Python interpreter, 3.11 or newer (default: python3)")
}

// Bounds of the pool, as in `dspex dev`.
const (
	maxWorkers = 256
	maxSlots   = 1024
)

// check reports everything that is wrong at once, and reads the LM profiles.
func (o *options) check(s *daemon.Surroundings) error {
	wrong := []error{o.checkEngine(), o.modules.Check(s.Env), o.pool.Check(), o.sandbox.Check(), o.breaker.Check()}
	no := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if !jobs.ValidSession(o.name) {
		no("--name must have 1 to 64 of A-Z a-z 0-9 _ -, got %q", o.name)
	}
	if o.workers < 1 || o.workers > maxWorkers {
		no("--workers must be 1 to %d, got %d", maxWorkers, o.workers)
	}
	if o.slots < 1 || o.slots > maxSlots {
		no("--slots must be 1 to %d, got %d", maxSlots, o.slots)
	}
	for flag, d := range map[string]time.Duration{"session-idle": o.idle, "checkout-timeout": o.checkout, "grace": o.grace} {
		if d <= 0 {
			no("--%s must be more than 0, got %v", flag, d)
		}
	}
	var badModels, badDefaults, badTest error
	o.mode, o.scenario, badTest = o.test.Resolve(mock.Setup{Engine: o.engine, Modules: len(o.modules.Names) > 0, Model: true})
	if engine := o.mode.Engine(); engine != "" {
		o.engine = engine
	}
	o.models, badModels = o.loadModels(o.mode.Keys(s.Env))
	o.jobOptions, badDefaults = o.defaults.Load()
	return errors.Join(append(wrong, badModels, badDefaults, badTest)...)
}

func (o *options) checkEngine() error {
	if o.engine != "dspy" && o.engine != "stub" {
		return fmt.Errorf("--engine must be dspy or stub, got %q", o.engine)
	}
	return nil
}

func (o *options) loadModels(env func(string) string) (*lm.Registry, error) {
	var f lm.File
	if o.lmFile != "" {
		var err error
		if f, err = lm.Load(o.lmFile); err != nil {
			return nil, lm.OfFlag(err)
		}
	}
	o.litellm, o.keyFiles = f.NeedsLitellm(), append(f.SecretFiles(), o.keyRefs.Files()...)
	models, err := lm.New(f, env)
	return models, errors.Join(lm.OfFlag(err), models.Allow(o.keyRefs))
}

// environment makes the Python environment, or finds it.
func (o *options) environment(ctx context.Context, progress io.Writer) (pyenv.Env, error) {
	paths, err := o.modules.Dirs()
	if err != nil {
		return pyenv.Env{}, err
	}
	cfg := pyenv.Config{Python: o.python, Progress: progress, Paths: paths, Pass: o.modules.Env, Litellm: o.litellm}
	if o.engine == "stub" {
		return pyenv.System(ctx, cfg)
	}
	return pyenv.Ensure(ctx, cfg)
}

// prepare is the subcommand that images and provisioning run: the first start of a host then needs no package registry.
func prepare(s *daemon.Surroundings) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "prepare",
		Short: "Make the Python environment of the workers and stop",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.checkEngine(); err != nil {
				return err
			}
			for _, path := range o.modules.Paths {
				if info, err := os.Stat(path); err != nil || !info.IsDir() {
					return fmt.Errorf("--path must be a directory, got %s", path)
				}
			}
			env, err := o.environment(cmd.Context(), s.Err)
			if err == nil {
				fmt.Fprintf(s.Out, "Python %s at %s\n", env.Version, env.Python)
			}
			return err
		},
	}
	o.declarePython(cmd.Flags())
	cmd.Flags().StringSliceVar(&o.modules.Paths, "path", nil, "directory of modules whose requirements.txt or pyproject.toml is installed, too; repeated, or separated by commas")
	cmd.Flags().BoolVar(&o.litellm, "litellm", false, "with litellm, for LM profiles that require it")
	return cmd
}
