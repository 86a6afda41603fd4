package batches

import (
	"sync/atomic"

	"github.com/dspex/dspex/internal/fair"
)

// use is what a batch that runs has of the lane batch, where jobs without session of all tenants wait in one line.
type use struct {
	tenant string
	wants  atomic.Int64 // jobs that it has there, or could have
	most   atomic.Int64 // that it may have; 0: no bound
}

// divide bounds what batches have in the lane, where there are several tenants. While all slots have jobs, fewer wait in the lane than there
// are slots. So another tenant's job is at its turn when each slot has become free once: after the running time of one job.
func (s leader) divide(all map[string]*use) {
	if !s.Accounts() {
		return
	}
	tenants, runs := map[string]int{}, map[string]map[string]int{}
	for key, u := range all {
		wants := int(u.wants.Load())
		if wants == 0 {
			u.most.Store(1) // of the next one, until it wants more
			continue
		}
		if runs[u.tenant] == nil {
			runs[u.tenant] = map[string]int{}
		}
		runs[u.tenant][key] = wants
		tenants[u.tenant] += wants
	}
	for tenant, most := range fair.Divide(max(2*s.cfg.Slots()-1, 1), tenants, s.cfg.Weights()) {
		for key, n := range fair.Divide(most, runs[tenant], nil) {
			all[key].most.Store(int64(n))
		}
	}
}
