package host

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/host/tokens"
	"github.com/dspex/dspex/internal/jobs"
)

// announce refuses a second host of the same name and returns the loop that reports that this one lives.
func (h *Host) announce(ctx context.Context, r *parts) (func(context.Context), error) {
	control := jobs.SubjectControl + h.cfg.Name
	bounded, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if other, err := r.on.Request(bounded, control+".ping", nil); err == nil {
		return nil, fmt.Errorf("a host named %q is running already (incarnation %s): give this one another name", h.cfg.Name, other)
	}
	var stops []func()
	for _, served := range []struct {
		subject string
		answer  func() []byte
	}{
		{control + ".ping", func() []byte { return []byte(h.incarnation) }},
		{control + ".beat", func() []byte { return h.heartbeat(r, false, true) }},
		{jobs.SubjectBeat, func() []byte { return h.heartbeat(r, false, false) }}, // many times a second under load
	} {
		stop, err := r.on.Serve(served.subject, func(_ []byte, reply func([]byte)) { reply(served.answer()) })
		if err != nil {
			return nil, err
		}
		stops = append(stops, stop)
	}
	return func(ctx context.Context) {
		h.beats(ctx, r)
		for _, stop := range stops {
			stop()
		}
	}, nil
}

// beats sends heartbeats until ctx ends.
func (h *Host) beats(ctx context.Context, r *parts) {
	t := time.NewTicker(busyBeat)
	defer t.Stop()
	for n, waited := 0, false; ; n++ {
		waits := r.waitsFor(tokens.Call) > 0
		if n%int(idleBeat/busyBeat) == 0 || waits || waited {
			h.beat(r, false)
		}
		waited = waits
		select {
		case <-ctx.Done():
			h.beat(r, true)
			return
		case <-t.C:
		}
	}
}

// A host sends a heartbeat each second, and more often while calls wait for a slot: dispatchers accept no more than it can do.
const (
	idleBeat = time.Second
	busyBeat = 100 * time.Millisecond
)

func (h *Host) beat(r *parts, leaving bool) {
	_ = r.on.NC.Publish(jobs.SubjectHeartbeat+h.cfg.Name, h.heartbeat(r, leaving, false)) // the next beat follows
}

// heartbeat is what the host reports; whole with what is requested seldom.
func (h *Host) heartbeat(r *parts, leaving, whole bool) []byte {
	counts := h.cfg.Pool.Workers()
	engine := ""
	if h.cfg.Engine != nil {
		engine = h.cfg.Engine()
	}
	calls, queued := r.waitsFor(tokens.Call), r.waitsFor(tokens.Queued)
	stalled, running := r.progress()
	now := h.settings.Load()
	beat := control.Heartbeat{
		Workers: counts.Size, Active: counts.Active, Available: counts.Available, Overflow: counts.Overflow,
		Host: h.cfg.Name, Incarnation: h.incarnation, Started: h.started, HighestEpoch: r.keeper.HighestEpoch(), Capacity: now.Capacity, Free: h.cfg.Pool.Free(),
		Requests: h.telemetry.Stats.Requests.Load(), Errors: h.telemetry.Stats.Errors.Load(), Requested: h.telemetry.Stats.Requested.Load(), RunMillis: h.telemetry.Stats.RunMillis.Load(), Ran: h.telemetry.Stats.Ran.Load(), WaitingCalls: calls, WaitingJobs: queued, Deep: h.telemetry.Queues.Some(),
		Sessions: h.telemetry.Stats.Sessions.Load(), Engine: engine, Sandbox: h.cfg.Sandbox, Version: h.cfg.Version, Full: r.drivers.Full(), Hits: h.telemetry.Stats.Hits.Load(), Misses: h.telemetry.Stats.Misses.Load(), Moves: h.telemetry.Stats.Moves.Load(),
		IdleMillis: h.cfg.SessionIdle.Milliseconds(), CheckoutMillis: now.CheckoutTimeout.Milliseconds(), Busy: r.sessions.Busy(), Releases: true, Shards: true, Stopping: h.stopping.Load(), Leaving: leaving,
		Breakers: h.breakers.OpenNames(), Blocked: h.telemetry.Blocked.Steps(), Running: running, Stalled: stalled.Milliseconds(), ClockOff: r.clockOff(),
	}
	if whole {
		beat.Tenants, beat.Latency = h.tenants(r), h.telemetry.Latency.All()
	}
	b, err := json.Marshal(beat)
	if err != nil {
		panic(err) // text and numbers always marshal
	}
	return b
}

// waitsFor is how many jobs could run if there were slots: of each session the first.
func (r *parts) waitsFor(kind tokens.Kind) int64 {
	return r.drivers.Tokens.WaitsFor(kind) + r.drivers.Runner.WaitsFor(kind)
}

// progress is for how long nothing was finished, if that is too long, and how many calls run.
func (r *parts) progress() (stalled time.Duration, running int64) {
	return r.drivers.Telemetry.Progress.Look(r.waitsFor(tokens.Call) + r.waitsFor(tokens.Queued))
}

// clockOff is how far this machine's wall clock is ahead of the broker's, in ms; nil if that is not known.
func (r *parts) clockOff() *int64 {
	off, known := r.on.Clock.Off()
	if !known {
		return nil
	}
	ms := off.Milliseconds()
	return &ms
}

// tenants is what each tenant had and has here; nothing where there are no accounts.
func (h *Host) tenants(r *parts) map[string]control.TenantCount {
	if !r.on.Accounts() {
		return nil
	}
	counts := h.telemetry.Tenants.All()
	r.sessions.Tenants(counts)
	return counts
}
