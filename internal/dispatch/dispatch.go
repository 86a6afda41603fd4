// Package dispatch is the control plane: the request endpoints (a NATS micro service), the look-up of outcomes, health and
// statistics, and, in the one dispatcher that leads, the assignment of partitions to hosts.
//
// It is not on the data plane: with every dispatcher down, published session jobs go on being served.
package dispatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/dispatch/admission"
	"github.com/dspex/dspex/internal/dispatch/alerts"
	"github.com/dspex/dspex/internal/dispatch/assign"
	"github.com/dspex/dspex/internal/dispatch/audit"
	"github.com/dspex/dspex/internal/dispatch/batches"
	"github.com/dspex/dspex/internal/dispatch/breakers"
	"github.com/dspex/dspex/internal/dispatch/calls"
	"github.com/dspex/dspex/internal/dispatch/deadletters"
	"github.com/dspex/dspex/internal/dispatch/fleet"
	"github.com/dspex/dspex/internal/dispatch/health"
	"github.com/dspex/dspex/internal/dispatch/intake"
	"github.com/dspex/dspex/internal/dispatch/leader"
	"github.com/dspex/dspex/internal/dispatch/objects"
	"github.com/dspex/dspex/internal/dispatch/outcomes"
	"github.com/dspex/dspex/internal/dispatch/quota"
	"github.com/dspex/dspex/internal/dispatch/sessions"
	"github.com/dspex/dspex/internal/dispatch/stores"
	"github.com/dspex/dspex/internal/fair"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/link"
	"github.com/dspex/dspex/internal/service"
	"github.com/dspex/dspex/internal/stream"
	"github.com/dspex/dspex/internal/tracing"
)

// Every dispatcher is an instance of this NATS micro service, with its own name in the metadata.
const (
	ServiceName  = "dspex"
	MetadataName = "dispatcher"
	// MetadataBuild is the key of its program's version.
	MetadataBuild = "version"
)

// Config is what a dispatcher works with.
type Config struct {
	Name     string
	NC       *nats.Conn
	Settings stream.Settings
	Log      *slog.Logger
	Version  string // semantic version of the service
	Build    string // version of the program, as the service reports it beside its name
	Alerts   alerts.Config
	// QuotaFile has the tenants' bounds (ReadQuotas); it is read again when it changes. "": there are none.
	QuotaFile string
	Machine   clock.Machine   // whose clocks are read; nil: this one's, as Go reads them
	Traces    *tracing.Tracer // nil: there are no spans
	ProbeEach time.Duration   // time between two probes of the broker objects; default 10 s
	// ResultsMinAge lets outcomes of this age go before their time when dspex_results is nearly full. 0: none, new ones are refused instead.
	ResultsMinAge time.Duration
	Weights       fair.Weights // of tenants: how batches share the lane batch
	PoolingOff    bool         // there is to be no pool: calls are refused, published jobs wait
	// OnReady is called once, when requests are answered and every partition has an owner, if there is to be a pool.
	OnReady func()
}

// Alerts is what the operator configures of alerts.
type Alerts = alerts.Config

// Quotas are the bounds of tenants.
type Quotas = quota.Bounds

// ReadQuotas reads a file {"*": {"jobs": 1000, "sessions": 10000}, "acme": {...}}.
func ReadQuotas(path string) (Quotas, error) { return quota.Read(path) }

// Dispatcher serves the endpoints. Make it with New, then Run it once.
type Dispatcher struct {
	cfg         Config
	log         *slog.Logger
	broker      *stream.Access
	hosts       *fleet.Fleet
	sessions    *sessions.Sessions
	lookup      *outcomes.Lookup
	timeouts    *outcomes.Timeouts
	admissions  *admission.Gate
	stores      *stores.Stores
	probes      *stores.Probes
	deadLetters *deadletters.Service
	quotas      *quota.Meter
	backlogs    *health.Backlogs
	health      *health.Health
	trail       *audit.Trail
	breakers    *breakers.Breakers
	calls       *calls.Calls
	view        *assign.View
	planner     *assign.Planner
	operated    *assign.Hosts
	number      *assign.Number
	entrance    *intake.Entrance
	asides      sync.WaitGroup // requests that are answered beside their endpoint
	alerts      *alerts.Alerter
	threshold   *fleet.Threshold                // of alerts
	service     atomic.Pointer[service.Service] // nil before it serves
	leader      *leader.Leader
	batches     *batches.Service
	atomic      *batches.Atomic
	objects     *objects.Objects
	weights     atomic.Pointer[fair.Weights]
}

// Weigh gives tenants other weights.
func (d *Dispatcher) Weigh(w fair.Weights) { d.weights.Store(&w) }

// Adjust sets the threshold and the destinations of alerts from now on. The webhook's address stays.
func (d *Dispatcher) Adjust(a Alerts) {
	a = a.WithDefaults()
	d.threshold.Set(a.ErrorRate)
	d.alerts.SendTo(a.Destinations)
}

// New checks the configuration.
func New(cfg Config) (*Dispatcher, error) {
	if cfg.NC == nil || !jobs.ValidSession(cfg.Name) {
		return nil, errors.New("a dispatcher needs a connection and a name (1 to 64 of A-Z a-z 0-9 _ -)")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Version == "" {
		cfg.Version = "0.1.0"
	}
	cfg.Alerts = cfg.Alerts.WithDefaults()
	if err := cfg.Alerts.Check(); err != nil {
		return nil, err
	}
	d := &Dispatcher{cfg: cfg, log: cfg.Log, threshold: fleet.NewThreshold(cfg.Alerts.ErrorRate)}
	d.Weigh(cfg.Weights)
	var err error
	if d.broker, err = stream.NewAccess(cfg.NC, cfg.Log); err != nil {
		return nil, err
	}
	d.broker.SetAccounts(cfg.Settings.Accounts)
	d.objects = &objects.Objects{Broker: d.broker}
	d.leader = leader.New(cfg.Name, cfg.Log)
	d.alerts = alerts.New(cfg.Name, cfg.Alerts, d.broker, cfg.Log)
	d.hosts = fleet.New(d.broker, d.threshold)
	d.view = assign.NewView(d.broker, cfg.Log)
	d.planner = assign.NewPlanner(cfg.Name, d.view, d.hosts, d.broker, cfg.Log)
	d.operated = assign.NewHosts(d.view, d.hosts, d.broker, cfg.Log)
	d.number = assign.NewNumber(d.view, d.hosts, d.broker, cfg.Log)
	d.probes = stores.NewProbes(d.broker, d.hosts, cfg.Log, cfg.Settings.Replicas > 1, cfg.ProbeEach, cfg.ResultsMinAge)
	d.stores = stores.New(cfg.Name, cfg.Settings, d.broker, d.hosts, d.alerts, d.probes, d.view, cfg.Log)
	d.trail = audit.New(cfg.Name, d.broker, auditStores{d.stores, d.probes}, cfg.Log)
	d.lookup = outcomes.New(d.broker, d.hosts, d.view, cfg.Log)
	d.timeouts = outcomes.NewTimeouts(d.broker, d.hosts, cfg.Log)
	d.sessions = sessions.New(d.broker, d.hosts, d.view, d.lookup)
	d.admissions = admission.New(d.broker, d.hosts)
	d.deadLetters = deadletters.New(d.broker, cfg.Log)
	d.quotas, err = quota.New(cfg.QuotaFile, d.broker, d.hosts, cfg.Log)
	d.backlogs = health.NewBacklogs(d.broker, cfg.Log)
	d.health = &health.Health{Dispatcher: cfg.Name, Broker: d.broker, Hosts: d.hosts, Stores: d.stores, Probes: d.probes, Trail: d.trail, Plan: d.view, Leading: d.planner, PoolingOff: cfg.PoolingOff}
	d.breakers = breakers.New(d.broker, d.hosts, cfg.Log)
	d.calls = &calls.Calls{Broker: d.broker, Stores: d.stores, Probes: d.probes, Quotas: d.quotas, Admission: d.admissions, Trail: d.trail, Timeouts: d.timeouts, Traces: cfg.Traces}
	d.entrance = intake.New(d.calls.Refuse)
	return d, err
}

// prepare makes the broker objects, or finds them.
func (d *Dispatcher) prepare(ctx context.Context) (err error) {
	if err := link.CheckAccounts(d.broker.NC, d.cfg.Settings.Accounts); err != nil {
		return err
	}
	if d.cfg.Settings.Remembered, err = d.stores.HighestKnown(ctx); err != nil {
		return err
	}
	partitions, err := stream.Ensure(ctx, d.broker.JS, d.cfg.Settings)
	if err != nil {
		return err
	}
	if asked := d.cfg.Settings.Partitions; asked != 0 && asked != partitions { // they may have been changed since: no reason to stay away
		d.log.Warn("partitions_differ", "have", partitions, "asked", asked, "hint", fmt.Sprintf("--partitions is for new deployments: `dspex partitions %d` changes this one's", asked))
	}
	if _, err = d.view.Read(ctx); err != nil {
		return err
	}
	d.broker.Clock, err = stream.NewClock(ctx, d.broker.JS, clock.New(d.cfg.Machine), d.log)
	return err
}

// passes reports whether prepare is worth another try. The error of a single broker is for people: JetStream is off, or a right is
// missing.
func (d *Dispatcher) passes(err error) bool {
	return (d.cfg.Settings.Replicas > 1 || len(d.broker.NC.Servers()) > 1) && link.Passes(err)
}

// maxWaiters bounds the look-ups under way, waits for outcomes included.
const maxWaiters = 10_000

// Blocked reports that the broker answers but stores nothing, as a nats-server does from a full disk on until it is restarted.
func (d *Dispatcher) Blocked() bool { return d.probes.Blocked() }

// auditStores is what the audit trail needs of the broker objects.
type auditStores struct {
	*stores.Stores
	*stores.Probes
}
