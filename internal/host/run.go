package host

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/host/anonymous"
	"github.com/dspex/dspex/internal/host/attempt"
	"github.com/dspex/dspex/internal/host/driver"
	"github.com/dspex/dspex/internal/host/ownership"
	"github.com/dspex/dspex/internal/host/provision"
	"github.com/dspex/dspex/internal/host/sessions"
	"github.com/dspex/dspex/internal/host/tokens"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
	"github.com/dspex/dspex/internal/stream"
)

// Run serves until ctx ends, then lets running jobs finish within the grace, gives its partitions back and returns when all
// it started has ended.
func (h *Host) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	on, err := stream.Open(ctx, h.cfg.NC, h.cfg.Machine, h.log)
	if err != nil {
		return err
	}
	defer on.Close()
	if err := h.drain.read(ctx, on, h.cfg.Name); err != nil {
		return err
	}
	h.started = on.Clock.Now().UnixMilli()
	h.breakers.Open(on)
	work, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	r := h.furnish(work, on)
	beat, err := h.announce(ctx, r)
	if err != nil {
		return err
	}
	alone, err := watchDuplicate(on, h.cfg.Name, h.incarnation, h.started, func(err error) { cancel(err); stop(err) })
	if err != nil {
		return err
	}
	defer alone()
	unsubscribe, err := h.listen(work, r)
	if err != nil {
		return err
	}
	defer unsubscribe()
	h.beat(r, false) // before it takes a partition: who finds its name there has read of it
	h.serve(ctx, work, r, stop, beat)
	if err := context.Cause(ctx); errors.Is(err, errDuplicate) {
		return err
	}
	return nil
}

// furnish builds the parts; Adjust reaches them from then on.
func (h *Host) furnish(work context.Context, on *stream.Access) *parts {
	h.adjusting.Lock()
	defer h.adjusting.Unlock()
	r := h.build(work, on)
	h.parts.Store(r)
	return r
}

// Settings are those in force.
func (h *Host) Settings() Settings { return *h.settings.Load() }

// Adjust gives a host other settings. Jobs that run go on; all others follow the new settings from their next step on. The pool is the
// caller's, and has the slots of the capacity by itself.
func (h *Host) Adjust(s Settings) {
	h.adjusting.Lock()
	defer h.adjusting.Unlock()
	h.settings.Store(&s)
	h.breakers.Configure(s.Breaker)
	r := h.parts.Load()
	if r == nil {
		return
	}
	rules := *r.drivers.Rules.Now()
	rules.CheckoutTimeout, rules.Defaults = s.CheckoutTimeout, s.Defaults
	r.drivers.Rules.Set(&rules)
	r.drivers.Tokens.Weigh(s.Weights)
	r.drivers.Tokens.Resize(s.Capacity + spareTokens)
	r.anonymous.Resize(s.Capacity)
	h.beat(r, false) // dispatchers admit calls by it, and assign partitions
}

// build puts the parts together. work ends running jobs.
func (h *Host) build(work context.Context, on *stream.Access) *parts {
	now := h.settings.Load()
	rules := driver.NewRules(&lifecycle.Config{Host: h.cfg.Name, Clock: on.Clock, MaxPayload: on.MaxPayload, SessionIdle: h.cfg.SessionIdle,
		CheckoutTimeout: now.CheckoutTimeout, DeadWindow: stream.DeadWindow, Defaults: now.Defaults, Chance: rand.Float64})
	r := &parts{on: on, provision: provision.New(h.cfg.Models, on)}
	standsAside := func() bool { return h.standsAside(r) }
	r.drivers = &driver.Drivers{
		Goroutines: &driver.Goroutines{}, On: on, Rules: rules, Telemetry: h.telemetry, Work: work, Payloads: driver.NewPayloads(on, h.telemetry.TraceOf),
		Tokens: tokens.New(now.Capacity+spareTokens, func(breaker string) bool { return h.breakers.Look(breaker) == nil }),
		Runner: &attempt.Runner{Host: h.cfg.Name, On: on, Pool: h.cfg.Pool, Models: h.cfg.Models, Provision: r.provision, Breakers: h.breakers,
			Telemetry: h.telemetry, StandsAside: standsAside, OnEnded: h.cfg.OnEnded},
	}
	r.drivers.Tokens.Weigh(now.Weights)
	r.sessions = sessions.New(h.cfg.Name, h.cfg.Models, r.drivers, h.cfg.SessionIdle)
	r.keeper = ownership.New(work, on, h.cfg.Name, h.incarnation, h.cfg.Grace, r.sessions.Serve)
	r.anonymous = anonymous.New(anonymous.Config{On: on, Drivers: r.drivers, Pool: h.cfg.Pool, Provision: r.provision, Capacity: now.Capacity,
		SessionsWait: func() int64 { return r.waitsFor(tokens.Call) + r.waitsFor(tokens.Queued) }, Draining: h.drain.on.Load, StandsAside: standsAside})
	return r
}

// serve takes jobs until ctx ends, and returns when all that was started has ended. stop ends work.
func (h *Host) serve(ctx, work context.Context, r *parts, stop context.CancelCauseFunc, beat func(context.Context)) {
	var wg sync.WaitGroup
	wg.Go(func() { r.provision.FollowDefault(ctx) })
	known := make(chan struct{})
	wg.Go(func() { r.provision.FollowPrograms(ctx, sync.OnceFunc(func() { close(known) })) })
	r.provision.Await(ctx, known)
	wg.Go(func() { r.keeper.Run(ctx) })
	for _, lane := range []string{jobs.LaneInteractive, jobs.LaneBatch} {
		wg.Go(func() { r.anonymous.Run(ctx, lane) })
	}
	var last sync.WaitGroup // these serve until the work has ended
	defer last.Wait()
	defer r.drivers.Wait()
	defer stop(nil)
	last.Go(func() { r.keeper.Follow(work) })
	last.Go(func() { r.drivers.Tokens.Run(work) })
	last.Go(func() { h.breakers.Run(work) })
	last.Go(func() { r.on.Clock.Follow(work) })
	last.Go(func() { r.on.FollowAccounts(work) })
	present, goodbye := context.WithCancel(context.WithoutCancel(ctx))
	defer goodbye()
	last.Go(func() { beat(present) })
	if h.cfg.OnReady != nil {
		h.cfg.OnReady()
	}
	last.Go(func() { h.drain.follow(present, r.on, h.cfg.Name, func() { h.beat(r, false) }) })
	done := make(chan struct{})
	last.Go(func() { wg.Wait(); close(done) })
	<-ctx.Done()
	h.finish(r, done, stop)
}

// listen serves cancellations, questions about breakers and releases, and reads of erased sessions and of subscribers of telemetry,
// until unsubscribe is called.
func (h *Host) listen(ctx context.Context, r *parts) (unsubscribe func(), err error) {
	var stops []func()
	unsubscribe = func() {
		for i := range stops {
			stops[len(stops)-1-i]()
		}
	}
	for _, start := range []func() (func(), error){
		func() (func(), error) { return r.serveCancel(ctx, h.cfg.Name) },
		h.breakers.Serve,
		func() (func(), error) { return followErased(r.on, h.cfg.Pool) },
		r.keeper.Release,
		func() (func(), error) { return serveReload(r.on, h.cfg.Name, h.cfg.Reload) },
		func() (func(), error) { return h.telemetry.Listen(r.on, h.cfg.Name) },
	} {
		stop, err := start()
		if err != nil {
			unsubscribe()
			return nil, err
		}
		stops = append(stops, stop)
	}
	return unsubscribe, nil
}

// standsAside reports whether anonymous jobs are left to other hosts: this one's workers fail, and there is another host whose
// workers are not known to. A host that fails its calls at once has free slots always, and would get more than its share.
func (h *Host) standsAside(r *parts) bool {
	if h.breakers.Look(control.PoolBreaker(h.cfg.Name)) == nil {
		return false
	}
	return r.keeper.AnyHost(func(host string) bool { return host != h.cfg.Name && !h.breakers.Fails(host) })
}

// A host leaves in three steps: it takes nothing new, its running jobs end (within the grace), and it gives each partition
// back as soon as nothing of it runs any more. The leader then assigns it to another host.

// Hurry ends the grace of a host that stops: running jobs are given up, and their next attempts run elsewhere.
func (h *Host) Hurry() { h.hurried.Do(func() { close(h.hurry) }) }

// finish waits until all that was started has ended: for the grace, or until Hurry is called.
func (h *Host) finish(r *parts, done <-chan struct{}, stop context.CancelCauseFunc) {
	h.stopping.Store(true)
	r.keeper.Stop()
	h.beat(r, false)
	timer := time.NewTimer(h.cfg.Grace)
	defer timer.Stop()
	select {
	case <-done:
		return
	case <-timer.C:
	case <-h.hurry:
	}
	h.log.Warn("running_jobs_given_up", "grace", h.cfg.Grace)
	stop(errors.New("the host stops"))
	<-done
}
