package host

import (
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/breaker"
	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/fair"
	"github.com/dspex/dspex/internal/host/attempt"
	"github.com/dspex/dspex/internal/host/provision"
	"github.com/dspex/dspex/internal/host/workers"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/tracing"
)

// Config is what a host works with. Zero durations mean the documented defaults.
type Config struct {
	Name            string
	NC              *nats.Conn
	Pool            workers.Pool
	Models          provision.Models
	Log             *slog.Logger
	Capacity        int           // slots of the pool, for the planner
	Sandbox         string        // what the workers are kept from, "" if nothing shows
	Version         string        // of the program, as heartbeats report it; "": they leave it out
	Engine          func() string // of the workers, "" while none has started; nil: heartbeats leave it out
	SessionIdle     time.Duration // default 1 h
	CheckoutTimeout time.Duration // default 5 s
	Grace           time.Duration // for running jobs at the end, default 30 s
	Breaker         breaker.Config
	Defaults        jobs.Defaults   // of jobs' options
	Weights         fair.Weights    // of tenants; the pool has them, too
	Machine         clock.Machine   // whose clocks are read; nil: this one's, as Go reads them
	Traces          *tracing.Tracer // nil: there are no spans
	// Reload reads the host's settings again, at an operator's request; nil: it has none of its own.
	Reload func() control.Reloaded
	// OnReady is called once, when the host is known to be the only one of its name and takes partitions.
	OnReady func()
	// OnEnded is called after each attempt; it must not block. nil: nobody looks.
	OnEnded func(Ended)
}

// Settings are what may change while a host runs: the fields of Config with the same names.
type Settings struct {
	Capacity        int
	CheckoutTimeout time.Duration
	Defaults        jobs.Defaults
	Breaker         breaker.Config
	Weights         fair.Weights
}

// Ended is an attempt that is over.
type Ended = attempt.Ended
