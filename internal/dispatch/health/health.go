// Package health reports how the deployment is: the health check, its numbers, and the jobs that have no outcome.
package health

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/dispatch/audit"
	"github.com/dspex/dspex/internal/dispatch/endpoint"
	"github.com/dspex/dspex/internal/dispatch/fleet"
	"github.com/dspex/dspex/internal/dispatch/stores"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
	"github.com/dspex/dspex/internal/wire"
)

// Health serves the requests how the deployment is.
type Health struct {
	Dispatcher string
	Started    time.Time
	Broker     *stream.Access
	Hosts      *fleet.Fleet
	Stores     *stores.Stores
	Probes     *stores.Probes
	Trail      *audit.Trail
	Plan       Owners
	Leading    Leading
	PoolingOff bool // there is to be no pool
}

// Owners is who has which partition.
type Owners interface {
	Owners(ctx context.Context) (map[int]string, error)
}

// Leading reports what is wrong with the work of whatever leads.
type Leading interface {
	Reasons(ctx context.Context) []string
}

// appendHead begins a successful reply whose result follows.
func appendHead(beats []control.Heartbeat) []byte {
	engine := fleet.Engines(beats)
	if engine == "" { // no worker has started yet
		return wire.AppendStr(wire.AppendBool(wire.AppendStr(wire.AppendMap(nil, 2), "ok"), true), "result")
	}
	b := wire.AppendStr(wire.AppendStr(wire.AppendMap(nil, 3), "engine"), engine)
	return wire.AppendStr(wire.AppendBool(wire.AppendStr(b, "ok"), true), "result")
}

// Stats answers the numbers alone, measured now.
func (h *Health) Stats(_ context.Context, r endpoint.Request) {
	if !endpoint.TakesNothing(r) {
		return
	}
	beats, _ := h.Hosts.Measure()
	endpoint.Respond(r, h.statisticsFor(r, beats).append(appendHead(beats)))
}

// Get measures now: an error when nothing serves; degraded when workers are missing, or partitions lack a live owner.
func (h *Health) Get(ctx context.Context, r endpoint.Request) {
	if !endpoint.TakesNothing(r) {
		return
	}
	beats, all := h.Hosts.Measure()
	stats, dead := h.Hosts.Totals.PoolNumbers(beats, h.Started), h.Probes.Dead()
	if dead == nil && h.Hosts.StoreFull() {
		dead = stream.ErrStoreFull
	}
	switch {
	case dead != nil: // without a store no host serves for long
		endpoint.Refuse(r, endpoint.NotAccepted(dead))
		return
	case h.PoolingOff:
		endpoint.Refuse(r, fleet.PoolingOff())
		return
	case len(beats) == 0:
		endpoint.Refuse(r, fleet.NoHost())
		return
	case stats["active_workers"] == 0:
		endpoint.Refuse(r, jobs.Errorf(jobs.Resource, jobs.CodePoolUnavailable, "Pool not available: no worker serves").
			WithHint("the worker-host's log has the reason why its workers do not start").Again())
		return
	}
	reasons, status, entries := h.degradations(ctx, beats, all, stats), "healthy", 3
	if len(reasons) > 0 {
		status = "degraded"
	}
	if _, only := endpoint.OnlyTenant(r, h.Broker.Accounts()); only { // they name hosts, and what others have
		reasons = nil
	}
	if len(reasons) > 0 {
		entries = 4
	}
	b := wire.AppendMap(appendHead(beats), entries)
	b = wire.AppendBool(wire.AppendStr(b, "accounts"), h.Broker.Accounts())
	if len(reasons) > 0 {
		b = wire.AppendArray(wire.AppendStr(b, "reasons"), len(reasons))
	}
	for _, reason := range reasons {
		b = wire.AppendStr(b, reason)
	}
	b = h.statisticsFor(r, beats).append(wire.AppendStr(b, "stats"))
	endpoint.Respond(r, wire.AppendStr(wire.AppendStr(b, "status"), status))
}

// degradations reports what is wrong with a pool that serves.
func (h *Health) degradations(ctx context.Context, beats []control.Heartbeat, all bool, stats map[string]int64) (reasons []string) {
	if !all {
		reasons = append(reasons, "a host does not answer")
	}
	if missing := stats["pool_size"] - stats["active_workers"]; missing > 0 {
		reasons = append(reasons, fmt.Sprintf("%d of %d workers are missing", missing, stats["pool_size"]))
	}
	reasons = append(reasons, h.Stores.Reasons(time.Now())...)
	reasons = append(reasons, h.Probes.Reasons()...)
	reasons = append(reasons, h.Trail.Reasons(time.Now())...)
	if !h.owned(ctx, beats) {
		reasons = append(reasons, "a partition has no live owner")
	}
	reasons = append(reasons, h.Leading.Reasons(ctx)...)
	reasons = append(reasons, fleet.ClocksOff(h.Broker.Clock, h.Dispatcher, beats)...)
	open := map[string]bool{}
	for _, b := range beats {
		if b.Stalled > 0 {
			reasons = append(reasons, fmt.Sprintf("host %s has finished nothing for %d s, though its workers live: %d calls run and %d jobs wait for a slot", b.Host, b.Stalled/1000, b.Running, b.WaitingCalls+b.WaitingJobs))
		}
		for _, step := range slices.Sorted(maps.Keys(b.Blocked)) {
			reasons = append(reasons, fmt.Sprintf("%d jobs of host %s are blocked at the step %s", b.Blocked[step], b.Host, step))
		}
		for _, name := range b.Breakers {
			open[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(open)) {
		reasons = append(reasons, "the circuit breaker "+name+" is open")
	}
	if r := h.Hosts.ErrorRate(); r.Over() {
		reasons = append(reasons, fmt.Sprintf("%d of %d jobs failed in the last %d s, more than %.3g %%", r.Failed, r.Total, fleet.RateWindow, 100*r.Threshold))
	}
	return reasons
}

// owned reports whether every partition belongs to a live host.
func (h *Health) owned(ctx context.Context, beats []control.Heartbeat) bool {
	owners, err := h.Plan.Owners(ctx)
	if err != nil {
		return false
	}
	for _, owner := range owners {
		if !slices.ContainsFunc(beats, func(b control.Heartbeat) bool { return b.Host == owner }) {
			return false
		}
	}
	return true
}

func (h *Health) statisticsFor(r endpoint.Request, beats []control.Heartbeat) statistics {
	s := statistics{beats: beats, numbers: h.Hosts.Totals.PoolNumbers(beats, h.Started), extra: statsExtra}
	switch tenant, only := endpoint.OnlyTenant(r, h.Broker.Accounts()); {
	case only:
		maps.Copy(s.numbers, fleet.TenantNumbers(fleet.ByTenant(beats)[tenant]))
		s.extra = statsExtraOfTenant
	case h.Broker.Accounts():
		s.tenants = fleet.ByTenant(beats)
	}
	return s
}
