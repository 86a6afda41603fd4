package dspextest

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"sync"
	"testing"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/devserver"
	"github.com/dspex/dspex/internal/mock"
)

// Deployment is a whole dspex in the test's process: what `dspex dev` runs.
type Deployment struct {
	url  string
	mode Mode
	t    testing.TB
}

// Mode selects the workers behind a deployment's endpoints. Sessions, order, retries, deadlines and job ids are the same in all of them.
type Mode string

// The modes.
const (
	MockAdapter     Mode = "mock_adapter"     // no Python: answers come from the scenario, or are generated
	BridgeMock      Mode = "bridge_mock"      // Python workers without DSPy
	FullIntegration Mode = "full_integration" // Python workers with DSPy, on a built-in model that answers from the scenario, or echoes
)

// Option changes what Open and Start start.
type Option interface{ apply(*devserver.Config) }

type option func(*devserver.Config)

func (o option) apply(c *devserver.Config) { o(c) }

// WithPython names the interpreter, 3.11 or newer. The default is python3.
func WithPython(path string) Option { return option(func(c *devserver.Config) { c.Python = path }) }

// WithModules imports modules of your own from a directory: their commands and programs can be called.
func WithModules(dir string, names ...string) Option {
	return option(func(c *devserver.Config) { c.Modules.Paths, c.Modules.Names = []string{dir}, names })
}

// WithWorkers sets the number of Python workers. The default is 4.
func WithWorkers(n int) Option { return option(func(c *devserver.Config) { c.Workers = n }) }

// WithMode sets the mode, whatever $TEST_MODE is.
func WithMode(m Mode) Option {
	return option(func(c *devserver.Config) { c.Test.Mode = string(m) })
}

// Open starts a deployment in the mode that the environment variable TEST_MODE names, mock_adapter by default, so that the same
// tests run without Python on every change, and with real DSPy now and then. Another mode fails the test.
func Open(t testing.TB, options ...Option) *Deployment {
	t.Helper()
	mode := Mode(os.Getenv(mock.Variable)) //nolint:forbidigo // tests have no flags of ours: the environment chooses
	if mode == "" {
		mode = MockAdapter
	}
	return start(t, append([]Option{WithMode(mode)}, options...))
}

// Start starts a deployment and returns when it answers requests; it ends with the test. The stub engine runs no language model:
// predict and programs answer with values of the types that their signatures request, marked "[stub]".
func Start(t testing.TB, options ...Option) *Deployment {
	t.Helper()
	return start(t, append([]Option{WithMode(BridgeMock)}, options...))
}

func start(t testing.TB, options []Option) *Deployment {
	t.Helper()
	var log logs
	ready := make(chan string, 1)
	config := devserver.Config{Listen: "127.0.0.1:0", Dir: t.TempDir(), Log: slog.New(slog.NewTextHandler(&log, nil)),
		Ready: func(i devserver.Info) { ready <- i.URL }}
	for _, o := range options {
		o.apply(&config)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- devserver.Run(ctx, config) }()
	select {
	case url := <-ready:
		t.Cleanup(func() {
			stop()
			if err := <-ended; err != nil {
				t.Errorf("the deployment ended with %v\n%s", err, log.String())
			}
		})
		return &Deployment{url, Mode(config.Test.Mode), t}
	case err := <-ended:
		stop()
		t.Fatalf("the deployment did not start: %v\n%s", err, log.String())
		return nil
	}
}

// Mode is the deployment's mode.
func (d *Deployment) Mode() Mode { return d.mode }

// URL is where clients connect.
func (d *Deployment) URL() string { return d.url }

// Client connects a client and closes it when the test ends.
func (d *Deployment) Client(options ...dspex.ConnectOption) *dspex.Client {
	d.t.Helper()
	return connect(d.t, d.url, options)
}

// logs keeps the log for a failure.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
