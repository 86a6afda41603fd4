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
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dspex/dspex/internal/dispatch/breakers"

	"github.com/dspex/dspex/internal/dispatch/health"

	"github.com/dspex/dspex/internal/dispatch/calls"

	"github.com/dspex/dspex/internal/dispatch/sessions"

	"github.com/dspex/dspex/internal/dispatch/admission"

	"github.com/dspex/dspex/internal/dispatch/audit"

	"github.com/dspex/dspex/internal/dispatch/outcomes"

	"github.com/dspex/dspex/internal/dispatch/stores"

	"github.com/dspex/dspex/internal/dispatch/deadletters"

	"github.com/dspex/dspex/internal/dispatch/quota"

	"github.com/dspex/dspex/internal/dispatch/alerts"

	"github.com/dspex/dspex/internal/dispatch/fleet"
	"github.com/dspex/dspex/internal/dispatch/intake"

	"github.com/dspex/dspex/internal/link"
	"github.com/dspex/dspex/internal/service"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/dispatch/assign"
	"github.com/dspex/dspex/internal/dispatch/batches"
	"github.com/dspex/dspex/internal/dispatch/endpoint"
	"github.com/dspex/dspex/internal/dispatch/leader"
	"github.com/dspex/dspex/internal/dispatch/objects"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// Every dispatcher is an instance of this NATS micro service, with its own name in the metadata.
const (
	ServiceName  = "dspex"
	MetadataName = "dispatcher"
)

// Config is what a dispatcher works with.
type Config struct {
	Name     string
	NC       *nats.Conn
	Settings stream.Settings
	Log      *slog.Logger
	Version  string // semantic version of the service
	Alerts   alerts.Config
	// QuotaFile has the tenants' bounds (ReadQuotas); it is read again when it changes. "": there are none.
	QuotaFile string
	Machine   clock.Machine // whose clocks are read; nil: this one's, as Go reads them
	ProbeEach time.Duration // time between two probes of the broker objects; default 10 s
	// ResultsMinAge lets outcomes of this age go before their time when dspex_results is nearly full. 0: none, new ones are refused instead.
	ResultsMinAge time.Duration
	PoolingOff    bool // there is to be no pool: calls are refused, published jobs wait
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
	cfg        Config
	log        *slog.Logger
	broker     *stream.Access
	hosts      *fleet.Fleet
	sessions   *sessions.Sessions
	lookup     *outcomes.Lookup
	timeouts   *outcomes.Timeouts
	admissions *admission.Gate
	stores     *stores.Stores
	probes     *stores.Probes
	letters    *deadletters.Letters
	quotas     *quota.Meter
	backlogs   *health.Backlogs
	health     *health.Health
	trail      *audit.Trail
	breakers   *breakers.Breakers
	calls      *calls.Calls
	view       *assign.View
	planner    *assign.Planner
	operated   *assign.Hosts
	number     *assign.Number
	entrance   *intake.Entrance
	asides     sync.WaitGroup // requests that are answered beside their endpoint
	alerts     *alerts.Alerter
	service    atomic.Pointer[service.Service] // nil before it serves
	leader     *leader.Leader
	batches    *batches.Service
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
	d := &Dispatcher{cfg: cfg, log: cfg.Log}
	var err error
	if d.broker, err = stream.NewAccess(cfg.NC, cfg.Log); err != nil {
		return nil, err
	}
	d.broker.KnowAccounts(cfg.Settings.Accounts)
	d.leader = leader.New(cfg.Name, cfg.Log)
	d.alerts = alerts.New(cfg.Name, cfg.Alerts, d.broker, cfg.Log)
	d.hosts = fleet.New(d.broker, cfg.Alerts.ErrorRate)
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
	d.letters = deadletters.New(d.broker, cfg.Log)
	d.quotas, err = quota.New(cfg.QuotaFile, d.broker, d.hosts, cfg.Log)
	d.backlogs = health.NewBacklogs(d.broker, cfg.Log)
	d.health = &health.Health{Dispatcher: cfg.Name, Broker: d.broker, Hosts: d.hosts, Stores: d.stores, Probes: d.probes, Trail: d.trail, Plan: d.view, Leading: d.planner, PoolingOff: cfg.PoolingOff}
	d.breakers = breakers.New(d.broker, d.hosts, cfg.Log)
	d.calls = &calls.Calls{Broker: d.broker, Stores: d.stores, Probes: d.probes, Quotas: d.quotas, Admission: d.admissions, Trail: d.trail, Timeouts: d.timeouts}
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

// passes reports whether prepare is worth another try. What a single broker says is for people: JetStream is off, or a right is
// missing.
func (d *Dispatcher) passes(err error) bool {
	return (d.cfg.Settings.Replicas > 1 || len(d.broker.NC.Servers()) > 1) && link.Passes(err)
}

// Run makes the broker objects, serves until ctx ends and returns when all it started has ended.
func (d *Dispatcher) Run(ctx context.Context) (err error) {
	if err := link.Settle(ctx, d.log, d.passes, d.prepare); err != nil {
		return err
	}
	if !d.cfg.Settings.Accounts {
		d.log.Warn("clients_without_accounts", "hint", "a client that may publish can write to any subject of the broker: for clients that you do not trust see docs/security.md")
	}
	if err := d.broker.Begin(); err != nil {
		return err
	}
	defer d.broker.Close()
	d.health.Started = time.Now()
	d.entrance.Largest = d.broker.MaxPayload / 2
	d.batches = newBatches(d)
	stop, err := d.hosts.Receive(d.admissions.Observe)
	if err != nil {
		return err
	}
	defer stop()
	stopLoads, err := d.admissions.Receive()
	if err != nil {
		return err
	}
	defer stopLoads()
	defer d.entrance.End()
	served, err := d.serve(ctx)
	if err != nil {
		return err
	}
	defer d.retire(served)
	d.service.Store(served)
	var follow sync.WaitGroup
	defer follow.Wait()
	follow.Go(func() { d.broker.Clock.Follow(ctx) })
	follow.Go(func() { d.hosts.Follow(ctx, d.view.Wake) })
	follow.Go(func() { d.view.Follow(ctx, d.stores) })
	follow.Go(func() { d.stores.FollowControl(ctx) })
	follow.Go(func() { d.stores.Follow(ctx) })
	follow.Go(func() { stores.Sweep(ctx, d.stores) })
	follow.Go(func() { d.probes.Follow(ctx) })
	follow.Go(func() { d.alerts.Run(ctx) })
	follow.Go(func() { d.timeouts.FollowCalls(ctx) })
	follow.Go(func() { d.alerts.WatchErrors(ctx, d.hosts, d.leader.Leads) })
	follow.Go(func() { d.awaitReady(ctx) })
	follow.Go(func() { d.quotas.Follow(ctx) })
	follow.Go(func() { d.admissions.FollowLane(ctx) })
	follow.Go(func() { d.batches.Follow(ctx) })
	d.leader.Run(ctx, d.broker.Control, d.tasks())
	return nil
}

// serve registers the endpoints. Subscriptions only queue what comes (package intake). Handlers of one endpoint run one at a time, so
// none of them waits: they publish with a callback, or start a goroutine of their own, bounded by slots.
func (d *Dispatcher) serve(ctx context.Context) (*service.Service, error) {
	var all []service.Endpoint
	for _, e := range d.table(ctx) {
		f, enter := d.trail.Recording(e.audit, strings.TrimPrefix(e.plain, "dspex.rpc."), rightful(d.broker.Accounts, e.handler)), d.entrance.Others
		if e.call {
			enter = d.entrance.Jobs
		}
		if e.call && d.cfg.PoolingOff {
			f = func(r endpoint.Request) { endpoint.Refuse(r, fleet.PoolingOff()) }
		}
		all = append(all, service.Endpoint{Name: e.name, Subject: e.subject, Handler: answerable(d.log, enter(f)), PendingBytes: intake.PendingBytes})
	}
	return service.Start(d.broker.NC, service.Config{
		Name: ServiceName, Version: d.cfg.Version, Description: "runs Python language-model programs", Queue: "dspex",
		Metadata: map[string]string{MetadataName: d.cfg.Name},
	}, all)
}

// table is what is served, and what of it is recorded.
func (d *Dispatcher) table(ctx context.Context) []served {
	slots := make(chan struct{}, maxWaiters)
	waiting := func(f func(context.Context, endpoint.Request)) func(endpoint.Request) {
		return func(r endpoint.Request) {
			select {
			case slots <- struct{}{}:
				d.asides.Go(func() { defer func() { <-slots }(); f(ctx, r) })
			default:
				endpoint.Refuse(r, jobs.Errorf(jobs.Resource, jobs.CodePoolUnavailable, "the dispatcher has %d requests waiting", maxWaiters).
					WithHint("retry later, or at another dispatcher"))
			}
		}
	}
	// What does not wait for others is answered also at the end.
	aside := func(f func(context.Context, endpoint.Request)) func(endpoint.Request) {
		return waiting(func(_ context.Context, r endpoint.Request) { f(context.WithoutCancel(ctx), r) })
	}
	all := []served{
		at("session", jobs.RPCSession+"*", audit.Calls, d.calls.Session).stored(),
		at("anonymous", jobs.RPCAnonymous, audit.Calls, d.calls.Anonymous).stored(),
		at("admin-session", jobs.RPCAdminSession+"*", audit.Calls, d.calls.Session).stored(),
		at("admin-anonymous", jobs.RPCAdminAnonymous, audit.Calls, d.calls.Anonymous).stored(),
		at("jobs-get", jobs.RPCJobsGet, audit.Operator, waiting(d.lookup.Get)),
		at("objects-get", contract.RPCObjectsGet, audit.Operator, aside((&objects.Objects{Broker: d.broker}).Get)),
		at("jobs-cancel", jobs.RPCJobsCancel, audit.Operator, aside(d.lookup.Cancel)),
		at("jobs-list", jobs.RPCJobsList, audit.None, aside(outcomes.List{Broker: d.broker}.Answer)),
		at("dlq-list", jobs.RPCDeadList, audit.None, aside(d.letters.List)),
		at("dlq-show", jobs.RPCDeadShow, audit.All, aside(d.letters.Show)),
		at("dlq-replay", jobs.RPCDeadReplay, audit.All, aside(d.letters.Replay)),
		at("dlq-purge", jobs.RPCDeadPurge, audit.All, aside(d.letters.Purge)),
		at("health", jobs.RPCHealth, audit.None, aside(d.health.Get)),
		at("stats", jobs.RPCStats, audit.None, aside(d.health.Stats)),
		at("sessions-list", jobs.RPCSessionsList, audit.None, aside(d.sessions.List)),
		at("sessions-get", jobs.RPCSessionsGet, audit.None, aside(d.sessions.Get)),
		at("sessions-export", jobs.RPCSessionsExport, audit.All, aside(d.sessions.Export)),
		at("sessions-cleanup", jobs.RPCSessionsCleanup, audit.All, d.calls.Cleanup).stored(),
		at("sessions-import", jobs.RPCSessionsImport, audit.All, d.calls.Import).stored(),
		at("sessions-erase", jobs.RPCSessionsErase, audit.All, d.calls.Erase).stored(),
		at("hosts-list", jobs.RPCHostsList, audit.None, aside(d.operated.List)),
		at("hosts-drain", jobs.RPCHostsDrain, audit.All, aside(d.operated.Drain)),
		at("hosts-resume", jobs.RPCHostsResume, audit.All, aside(d.operated.Resume)),
		at("partitions-get", jobs.RPCPartitionsGet, audit.None, aside(d.number.Get)),
		at("partitions-set", jobs.RPCPartitionsSet, audit.All, aside(d.number.Set)),
		at("consumers-list", jobs.RPCConsumersList, audit.None, aside(d.stores.ListConsumers)),
		at("consumers-remove", jobs.RPCConsumersRemove, audit.All, aside(d.stores.RemoveConsumer)),
		at("breakers-list", jobs.RPCBreakersList, audit.None, aside(d.breakers.List)),
		at("breakers-reset", jobs.RPCBreakersReset, audit.All, aside(d.breakers.Reset)),
		at("audit-list", jobs.RPCAuditList, audit.None, aside(d.trail.List)),
	}
	all = append(all, batchEndpoints(d, waiting, aside)...)
	if d.broker.Accounts() {
		all = append(all, ofTenants(all)...)
	}
	return all
}

type served struct {
	name, subject string
	plain         string // the subject without a tenant
	audit         audit.Which
	handler       func(endpoint.Request)
	call          bool // it becomes a job: handled one at a time, in the order in which they come
}

// stored is the endpoint, whose requests become jobs.
func (e served) stored() served {
	e.call = true
	return e
}

func at(name, subject string, audit audit.Which, handler func(endpoint.Request)) served {
	return served{name: name, subject: subject, plain: subject, audit: audit, handler: handler}
}

// maxWaiters bounds the look-ups under way, waits for outcomes included.
const maxWaiters = 10_000

// retirement bounds each step of the end.
const retirement = 5 * time.Second

// retire takes no more requests and answers those that it has got: another dispatcher gets the rest.
func (d *Dispatcher) retire(s *service.Service) {
	if !s.Stop(retirement) {
		d.log.Warn("requests_given_up")
	}
	d.entrance.End()
	d.asides.Wait()
	d.calls.Settle()
	d.broker.Writer.Settle()
	d.probes.Settle()
}

// Blocked reports that the broker answers but stores nothing, as a nats-server does from a full disk on until it is restarted.
func (d *Dispatcher) Blocked() bool { return d.probes.Blocked() }

// auditStores is what the audit trail needs to know of the broker objects.
type auditStores struct {
	*stores.Stores
	*stores.Probes
}
