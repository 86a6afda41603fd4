package dispatch

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/wire"
)

// pool adds up what the hosts say.
func (d *Dispatcher) pool() map[string]int64 {
	var workers, active, available, requests, failed, ms, sessions int64
	for _, b := range d.hosts.live() {
		workers += int64(b.Workers)
		active += int64(b.Active)
		available += int64(b.Available)
		requests += b.Requests
		failed += b.Errors
		ms += b.RunMillis
		sessions += b.Sessions
	}
	average := int64(0)
	if requests > 0 {
		average = ms / requests
	}
	return map[string]int64{
		"pool_size": workers, "active_workers": active, "available_workers": available, "active_sessions": sessions,
		"total_requests": requests, "total_errors": failed, "average_response_time": average,
		"uptime_seconds": int64(time.Since(d.started) / time.Second),
	}
}

var statNames = []string{"active_sessions", "active_workers", "available_workers", "average_response_time", "pool_size", "total_errors", "total_requests", "uptime_seconds"}

func appendStats(b []byte, stats map[string]int64) []byte {
	b = wire.AppendMap(b, len(statNames))
	for _, name := range statNames {
		b = wire.AppendInt(wire.AppendStr(b, name), stats[name])
	}
	return b
}

func (d *Dispatcher) getStats(_ context.Context, r micro.Request) {
	b := wire.AppendBool(wire.AppendStr(wire.AppendMap(nil, 2), "ok"), true)
	respond(r, appendStats(wire.AppendStr(b, "result"), d.pool()))
}

// health measures now: an error when nothing serves, degraded when partitions lack a live owner.
func (d *Dispatcher) health(ctx context.Context, r micro.Request) {
	live := d.hosts.live()
	if len(live) == 0 {
		refuse(r, jobs.Errorf(jobs.Resource, jobs.CodePoolUnavailable, "Pool not available: no worker-host is alive").
			WithHint("start a worker-host, or `dspex dev`"))
		return
	}
	status := "healthy"
	owners, _, err := d.owners(ctx)
	alive := map[string]bool{}
	for _, b := range live {
		alive[b.Host] = true
	}
	for _, o := range owners {
		if !alive[o] {
			status = "degraded"
		}
	}
	if err != nil {
		status = "degraded"
	}
	b := wire.AppendBool(wire.AppendStr(wire.AppendMap(nil, 2), "ok"), true)
	b = wire.AppendMap(wire.AppendStr(b, "result"), 2)
	b = appendStats(wire.AppendStr(b, "stats"), d.pool())
	respond(r, wire.AppendStr(wire.AppendStr(b, "status"), status))
}
