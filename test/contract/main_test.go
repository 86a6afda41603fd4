// Package contract holds the service to contract/job.md: what is sent and expected here was written from that page alone,
// with a plain NATS client, against `dspex dev` in a process of its own.
package contract

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/programtest"
)

// service is a running `dspex dev`.
type service struct {
	*programtest.Running
	url string
	nc  *nats.Conn
}

var (
	binary string
	stub   *service // most tests: the wire is the same whatever the engine
	// dspy starts real DSPy when the first test needs it.
	dspy = sync.OnceValues(func() (*service, error) { return start("dspy") })

	started   []*service
	startedMu sync.Mutex
)

func TestMain(m *testing.M) {
	os.Exit(programtest.Run(m, func(bin, _ string) (_ func(), err error) {
		binary = filepath.Join(bin, "dspex")
		stub, err = start("stub")
		return stopAll, err
	}, "../../cmd/dspex"))
}

func TestResultsAreFresh(t *testing.T) { programtest.Fresh(t, "../..") }

func start(engine string) (*service, error) {
	// Many of the jobs here are to fail: no share of failures is an alert.
	cmd := programtest.Guarded(binary, "dev", "--engine", engine, "--listen", "127.0.0.1:0", "--error-rate-threshold", "1", "--workers", "2")
	cmd.Stderr = os.Stderr
	dev, err := programtest.Start(cmd)
	if err != nil {
		return nil, err
	}
	s := &service{Running: dev, url: dev.Ready}
	startedMu.Lock()
	started = append(started, s)
	startedMu.Unlock()
	s.nc, err = nats.Connect(s.url)
	return s, err
}

func stopAll() {
	startedMu.Lock()
	defer startedMu.Unlock()
	for _, s := range started {
		if s.nc != nil {
			s.nc.Close()
		}
		s.Stop()
	}
}
