package sessions

import (
	"maps"
	"slices"
	"sync"

	"github.com/dspex/dspex/internal/host/driver"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
)

// earlier are the sessions of earlier epochs that still work.
type earlier struct {
	mu    sync.Mutex
	of    map[jobs.SessionRef]map[*driver.Driver]bool
	heirs map[jobs.SessionRef]*driver.Driver // of the present epoch, which wait for them
}

func (e *earlier) add(d *driver.Driver) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.of[d.Ref] == nil {
		e.of[d.Ref] = map[*driver.Driver]bool{}
	}
	e.of[d.Ref][d] = true
}

// working are the drivers of a session that still work.
func (e *earlier) working(ref jobs.SessionRef) []*driver.Driver {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Collect(maps.Keys(e.of[ref]))
}

// heir makes the session's driver of a new epoch, which waits for those of earlier ones.
func (e *earlier) heir(ref jobs.SessionRef, made func(waits bool) *driver.Driver) *driver.Driver {
	e.mu.Lock()
	defer e.mu.Unlock()
	waits := len(e.of[ref]) > 0
	d := made(waits)
	if waits {
		e.heirs[ref] = d
	}
	return d
}

// rested notes that a driver has come to rest. If it was the last that somebody waits for, that one may begin.
func (e *earlier) rested(d *driver.Driver) {
	e.mu.Lock()
	var heir *driver.Driver
	if all := e.of[d.Ref]; all[d] {
		if delete(all, d); len(all) == 0 {
			heir = e.heirs[d.Ref]
			delete(e.of, d.Ref)
			delete(e.heirs, d.Ref)
		}
	}
	e.mu.Unlock()
	if heir != nil {
		heir.Feed(lifecycle.Event{Kind: lifecycle.PredecessorGone})
	}
}

// cut ends their work.
func (e *earlier) cut() {
	var left []*driver.Driver
	e.mu.Lock()
	for _, all := range e.of {
		for d := range all {
			left = append(left, d)
		}
	}
	e.mu.Unlock()
	for _, d := range left {
		d.Cut()
	}
}
