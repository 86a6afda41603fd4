package health

import (
	"maps"
	"slices"

	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/dispatch/fleet"

	"github.com/dspex/dspex/internal/dispatch/endpoint"

	"github.com/dspex/dspex/internal/wire"
)

// statistics are the numbers that a request gets: a tenant its own and the pool's size; an operator everybody's, and those of each
// tenant beside them.
type statistics struct {
	beats   []control.Heartbeat
	numbers map[string]int64
	extra   []string
	tenants map[string]control.TenantCount // nil: left out
}

func (h *Health) statisticsFor(r endpoint.Request, beats []control.Heartbeat) statistics {
	s := statistics{beats: beats, numbers: h.Hosts.PoolNumbers(beats, h.Started), extra: statsExtra}
	switch tenant, only := endpoint.OnlyTenant(r, h.Broker.Accounts()); {
	case only:
		maps.Copy(s.numbers, fleet.TenantNumbers(fleet.ByTenant(beats)[tenant]))
		s.extra = statsExtraOfTenant
	case h.Broker.Accounts():
		s.tenants = fleet.ByTenant(beats)
	}
	return s
}

// append appends them, and what the workers are kept from, if hosts report it: they are of this release.
func (s statistics) append(b []byte) []byte {
	b = appendNumbers(wire.AppendMap(b, len(statsBefore)+1+len(statsBehind)), statsBefore, s.numbers)
	sandbox := fleet.Distinct(s.beats, func(b control.Heartbeat) string { return b.Sandbox })
	n := len(s.extra)
	if sandbox != "" {
		n++
	}
	if s.tenants != nil {
		n++
	}
	b = appendNumbers(wire.AppendMap(wire.AppendStr(b, "extra"), n), s.extra, s.numbers)
	if sandbox != "" {
		b = wire.AppendStr(wire.AppendStr(b, "sandbox"), sandbox)
	}
	if s.tenants != nil {
		b = wire.AppendMap(wire.AppendStr(b, "tenants"), len(s.tenants))
		for _, tenant := range slices.Sorted(maps.Keys(s.tenants)) {
			b = appendNumbers(wire.AppendMap(wire.AppendStr(b, tenant), len(statsOfTenant)), statsOfTenant, fleet.TenantNumbers(s.tenants[tenant]))
		}
	}
	return appendNumbers(b, statsBehind, s.numbers)
}
