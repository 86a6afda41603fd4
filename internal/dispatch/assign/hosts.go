package assign

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"

	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/dispatch/endpoint"
	"github.com/dspex/dspex/internal/dispatch/fleet"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// States of a host, as its operator sees it.
const (
	hostServing  = "serving"
	hostDraining = "draining" // it is to be empty, and still has partitions
	hostDrained  = "drained"  // it has none
	hostStopping = "stopping" // it got SIGTERM
	hostGone     = "gone"     // it holds partitions, or is to be drained, and is not alive
)

// Hosts serves the operator's requests about hosts.
type Hosts struct {
	view   *View
	fleet  *fleet.Fleet
	broker *stream.Access
	log    *slog.Logger
}

// NewHosts shows the hosts of a fleet, and drains and resumes them.
func NewHosts(view *View, of *fleet.Fleet, broker *stream.Access, log *slog.Logger) *Hosts {
	return &Hosts{view: view, fleet: of, broker: broker, log: log}
}

// List returns the live hosts, measured now, and those that are gone and left something behind.
func (h *Hosts) List(ctx context.Context, r endpoint.Request) {
	if !endpoint.TakesNothing(r) {
		return
	}
	drained, err := drains(ctx, h.broker)
	if err != nil {
		endpoint.Refuse(r, endpoint.Unreadable(err))
		return
	}
	owners, err := h.view.Owners(ctx)
	if err != nil {
		endpoint.Refuse(r, endpoint.Unreadable(err))
		return
	}
	leader, err := h.broker.Control.Get(ctx, control.LeaderKey)
	if err != nil {
		endpoint.Refuse(r, endpoint.Unreadable(err))
		return
	}
	held := map[string]int{}
	for _, host := range owners {
		held[host]++
	}
	beats, _ := h.fleet.Measure()
	list := []map[string]any{}
	seen := map[string]bool{}
	for _, b := range beats {
		seen[b.Host] = true
		list = append(list, hostInfo(b, held[b.Host], drained[b.Host]))
	}
	for host, on := range drained {
		if on && !seen[host] {
			seen[host] = true
			list = append(list, map[string]any{"host": host, "state": hostGone, "partitions": held[host], "drain": true})
		}
	}
	for host, n := range held {
		if host != "" && !seen[host] {
			list = append(list, map[string]any{"host": host, "state": hostGone, "partitions": n, "drain": false})
		}
	}
	slices.SortFunc(list, func(a, b map[string]any) int { return cmp.Compare(a["host"].(string), b["host"].(string)) })
	endpoint.RespondResult(r, map[string]any{"hosts": list, "unassigned": held[""], "partitions": len(owners), "leader": endpoint.OrNil(leaderIn(leader.Value))})
}

// leaderIn is the leader that the key names.
func leaderIn(value []byte) string {
	if !control.Ours(control.LeaderKey, value) {
		return ""
	}
	return string(value)
}

func hostInfo(b control.Heartbeat, partitions int, drain bool) map[string]any {
	state := hostServing
	switch {
	case b.Stopping:
		state = hostStopping
	case drain && partitions > 0:
		state = hostDraining
	case drain:
		state = hostDrained
	}
	busy := 0
	for _, n := range b.Busy {
		busy += n
	}
	return map[string]any{
		"host": b.Host, "incarnation": b.Incarnation, "state": state, "drain": drain, "partitions": partitions, "engine": endpoint.OrNil(b.Engine), "sandbox": endpoint.OrNil(b.Sandbox), "version": endpoint.OrNil(b.Version),
		"capacity": b.Capacity, "free": b.Free, "pool_size": b.Workers, "active_workers": b.Active, "available_workers": b.Available, "overflow_workers": b.Overflow,
		"active_sessions": b.Sessions, "busy_sessions": busy, "total_requests": b.Requests, "total_errors": b.Errors,
		"affinity_hits": b.Hits, "affinity_misses": b.Misses, "affinity_moves": b.Moves, "clock_off_ms": b.ClockOff, "latency": latency(b),
	}
}

// latency is what a host reports of it, with whole numbers of jobs; nil if nothing.
func latency(b control.Heartbeat) map[string]any {
	if b.Latency == nil {
		return nil
	}
	modes := map[string]any{}
	for mode, counts := range b.Latency {
		pairs := []any{}
		for _, pair := range counts {
			pairs = append(pairs, []any{pair[0], int64(pair[1])})
		}
		modes[mode] = pairs
	}
	return modes
}

// drainTries bounds the writes of one request: each loses only to another operator's.
const drainTries = 5

// Drain makes a host empty; it stays so, through restarts, until it is resumed.
func (h *Hosts) Drain(ctx context.Context, r endpoint.Request) { h.setDrain(ctx, r, true) }

// Resume lets a drained host serve again.
func (h *Hosts) Resume(ctx context.Context, r endpoint.Request) { h.setDrain(ctx, r, false) }

func unknownHost(live []control.Heartbeat) *jobs.Error {
	e := jobs.Errorf(jobs.Session, jobs.CodeHostUnknown, "no live host has that name")
	var names []string
	for _, b := range live {
		names = append(names, b.Host)
	}
	slices.Sort(names)
	e.Path, e.Expected = "host", "one of: "+strings.Join(names, ", ")
	return e
}

// setDrain drains or resumes a host that is alive, or is drained already. It may be repeated.
func (h *Hosts) setDrain(ctx context.Context, r endpoint.Request, drain bool) {
	var host string
	bad := endpoint.ReadBody(r, `{"host": "..."}`, map[string]*endpoint.Entry{"host": endpoint.Text(&host, "a host's name", jobs.ValidSession).Needed()})
	for range drainTries {
		var done bool
		if bad == nil {
			done, bad = h.writeDrain(ctx, host, drain)
		}
		switch {
		case bad != nil:
			endpoint.Refuse(r, bad)
			return
		case done:
			h.log.Info("drain", "host", host, "on", drain)
			endpoint.RespondResult(r, map[string]any{"host": host, "drain": drain})
			return
		}
	}
	endpoint.Refuse(r, endpoint.Unreadable(stream.ErrWrongRevision))
}

// writeDrain reports false when another write came between.
func (h *Hosts) writeDrain(ctx context.Context, host string, drain bool) (bool, *jobs.Error) {
	e, err := h.broker.Control.Get(ctx, control.DrainKey(host))
	if err != nil {
		return false, endpoint.Unreadable(err)
	}
	live := h.fleet.Live()
	switch {
	case !e.Exists && !slices.ContainsFunc(live, func(b control.Heartbeat) bool { return b.Host == host }):
		return false, unknownHost(live)
	case control.IsDrain(e.Value) == drain && e.Exists == drain:
		return true, nil
	case drain:
		value, fault := json.Marshal(control.Drain{Since: endpoint.TimeText(h.broker.Clock.Now())})
		if fault != nil {
			panic(fault) // a map of texts always marshals
		}
		_, err = h.broker.Control.PutSync(control.DrainKey(host), value, e.Revision, 0)
	default:
		_, err = h.broker.Control.Delete(control.DrainKey(host), e.Revision)
	}
	if errors.Is(err, stream.ErrWrongRevision) {
		return false, nil
	}
	if err != nil {
		return false, endpoint.Unreadable(err)
	}
	return true, nil
}
