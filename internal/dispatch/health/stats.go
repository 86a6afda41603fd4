package health

import (
	"maps"
	"slices"

	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/dispatch/fleet"
	"github.com/dspex/dspex/internal/wire"
)

// The numbers of docs/migration.md, "Calls", around the map of all others, in order.
var (
	statsBefore = []string{"active_sessions", "active_workers", "available_workers", "average_response_time"}
	statsExtra  = []string{"affinity_hits", "affinity_misses", "affinity_moves", "overflow_workers"}
	statsBehind = []string{"pool_size", "total_errors", "total_requests", "uptime_seconds"}

	statsExtraOfTenant = []string{"overflow_workers"}
	statsOfTenant      = []string{"active_sessions", "average_response_time", "total_errors", "total_requests"}
)

// statistics are the numbers that a request gets: a tenant its own and the pool's size; an operator everybody's, and those of each
// tenant beside them.
type statistics struct {
	beats   []control.Heartbeat
	numbers map[string]int64
	extra   []string
	tenants map[string]control.TenantCount // nil: left out
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

func appendNumbers(b []byte, names []string, stats map[string]int64) []byte {
	for _, name := range names {
		b = wire.AppendInt(wire.AppendStr(b, name), stats[name])
	}
	return b
}
