package host

import (
	"maps"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/jobs"
)

// census counts the jobs that ended here by tenant, where tenants have accounts of their own.
type census struct {
	mu sync.Mutex
	of map[string]jobs.TenantCount
}

// mostTenants bounds the tenants that are counted. Whoever runs the broker makes tenants, clients do not.
const mostTenants = 4096

func (c *census) ended(tenant string, ran time.Duration, e *jobs.Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, known := c.of[tenant]
	if !known && len(c.of) >= mostTenants {
		return
	}
	if c.of == nil {
		c.of = map[string]jobs.TenantCount{}
	}
	n.Requests++
	n.RunMillis += ran.Milliseconds()
	if e != nil {
		n.Errors++
	}
	c.of[tenant] = n
}

// tenants tells what each tenant had and has here; nothing where there are no accounts.
func (h *Host) tenants() map[string]jobs.TenantCount {
	if !h.accounts.Load() {
		return nil
	}
	all := map[string]jobs.TenantCount{}
	h.census.mu.Lock()
	maps.Copy(all, h.census.of)
	h.census.mu.Unlock()
	h.parts.Range(func(_, v any) bool {
		p := v.(*partition)
		p.mu.Lock()
		defer p.mu.Unlock()
		for ref, d := range p.sessions {
			n, known := all[ref.Tenant]
			if !known && len(all) >= mostTenants {
				continue
			}
			n.Sessions++
			n.Jobs += d.outstanding()
			all[ref.Tenant] = n
		}
		return true
	})
	return all
}
