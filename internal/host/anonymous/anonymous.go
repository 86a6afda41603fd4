// Package anonymous serves the jobs without session: it pulls as many from the lanes as the pool has free slots, and hands each to a
// driver of its own.
package anonymous

import (
	"context"

	"github.com/dspex/dspex/internal/host/attempt"
	"github.com/dspex/dspex/internal/host/driver"
	"github.com/dspex/dspex/internal/host/provision"
	"github.com/dspex/dspex/internal/host/workers"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// Config is what the jobs run with.
type Config struct {
	On           *stream.Access
	Drivers      *driver.Drivers
	Pool         workers.Pool
	Provision    *provision.Provision
	Capacity     int          // slots of the pool, until Resize
	SessionsWait func() int64 // sessions that wait for a slot
	Draining     func() bool  // the operator wants the host empty
	StandsAside  func() bool  // other hosts are better off
}

// Jobs are the anonymous jobs of a host.
type Jobs struct {
	Config
	lanes *lanes
	here  running
}

// New makes them; Run serves a lane.
func New(cfg Config) *Jobs { return &Jobs{Config: cfg, lanes: lanesFor(cfg.Capacity)} }

// Resize follows a pool that has another number of slots.
func (all *Jobs) Resize(capacity int) { all.lanes.resize(capacity) }

// Cancel ends the outstanding job of an id, if it is here.
func (all *Jobs) Cancel(ctx context.Context, tenant, id string) jobs.CancelVerdict {
	d := all.here.get(name{tenant, id})
	if d == nil {
		return jobs.CancelUnknown
	}
	return d.Cancel(ctx, id)
}

// admit lets an anonymous job take a slot of this host if there is room for it, or else waits for one here. One whose id was
// chosen stays: repeats of its id share the record of its attempts, and would count its deliveries as theirs.
func (all *Jobs) admit(t *attempt.Attempt, a *arrival) bool {
	r, _ := all.room()
	return a.admit(r, t.Env.Chosen)
}

// room is what the pool has now; changed is closed as soon as there may be more.
func (all *Jobs) room() (r room, changed <-chan struct{}) {
	r.free, r.allowed, changed = all.Pool.Room()
	r.waiting = int(all.SessionsWait())
	return r, changed
}
