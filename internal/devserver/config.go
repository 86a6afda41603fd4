package devserver

import (
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dspex/dspex/internal/breaker"
	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/dispatch"
	"github.com/dspex/dspex/internal/host"
	"github.com/dspex/dspex/internal/lm"
	"github.com/dspex/dspex/internal/logfeed"
	"github.com/dspex/dspex/internal/mock"
	"github.com/dspex/dspex/internal/pyenv"
	"github.com/dspex/dspex/internal/pyproc"
	"github.com/dspex/dspex/internal/sandbox"
	"github.com/dspex/dspex/internal/tracing"
)

// Config is what to run. Zero values mean the documented defaults.
type Config struct {
	Engine     string         // "dspy" (default) or "stub"
	Listen     string         // HOST:PORT, default 127.0.0.1:4222; port 0 takes a free one
	Dir        string         // the broker's data; default: a directory that is removed at the end
	Workers    int            // default 4
	Slots      int            // of each worker, default 64
	Pool       pyproc.Options // of the workers; zero: the defaults
	Sandbox    sandbox.Options
	Breaker    breaker.Config // zero: the defaults
	Defaults   host.Defaults  // of jobs' options
	Alerts     dispatch.Alerts
	Times      Times                 // zero: the defaults
	Modules    pyenv.Modules         // the user's
	LMFile     string                // profiles; default: the echo model alone
	KeyRefs    lm.KeyRefs            // that set_lm may name
	Test       mock.Options          // zero: no test mode
	Python     string                // interpreter, default python3
	Version    string                // of the program, as its dispatcher and its host report it
	Traces     *tracing.Tracer       // nil: there are no spans
	Metrics    prometheus.Registerer // gets those of dispatcher and worker-host; nil: none
	Log        *slog.Logger
	Feed       *logfeed.Feed       // shows the log to operators; nil: nobody does
	Progress   io.Writer           // of making the Python environment
	PoolingOff bool                // neither workers nor worker-host
	Env        func(string) string // variables that profiles and modules name; default os.Getenv
	// ProbeEach is the time between two probes of the broker; default 10 s.
	ProbeEach time.Duration
	// Hurry ends the grace of running jobs at the end when it is closed; nil: nobody does.
	Hurry <-chan struct{}
	// Ready is called with where clients connect, once requests will be answered.
	Ready func(Info)
	// Reload replaces the workers when a Python file of the modules changes.
	Reload bool
	// Reloaded is called after that, with the error if none of the new workers started: then the old ones stay.
	Reloaded func(file string, err error)
	// Reread has the program read its settings again, at an operator's request; nil: it has none.
	Reread func() control.Reloaded
	// Ended is called with each attempt that is over; it must not block.
	Ended func(Ended)

	box      *sandbox.Box // made by Run, as is the rest
	mode     mock.Mode
	scenario *mock.Scenario
}

// Ended is an attempt that is over.
type Ended = host.Ended

// Info is what Ready is called with.
type Info struct {
	URL    string
	Off    bool   // there is no pool
	Echo   string // URL of the echo model, "" when an LM is configured
	Engine string
	Busy   func() int                     // slots that are taken
	Models func() []string                // names of the LM profiles
	Adjust func(Config) (Adjusted, error) // takes over what can change of other settings
	Mode   string                         // of tests, "" if there is none
	Took   map[string]time.Duration       // what the start was spent on; the broker and the workers start side by side
}

// Adjusted is what Info.Adjust has found, by flag.
type Adjusted struct {
	Content []string          // what these refer to has changed
	Kept    map[string]string // these keep their earlier values until a restart, and why
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
	if c.Times == (Times{}) {
		c.Times = defaultTimes
	}
	c.Breaker, c.Defaults = c.Breaker.WithDefaults(), c.Defaults.WithDefaults()
	if c.Env == nil {
		c.Env = os.Getenv
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}
