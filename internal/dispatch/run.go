package dispatch

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/dispatch/audit"
	"github.com/dspex/dspex/internal/dispatch/endpoint"
	"github.com/dspex/dspex/internal/dispatch/fleet"
	"github.com/dspex/dspex/internal/dispatch/intake"
	"github.com/dspex/dspex/internal/dispatch/leader"
	"github.com/dspex/dspex/internal/dispatch/outcomes"
	"github.com/dspex/dspex/internal/dispatch/stores"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/link"
	"github.com/dspex/dspex/internal/service"
	"github.com/dspex/dspex/internal/stream"
)

// Run makes the broker objects, serves until ctx ends and returns when all it started has ended.
func (d *Dispatcher) Run(ctx context.Context) (err error) {
	if err := link.Retry(ctx, d.log, d.passes, d.prepare); err != nil {
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
	d.batches, d.atomic = newBatches(d)
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
		f, enter := d.trail.Recording(e.audit, strings.TrimPrefix(e.plain, contract.SubjectRPC), rightful(d.broker.Accounts, e.handler)), d.entrance.Others
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
		Metadata: map[string]string{MetadataName: d.cfg.Name, MetadataBuild: d.cfg.Build},
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
		at("objects-get", contract.RPCObjectsGet, audit.Operator, aside(d.objects.Get)),
		at("objects-upload", contract.RPCObjectsUpload, audit.None, aside(d.objects.Upload)),
		at("objects-complete", contract.RPCObjectsComplete, audit.Operator, aside(d.objects.Complete)),
		at("jobs-cancel", jobs.RPCJobsCancel, audit.Operator, aside(d.lookup.Cancel)),
		at("jobs-list", jobs.RPCJobsList, audit.None, aside(outcomes.List{Broker: d.broker}.Answer)),
		at("dlq-list", jobs.RPCDeadList, audit.None, aside(d.deadLetters.List)),
		at("dlq-show", jobs.RPCDeadShow, audit.All, aside(d.deadLetters.Show)),
		at("dlq-replay", jobs.RPCDeadReplay, audit.All, aside(d.deadLetters.Replay)),
		at("dlq-purge", jobs.RPCDeadPurge, audit.All, aside(d.deadLetters.Purge)),
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
		at("hosts-reload", jobs.RPCHostsReload, audit.All, aside(d.operated.Reload)),
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

// retire takes no more requests and answers those that it has got: another dispatcher gets the rest.
func (d *Dispatcher) retire(s *service.Service) {
	if !s.Stop(retirement) {
		d.log.Warn("requests_given_up")
	}
	d.entrance.End()
	d.asides.Wait()
	d.calls.Wait()
	d.broker.Writer.Drain()
	d.probes.Wait()
}

// retirement bounds each step of the end.
const retirement = 5 * time.Second

// tasks are what this dispatcher does while it leads. A new one is a line here (docs/architecture.md, "The leader's tasks").
func (d *Dispatcher) tasks() []leader.Task {
	return []leader.Task{
		{Name: "assignments", Run: d.planner.Keep},
		{Name: "anchor", Run: d.stores.KeepAnchored},
		recordSteps(d.broker, d.log),
		leader.Every(totalsEach, d.log, "totals", func(ctx context.Context) error { return d.hosts.Totals.Keep(ctx, d.broker.Control, d.hosts.Live()) }),
		{Name: "deadlines", Run: d.timeouts.FollowDeadlines},
		leader.Every(stores.Pause, d.log, "results", d.probes.ShortenResults),
		{Name: "batches", Run: d.batches.Lead},
	}
}

// totalsEach is the time between two looks at what hosts have counted: so much is lost if all dispatchers end together.
const totalsEach = 5 * time.Second

// recordSteps writes down each step of the broker's clock, for processes that start later.
func recordSteps(broker *stream.Access, log *slog.Logger) leader.Task {
	reported := -1 // also what was detected before this term as leader
	return leader.Every(fleet.Tick, log, "clock", func(ctx context.Context) error {
		now := broker.Clock.Era()
		if now == reported {
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, stream.AckTimeout)
		defer cancel()
		err := broker.RecordSteps(ctx)
		if err == nil {
			reported = now
		}
		return err
	})
}

// awaitReady calls OnReady once every partition's consumer exists, unless ctx ends before.
func (d *Dispatcher) awaitReady(ctx context.Context) {
	if d.cfg.OnReady == nil {
		return
	}
	t := time.NewTicker(fleet.Tick)
	defer t.Stop()
	for !d.cfg.PoolingOff {
		_, consumers, err := d.broker.Count(ctx, stream.Jobs)
		if err == nil && consumers >= d.view.Serving() && len(d.hosts.Live()) > 0 {
			break
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
	d.cfg.OnReady()
}
