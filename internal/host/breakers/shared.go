// Package breakers shares circuit breakers between hosts. What one host finds out holds on all: a breaker that opens here is
// written to dspex_control, one that closes is deleted there, by compare-and-set, and every host follows. Of two that disagree the
// first write counts. How long a breaker stays open each host measures by itself from when it reads of it; of entries older than the
// host, the broker's clock decides.
package breakers

import (
	"maps"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/breaker"
	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/stream"
)

// Shared are the breakers of a host, and its share in those of all hosts.
type Shared struct {
	*breaker.Set
	host    string
	changed func(breaker.Change) // a change that this host found out is shared

	on    *stream.Access
	began clock.Mono // then the broker's entries were read for the first time

	mu      sync.Mutex
	pending map[string]breaker.Event // changes that are not shared yet, by name, the latest
	wake    chan struct{}            // capacity 1
	others  map[string]bool          // breakers of other hosts that are open: two a host at most
	counts  map[string]count         // by name, what this host has counted and not shared

	read chan entry
	revs map[string]uint64 // by key, the latest that was read or written; of Run
	sums sums              // of Run
}

type entry struct {
	key   string
	entry stream.Entry
}

// New makes the breakers of a host. They are its own until Open and Run.
func New(host string, cfg breaker.Config, changed func(breaker.Change)) *Shared {
	s := &Shared{host: host, changed: changed, pending: map[string]breaker.Event{}, wake: make(chan struct{}, 1), read: make(chan entry), others: map[string]bool{}, revs: map[string]uint64{},
		counts: map[string]count{}, sums: sums{}}
	s.Set = breaker.NewSet(cfg, s.found)
	s.Look(control.PoolBreaker(host), control.StartBreaker(host)) // these are always shown
	return s
}

// Open reports where they are shared.
func (s *Shared) Open(on *stream.Access) { s.on, s.began = on, on.Clock.Mono() }

// tries bounds how often a write is repeated that another one has overtaken; pause is the wait between tries when the broker does
// not answer.
const (
	tries = 8
	pause = time.Second
)

func (s *Shared) found(e breaker.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if control.BreakerOfAll(e.Info.Name) {
		s.counts[e.Info.Name] = s.counts[e.Info.Name].then(e)
	}
	if e.Change != breaker.Counted && e.Change != breaker.Cleared {
		s.pending[e.Info.Name] = e
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Shared) take() map[string]breaker.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.pending
	s.pending = map[string]breaker.Event{}
	return taken
}

// another notes a breaker of another host.
func (s *Shared) another(name string, open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if open {
		s.others[name] = true
	} else {
		delete(s.others, name)
	}
}

// Fails reports whether the workers of another host are known to fail.
func (s *Shared) Fails(host string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.others[control.PoolBreaker(host)]
}

// putBack keeps what could not be shared, unless something newer was found out.
func (s *Shared) putBack(left map[string]breaker.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.Copy(left, s.pending)
	s.pending = left
}

// mostOpen bounds the names in a heartbeat.
const mostOpen = 16

// OpenNames names the breakers that are open.
func (s *Shared) OpenNames() []string {
	var names []string
	for _, i := range s.Infos() {
		if i.State == breaker.Open && len(names) < mostOpen {
			names = append(names, i.Name)
		}
	}
	return names
}
