package host

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/host/telemetry"
	"github.com/dspex/dspex/internal/jobs"
)

// announce refuses a second host of the same name and returns the loop that says that this one lives.
func (h *Host) announce(ctx context.Context) (func(context.Context), error) {
	subject := jobs.SubjectControl + h.cfg.Name + ".ping"
	bounded, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if m, err := h.nc.RequestWithContext(bounded, subject, nil); err == nil {
		return nil, fmt.Errorf("a host named %q is running already (incarnation %s): give this one another name", h.cfg.Name, m.Data)
	}
	sub, err := h.nc.Subscribe(subject, func(m *nats.Msg) { _ = m.Respond([]byte(h.incarnation)) })
	if err != nil {
		return nil, fmt.Errorf("subscribe %s: %w", subject, err)
	}
	answer := func(m *nats.Msg) { _ = m.Respond(h.heartbeat(false, nil)) } // many times a second under load
	answerWhole := func(m *nats.Msg) { _ = m.Respond(h.heartbeat(false, h.tenants())) }
	ask := jobs.SubjectControl + h.cfg.Name + ".beat"
	now, err := h.nc.Subscribe(ask, answerWhole)
	if err != nil {
		return nil, fmt.Errorf("subscribe %s: %w", ask, err)
	}
	all, err := h.nc.Subscribe(jobs.SubjectBeat, answer)
	if err != nil {
		return nil, fmt.Errorf("subscribe %s: %w", jobs.SubjectBeat, err)
	}
	release, err := h.nc.Subscribe(jobs.SubjectControl+h.cfg.Name+".release", h.onRelease)
	if err != nil {
		return nil, fmt.Errorf("subscribe to releases: %w", err)
	}
	waited := false
	return func(ctx context.Context) {
		defer func() { _, _, _, _ = sub.Unsubscribe(), now.Unsubscribe(), all.Unsubscribe(), release.Unsubscribe() }()
		t := time.NewTicker(busyBeat)
		defer t.Stop()
		for n := 0; ; n++ {
			waits := h.waitsFor(callTurn) > 0
			if n%int(idleBeat/busyBeat) == 0 || waits || waited {
				h.beat(false)
			}
			waited = waits
			select {
			case <-ctx.Done():
				h.beat(true)
				return
			case <-t.C:
			}
		}
	}, nil
}

// A host sends a heartbeat each second, and more often while calls wait for a slot: dispatchers accept no more than it can do.
const (
	idleBeat = time.Second
	busyBeat = 100 * time.Millisecond
)

func (h *Host) beat(leaving bool) {
	_ = h.nc.Publish(jobs.SubjectHeartbeat+h.cfg.Name, h.heartbeat(leaving, nil)) // the next beat follows
}

func (h *Host) heartbeat(leaving bool, tenants map[string]jobs.TenantCount) []byte {
	counts := h.cfg.Pool.Workers()
	engine := ""
	if h.cfg.Engine != nil {
		engine = h.cfg.Engine()
	}
	b, err := json.Marshal(jobs.Heartbeat{
		Workers: counts.Size, Active: counts.Active, Available: counts.Available, Overflow: counts.Overflow,
		Host: h.cfg.Name, Incarnation: h.incarnation, Started: h.started, HighestEpoch: h.assigned.seen(), Capacity: h.cfg.Capacity, Free: h.cfg.Pool.Free(),
		Requests: h.telemetry.Stats.Requests.Load(), Errors: h.telemetry.Stats.Errors.Load(), Requested: h.telemetry.Stats.Requested.Load(), RunMillis: h.telemetry.Stats.RunMillis.Load(), Ran: h.telemetry.Stats.Ran.Load(), WaitingCalls: h.waitsFor(callTurn), WaitingJobs: h.waitsFor(queuedTurn), Deep: h.telemetry.Queues.Some(),
		Sessions: h.telemetry.Stats.Sessions.Load(), Engine: engine, Sandbox: h.cfg.Sandbox, Full: h.full.Load() > 0, Hits: h.telemetry.Stats.Hits.Load(), Misses: h.telemetry.Stats.Misses.Load(), Moves: h.telemetry.Stats.Moves.Load(),
		IdleMillis: h.cfg.SessionIdle.Milliseconds(), CheckoutMillis: h.cfg.CheckoutTimeout.Milliseconds(), Busy: h.busy(), Releases: true, Stopping: h.stopping.Load(), Leaving: leaving,
		Breakers: h.openBreakers(), Stuck: h.telemetry.Blocked.Steps(), ClockOff: h.clockOff(), Tenants: tenants,
	})
	if err != nil {
		panic(err) // text and numbers always marshal
	}
	return b
}

// waitsFor is how many jobs could run if there were slots: of each session the first.
func (h *Host) waitsFor(kind turn) int64 { return h.turns.waitsFor(kind) + h.waiting[kind].Load() }

// busy tells how many sessions of each partition have work.
func (h *Host) busy() map[int]int {
	busy := map[int]int{}
	h.parts.Range(func(n, p any) bool {
		if count := p.(*partition).busy.Load(); count > 0 {
			busy[n.(int)] = int(count)
		}
		return true
	})
	return busy
}

// tenants tells what each tenant had and has here; nothing where there are no accounts.
func (h *Host) tenants() map[string]jobs.TenantCount {
	if !h.accounts.Load() {
		return nil
	}
	all := h.telemetry.Tenants.All()
	h.parts.Range(func(_, v any) bool {
		p := v.(*partition)
		p.mu.Lock()
		defer p.mu.Unlock()
		for ref, d := range p.sessions {
			n, known := all[ref.Tenant]
			if !known && len(all) >= telemetry.MostTenants {
				continue
			}
			n.Sessions++
			n.Jobs += d.outstanding()
			all[ref.Tenant] = n
		}
		return true
	})
	return all
}
