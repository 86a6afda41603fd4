package dspextest

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"testing"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/devserver"
)

// Deployment is a whole dspex in the test's process: what `dspex dev --engine stub` runs.
type Deployment struct {
	url string
	t   testing.TB
}

// Option changes what Start starts.
type Option func(*devserver.Config)

// WithPython names the interpreter, 3.11 or newer. The default is python3.
func WithPython(path string) Option { return func(c *devserver.Config) { c.Python = path } }

// WithModules imports modules of your own from a directory: their commands and programs can be called.
func WithModules(dir string, names ...string) Option {
	return func(c *devserver.Config) { c.Modules.Paths, c.Modules.Names = []string{dir}, names }
}

// WithWorkers sets the number of Python workers. The default is 4.
func WithWorkers(n int) Option { return func(c *devserver.Config) { c.Workers = n } }

// Start starts a deployment and returns when it answers requests; it ends with the test. The stub engine runs no language model:
// predict and programs answer with values of the types that their signatures ask for, marked "[stub]".
func Start(t testing.TB, options ...Option) *Deployment {
	t.Helper()
	var log logs
	ready := make(chan string, 1)
	config := devserver.Config{Engine: "stub", Listen: "127.0.0.1:0", Dir: t.TempDir(), Log: slog.New(slog.NewTextHandler(&log, nil)),
		Ready: func(i devserver.Info) { ready <- i.URL }}
	for _, o := range options {
		o(&config)
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
		return &Deployment{url, t}
	case err := <-ended:
		stop()
		t.Fatalf("the deployment did not start: %v\n%s", err, log.String())
		return nil
	}
}

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
