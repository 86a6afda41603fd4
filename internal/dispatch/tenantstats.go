package dispatch

import (
	"maps"
	"slices"
	"strings"

	"github.com/dspex/dspex/internal/dispatch/endpoint"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/wire"
)

// onlyTenant tells whose numbers a request is about, if it is about one tenant's only.
func (d *Dispatcher) onlyTenant(r endpoint.Request) (tenant string, only bool) {
	if !d.cfg.Settings.Accounts {
		return jobs.DefaultTenant, false
	}
	return endpoint.TenantOf(r), strings.HasPrefix(r.Subject(), endpoint.TenantRoot) || r.Headers().Get(jobs.HeaderTenant) != ""
}

// byTenant adds up what the hosts say of each tenant.
func byTenant(beats []jobs.Heartbeat) map[string]jobs.TenantCount {
	all := map[string]jobs.TenantCount{}
	for _, b := range beats {
		for tenant, n := range b.Tenants {
			sum := all[tenant]
			sum.Requests += n.Requests
			sum.Errors += n.Errors
			sum.RunMillis += n.RunMillis
			sum.Sessions += n.Sessions
			sum.Jobs += n.Jobs
			all[tenant] = sum
		}
	}
	return all
}

// numbersOf are a tenant's, under the names of those of the pool.
func numbersOf(n jobs.TenantCount) map[string]int64 {
	average := int64(0)
	if n.Requests > 0 {
		average = n.RunMillis / n.Requests
	}
	return map[string]int64{"active_sessions": n.Sessions, "average_response_time": average, "total_errors": n.Errors, "total_requests": n.Requests}
}

// statistics are the numbers that a request gets: a tenant its own and the pool's size; an operator everybody's, and those of each
// tenant beside them.
type statistics struct {
	beats   []jobs.Heartbeat
	numbers map[string]int64
	extra   []string
	tenants map[string]jobs.TenantCount // nil: not told
}

func (d *Dispatcher) statisticsFor(r endpoint.Request, beats []jobs.Heartbeat) statistics {
	s := statistics{beats: beats, numbers: d.pool(beats), extra: statsExtra}
	switch tenant, only := d.onlyTenant(r); {
	case only:
		maps.Copy(s.numbers, numbersOf(byTenant(beats)[tenant]))
		s.extra = statsExtraOfTenant
	case d.cfg.Settings.Accounts:
		s.tenants = byTenant(beats)
	}
	return s
}

// append appends them, and what the workers are kept from, if hosts say so: they are of this release.
func (s statistics) append(b []byte) []byte {
	b = appendNumbers(wire.AppendMap(b, len(statsBefore)+1+len(statsBehind)), statsBefore, s.numbers)
	sandbox := distinct(s.beats, func(b jobs.Heartbeat) string { return b.Sandbox })
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
			b = appendNumbers(wire.AppendMap(wire.AppendStr(b, tenant), len(statsOfTenant)), statsOfTenant, numbersOf(s.tenants[tenant]))
		}
	}
	return appendNumbers(b, statsBehind, s.numbers)
}
