// Package host is the data plane: it owns partitions, keeps each session's jobs in order, runs them in the pool's workers and commits
// their outcomes. Its parts are the packages below it: ownership takes and gives back partitions, and sessions and anonymous serve jobs.
// Package driver carries out what the cores of package lifecycle decide, and attempt runs a job in a worker. This package puts them
// together and has what belongs to the host as a whole: its heartbeats, its metrics, its start and its end.
//
// It starts no Python (package pyproc does) and decides no assignment (package dispatch does).
package host

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dspex/dspex/internal/host/anonymous"
	"github.com/dspex/dspex/internal/host/breakers"
	"github.com/dspex/dspex/internal/host/driver"
	"github.com/dspex/dspex/internal/host/ownership"
	"github.com/dspex/dspex/internal/host/provision"
	"github.com/dspex/dspex/internal/host/sessions"
	"github.com/dspex/dspex/internal/host/telemetry"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// Host runs jobs. Make it with New, then Run it once.
type Host struct {
	cfg         Config
	log         *slog.Logger
	incarnation string
	started     int64 // unix ms by the broker's clock
	telemetry   *telemetry.Recorder
	breakers    *breakers.Shared
	drain       drain
	stopping    atomic.Bool // Run's context has ended
	hurry       chan struct{}
	hurried     sync.Once
	adjusting   sync.Mutex
	settings    atomic.Pointer[Settings]
	parts       atomic.Pointer[parts] // nil until the broker's stores are there
}

// parts are the parts of a host that work with the broker.
type parts struct {
	on        *stream.Access
	keeper    *ownership.Keeper
	sessions  *sessions.Sessions
	anonymous *anonymous.Jobs
	drivers   *driver.Drivers
	provision *provision.Provision
}

// spareTokens are the run tokens beyond the pool's slots: sessions that read, commit, or wait to be the next in a slot.
var spareTokens = 256 // tests set it

// New checks the configuration.
func New(cfg Config) (*Host, error) {
	var errs []error
	if !jobs.ValidSession(cfg.Name) {
		errs = append(errs, fmt.Errorf("host name must be 1 to 64 of A-Z a-z 0-9 _ -, got %q", cfg.Name))
	}
	if cfg.NC == nil || cfg.Pool == nil || cfg.Models == nil {
		errs = append(errs, errors.New("a connection, a pool and models are needed"))
	}
	if cfg.SessionIdle == 0 {
		cfg.SessionIdle = time.Hour
	}
	if cfg.CheckoutTimeout == 0 {
		cfg.CheckoutTimeout = jobs.CheckoutTimeout
	}
	if cfg.Grace == 0 {
		cfg.Grace = 30 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	h := &Host{cfg: cfg, log: cfg.Log, incarnation: stream.NewID(), hurry: make(chan struct{}), telemetry: telemetry.New(cfg.Traces, cfg.Name)}
	h.settings.Store(&Settings{cfg.Capacity, cfg.CheckoutTimeout, cfg.Defaults, cfg.Breaker, cfg.Weights})
	h.breakers = breakers.New(cfg.Name, cfg.Breaker, h.telemetry.Changed)
	return h, errors.Join(append(errs, cfg.Breaker.WithDefaults().Check())...)
}
