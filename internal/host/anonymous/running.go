package anonymous

import (
	"sync"

	"github.com/dspex/dspex/internal/host/driver"
)

// running are the anonymous jobs that this host runs, or that wait here for a slot.
type running struct {
	mu sync.Mutex
	of map[name]*driver.Driver
}

// name names a job without session.
type name struct{ tenant, id string }

func (r *running) enter(job name, d *driver.Driver) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of == nil {
		r.of = map[name]*driver.Driver{}
	}
	r.of[job] = d
}

func (r *running) leave(job name, d *driver.Driver) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of[job] == d {
		delete(r.of, job)
	}
}

func (r *running) get(job name) *driver.Driver {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.of[job]
}
