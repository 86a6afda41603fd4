// Package sessions serves the sessions of the partitions that a host owns: it takes their jobs in order and hands each to the
// driver of its session.
package sessions

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/host/driver"
	"github.com/dspex/dspex/internal/host/ownership"
	"github.com/dspex/dspex/internal/host/provision"
	"github.com/dspex/dspex/internal/host/telemetry"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// Sessions are those of a host.
type Sessions struct {
	Host      string
	Models    provision.Models
	Drivers   *driver.Drivers
	Telemetry *telemetry.Recorder

	on    *stream.Access
	lost  lostRecords
	parts sync.Map // int -> *partition: the epochs that are served now
}

// New makes the sessions of a host, whose records last for idle after a write, and an hour more.
func New(host string, models provision.Models, drivers *driver.Drivers, idle time.Duration) *Sessions {
	return &Sessions{Host: host, Models: models, Drivers: drivers, Telemetry: drivers.Telemetry, on: drivers.On, lost: lostRecords{on: drivers.On, lifetime: idle + time.Hour}}
}

// Serve makes what serves a partition.
func (all *Sessions) Serve(owned *ownership.Ownership) ownership.Service {
	return newService(all, owned)
}

// service serves a partition while it is owned.
type service struct {
	all     *Sessions
	on      *stream.Access
	owned   *ownership.Ownership
	earlier earlier
}

func newService(all *Sessions, owned *ownership.Ownership) *service {
	return &service{all: all, on: all.on, owned: owned, earlier: earlier{of: map[jobs.SessionRef]map[*driver.Driver]bool{}, heirs: map[jobs.SessionRef]*driver.Driver{}}}
}

// Cut implements ownership.Service. What the present epoch runs ends with that (shut).
func (s *service) Cut() { s.earlier.cut() }

// RunsBeyond implements ownership.Service.
func (s *service) RunsBeyond(then clock.Mono) bool {
	held, ok := s.all.parts.Load(s.owned.N)
	if !ok {
		return false
	}
	p := held.(*partition)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range p.sessions {
		if d.RunsBeyond(then) {
			return true
		}
	}
	return false
}

// Cancel ends the earliest outstanding job of an id. What an earlier epoch runs is earlier than all that the present one has.
func (all *Sessions) Cancel(ctx context.Context, ref jobs.SessionRef, job string) jobs.CancelVerdict {
	var holders []*driver.Driver
	all.parts.Range(func(_, v any) bool {
		holders = append(holders, v.(*partition).holders(ref)...)
		return true
	})
	for _, d := range holders {
		if v := d.Cancel(ctx, job); v != jobs.CancelUnknown {
			return v
		}
	}
	return jobs.CancelUnknown
}

// Busy is how many sessions of each partition have work.
func (all *Sessions) Busy() map[int]int {
	busy := map[int]int{}
	all.parts.Range(func(n, p any) bool {
		if count := p.(*partition).busy.Load(); count > 0 {
			busy[n.(int)] = int(count)
		}
		return true
	})
	return busy
}

// Partitions is how many partitions are served.
func (all *Sessions) Partitions() (n int) {
	all.parts.Range(func(_, _ any) bool { n++; return true })
	return n
}

// Tenants adds what each tenant has here to the counts.
func (all *Sessions) Tenants(counts map[string]control.TenantCount) {
	all.parts.Range(func(_, v any) bool {
		p := v.(*partition)
		p.mu.Lock()
		defer p.mu.Unlock()
		for ref, d := range p.sessions {
			n, known := counts[ref.Tenant]
			if !known && len(counts) >= telemetry.MostTenants {
				continue
			}
			n.Sessions++
			n.Jobs += d.Outstanding()
			counts[ref.Tenant] = n
		}
		return true
	})
}

// partition is one slice of the sessions during one epoch. A new epoch starts with an empty memory.
type partition struct {
	*service
	epoch        uint64
	want         stream.Consumer
	jobsIdentity int64        // identity of the DSPEX_JOBS that its sequences count in
	lost         chan error   // why the epoch ends
	busy         atomic.Int64 // sessions with work

	mu         sync.Mutex
	sessions   map[jobs.SessionRef]*driver.Driver
	next       uint64    // consumer sequence expected
	resetting  bool      // deliveries count for nothing until the first one after a reset
	requesting bool      // requestReset runs
	again      bool      // and has to request (once more)
	answered   time.Time // local clock: the last reset was
	missing    uint64    // consumer sequence that had been sent, and had not come, when that was last compared; 0: none
	closing    bool
}

// idleSessions bounds the sessions that a partition keeps without work; a dropped one is read from its record.
const idleSessions = 256
