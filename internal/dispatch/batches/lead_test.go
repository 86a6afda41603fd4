package batches

import (
	"fmt"
	"testing"
	"time"

	"github.com/dspex/dspex/internal/batch"
)

// waiting lets tenants wait with batches each, all those of one before those of the next.
func (s leader) waiting(each int, tenants ...string) {
	for _, tenant := range tenants {
		for n := range each {
			rec := &batch.Record{Tenant: tenant, Batch: fmt.Sprint("b", n), Phase: batch.Running, Submitted: time.Unix(int64(len(s.known)), 0)}
			s.known[batch.RecordKey(tenant, rec.Batch)] = &held{rec: rec}
		}
	}
}

// start begins with those that are due, and counts them by tenant.
func (s leader) start(active map[string]*use) map[string]int {
	of := map[string]int{}
	for _, h := range s.due(active) {
		of[h.rec.Tenant]++
		active[batch.RecordKey(h.rec.Tenant, h.rec.Batch)] = &use{tenant: h.rec.Tenant}
	}
	return of
}

// TestATenantsFirstBatchRunsBesideThoseOfManyOthers: nobody's further batches keep it from its beginning.
func TestATenantsFirstBatchRunsBesideThoseOfManyOthers(t *testing.T) {
	s, active := divided(t, true, 8, nil), map[string]*use{}
	s.waiting(10, "a")
	if got := s.start(active); got["a"] != runsOfTenant {
		t.Errorf("%d batches of a tenant alone run, expected %d", got["a"], runsOfTenant)
	}
	var others []string
	for n := range 20 {
		others = append(others, fmt.Sprint("t", n))
	}
	s.waiting(10, others...)
	s.start(active)
	s.waiting(10, "late", "later")
	if got := s.start(active); got["late"] != 1 || got["later"] != 1 || len(got) != 2 {
		t.Errorf("begun beside %d: %v, expected one of each tenant that came last", len(active), got)
	}
	var crowd []string
	for n := range 2 * runs {
		crowd = append(crowd, fmt.Sprint("c", n))
	}
	s.waiting(1, crowd...)
	s.start(active)
	if len(active) != runs {
		t.Errorf("%d batches run, expected %d", len(active), runs)
	}
}
