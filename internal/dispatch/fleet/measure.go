package fleet

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/jobs"
)

// measureWait bounds the question to a host how it is; a live one answers at once.
const measureWait = time.Second

// Measure queries every live host for its state now. One that does not answer counts with its last heartbeat; all reports whether
// none was missing.
func (f *Fleet) Measure() (beats []control.Heartbeat, all bool) {
	beats = f.Live()
	answered := make([]bool, len(beats))
	var wg sync.WaitGroup
	for i := range beats {
		wg.Go(func() {
			body, err := f.Request(beats[i].Host, "beat", nil)
			var b control.Heartbeat
			if err == nil && json.Unmarshal(body, &b) == nil && b.Host == beats[i].Host {
				beats[i], answered[i] = b, true
			}
		})
	}
	wg.Wait()
	return beats, !slices.Contains(answered, false)
}

// Request sends a host a request, and returns what it answers.
func (f *Fleet) Request(host, what string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), measureWait)
	defer cancel()
	return f.broker.Request(ctx, jobs.SubjectControl+host+"."+what, body)
}

// RequestAll has all live hosts do something at once, and returns the answers of those that answer.
func (f *Fleet) RequestAll(what string, body []byte) (answers [][]byte) {
	beats := f.Live()
	all := make([][]byte, len(beats))
	var wg sync.WaitGroup
	for i := range beats {
		wg.Go(func() { all[i], _ = f.Request(beats[i].Host, what, body) }) // who does not answer is missing
	}
	wg.Wait()
	return slices.DeleteFunc(all, func(a []byte) bool { return a == nil })
}

// idleDefault is how long hosts that do not report theirs keep an idle session.
const idleDefault = time.Hour

// SessionIdle is how long the hosts keep an idle session.
func (f *Fleet) SessionIdle() time.Duration {
	longest := time.Duration(0)
	for _, b := range f.Live() {
		longest = max(longest, time.Duration(b.IdleMillis)*time.Millisecond)
	}
	if longest == 0 {
		return idleDefault
	}
	return longest
}

// PoolNumbers adds up what the hosts report. What they have counted goes on when a host restarts or goes.
func (t *Totals) PoolNumbers(beats []control.Heartbeat, started time.Time) map[string]int64 {
	var workers, active, available, sessions, overflow int64
	for _, b := range beats {
		workers += int64(b.Workers)
		active += int64(b.Active)
		available += int64(b.Available)
		sessions += b.Sessions
		overflow += int64(b.Overflow)
	}
	counted, average := t.sum(beats), int64(0)
	if counted.Requests > 0 {
		average = counted.RunMillis / counted.Requests
	}
	return map[string]int64{
		"pool_size": workers, "active_workers": active, "available_workers": available, "active_sessions": sessions,
		"total_requests": counted.Requests, "total_errors": counted.Errors, "average_response_time": average,
		"affinity_hits": counted.Hits, "affinity_misses": counted.Misses, "affinity_moves": counted.Moves, "overflow_workers": overflow,
		"uptime_seconds": int64(time.Since(started) / time.Second),
	}
}

// Engines names what runs the programs: one engine, unless a deployment mixes them.
func Engines(beats []control.Heartbeat) string {
	return Distinct(beats, func(b control.Heartbeat) string { return b.Engine })
}

// Distinct returns what the hosts report, each value once.
func Distinct(beats []control.Heartbeat, of func(control.Heartbeat) string) string {
	var names []string
	for _, b := range beats {
		if name := of(b); name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// ByTenant adds up what the hosts report of each tenant.
func ByTenant(beats []control.Heartbeat) map[string]control.TenantCount {
	all := map[string]control.TenantCount{}
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

// TenantNumbers are a tenant's, under the names of those of the pool.
func TenantNumbers(n control.TenantCount) map[string]int64 {
	average := int64(0)
	if n.Requests > 0 {
		average = n.RunMillis / n.Requests
	}
	return map[string]int64{"active_sessions": n.Sessions, "average_response_time": average, "total_errors": n.Errors, "total_requests": n.Requests}
}

// PoolingOff refuses what needs the pool, where pooling_enabled is false.
func PoolingOff() *jobs.Error {
	return jobs.Errorf(jobs.Resource, jobs.CodePoolUnavailable, "Pool not available: pooling_enabled is false").
		WithHint("set pooling_enabled: true in the file of settings (--pooling-enabled, $DSPEX_POOLING_ENABLED) and restart dispatcher and worker-host")
}

// NoHost refuses what needs a host, while none is alive.
func NoHost() *jobs.Error {
	return jobs.Errorf(jobs.Resource, jobs.CodePoolUnavailable, "Pool not available: no worker-host is alive").
		WithHint("start a worker-host, or `dspex dev`").Again()
}
