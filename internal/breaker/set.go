package breaker

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/control"
)

// Event is a change that began here: others are to follow.
type Event struct {
	Change Change
	Info   Info
}

// Set is the breakers of one process, by name. They are created at their first use. It is safe for concurrent use.
type Set struct {
	onEvent func(Event)

	mu  sync.Mutex
	cfg Config
	all map[string]*Breaker
}

// mostBreakers bounds a Set, because clients choose the names of language models. What comes when all of them have failures
// goes unprotected.
const mostBreakers = 256

// NewSet makes an empty set. onEvent is called after each change that a result brought, without any lock; it must not wait.
func NewSet(cfg Config, onEvent func(Event)) *Set {
	return &Set{cfg: cfg.WithDefaults(), onEvent: onEvent, all: map[string]*Breaker{}}
}

// Config are the thresholds in force.
func (s *Set) Config() Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cfg
}

// Configure sets other thresholds, of all breakers. What is open stays so for the time that it has.
func (s *Set) Configure(cfg Config) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cfg = cfg.WithDefaults()
	for _, b := range s.all {
		b.configure(s.cfg)
	}
}

// get returns the breaker of that name; nil if there is no room for another one.
func (s *Set) get(name string) *Breaker {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.all[name]
	if b != nil {
		return b
	}
	if len(s.all) >= mostBreakers && !s.evictLocked() {
		return nil
	}
	b = newBreaker(name, s.cfg)
	s.all[name] = b
	return b
}

// evictLocked drops a breaker that a new one would equal.
func (s *Set) evictLocked() bool {
	for name, b := range s.all {
		if b.blank() {
			delete(s.all, name)
			return true
		}
	}
	return false
}

func (b *Breaker) blank() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.seeLocked() == Closed && b.machine.Counts().ConsecutiveFailures == 0
}

// Look returns the first refusal that Enter would meet, nil if none. Empty names stand for nothing.
func (s *Set) Look(names ...string) *Refusal {
	for _, name := range names {
		if name == "" {
			continue
		}
		if b := s.get(name); b != nil {
			if refused := b.look(); refused != nil {
				return refused
			}
		}
	}
	return nil
}

// Permit is what a breaker let through. The nil Permit is one of nothing.
type Permit struct {
	set  *Set
	b    *Breaker
	once sync.Once
	end  func(Result, string) Change
}

// Enter lets one thing through the breaker of that name, or reports why not. An empty name stands for nothing.
func (s *Set) Enter(name string) (*Permit, *Refusal) {
	if name == "" {
		return nil, nil
	}
	b := s.get(name)
	if b == nil {
		return nil, nil
	}
	end, refused := b.enter()
	if refused != nil {
		return nil, refused
	}
	return &Permit{set: s, b: b, end: end}, nil
}

// End reports what became of it; only the first call counts. what names a failure.
func (p *Permit) End(r Result, what string) {
	if p == nil {
		return
	}
	p.once.Do(func() {
		if change := p.end(r, what); change != "" {
			p.set.onEvent(Event{Change: change, Info: p.b.Info()})
		}
	})
}

// SetOpen applies what another process found out: that breaker is open, for the time that is left.
func (s *Set) SetOpen(name string, left time.Duration, failures int, last *control.LastFailure) {
	if b := s.get(name); b != nil {
		b.setOpen(left, failures, last)
	}
}

// SetClosed resets a breaker.
func (s *Set) SetClosed(name string) {
	s.mu.Lock()
	b := s.all[name]
	s.mu.Unlock()
	if b != nil {
		b.setClosed()
	}
}

// SetFailures applies what all processes have counted together: the failures in a row while it is closed.
func (s *Set) SetFailures(name string, failures int, last *control.LastFailure) {
	if b := s.get(name); b != nil {
		if change := b.setFailures(failures, last); change != "" {
			s.onEvent(Event{Change: change, Info: b.Info()})
		}
	}
}

// Infos reports how all breakers stand, by name.
func (s *Set) Infos() []Info {
	s.mu.Lock()
	list := make([]*Breaker, 0, len(s.all))
	for _, b := range s.all {
		list = append(list, b)
	}
	s.mu.Unlock()
	infos := make([]Info, 0, len(list))
	for _, b := range list {
		infos = append(infos, b.Info())
	}
	slices.SortFunc(infos, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return infos
}
