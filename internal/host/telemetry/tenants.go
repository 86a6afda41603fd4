package telemetry

import (
	"maps"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/jobs"
)

// Tenants counts the jobs that ended here by tenant, where tenants have accounts of their own.
type Tenants struct {
	mu sync.Mutex
	of map[string]control.TenantCount
}

// MostTenants bounds the tenants that are counted. Whoever runs the broker makes tenants, clients do not.
const MostTenants = 4096

func (c *Tenants) ended(tenant string, ran time.Duration, e *jobs.Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, known := c.of[tenant]
	if !known && len(c.of) >= MostTenants {
		return
	}
	if c.of == nil {
		c.of = map[string]control.TenantCount{}
	}
	n.Requests++
	n.RunMillis += ran.Milliseconds()
	if e != nil {
		n.Errors++
	}
	c.of[tenant] = n
}

// All copies the counts.
func (c *Tenants) All() map[string]control.TenantCount {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[string]control.TenantCount{}
	maps.Copy(all, c.of)
	return all
}
