package dashboard

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/insight"
)

// scope is what a caller sees: whose jobs, through which client, and how much of the service.
type scope struct {
	key       string // of what is watched for all who see the same
	client    *dspex.Client
	own       *dspex.Client // for what concerns the service as a whole; nil: not for this caller
	tenant    string
	ownTenant string
	filtered  bool // an operator views one tenant
	operates  bool
	prefix    string
	token     bool
}

// fleet reports whether the caller sees hosts, attempts of all jobs, and circuit breakers of workers.
func (sc scope) fleet() bool { return sc.own != nil }

// need is what a page shows only to some.
type need int

const (
	everybody  need = iota
	operator        // what the contract gives to operators of the tenant
	fleet           // what concerns the service as a whole
	unprefixed      // what is the whole tenant's
)

func (n need) met(sc scope) bool {
	switch n {
	case operator:
		return sc.operates
	case fleet:
		return sc.fleet()
	case unprefixed:
		return sc.prefix == ""
	}
	return true
}

// Bounds of what is watched.
const (
	sampleEach  = time.Second
	sampleTime  = 5 * time.Second  // of one sample; then it counts as one without an answer
	idleFor     = 2 * time.Minute  // a watch goes on without viewers, so that a page that is opened again has its graphs
	deniedFor   = 30 * time.Second // what was refused is requested again after that
	mostWatches = 64               // tenants that are watched at a time
)

// watch samples the pool once for all who see the same.
type watch struct {
	scope  scope
	source *patient
	tail   tail
	logs   logTail

	mu      sync.Mutex
	seen    insight.History
	series  series
	made    *live
	parts   map[string]string // live parts of pages as HTML, made once for all viewers
	changed chan struct{}     // closed with the next sample
	viewers int
	used    time.Time
}

func (w *watch) touch() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.used = time.Now()
}

// idle reports whether there was no viewer for a while.
func (w *watch) idle() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.viewers == 0 && time.Since(w.used) > idleFor
}

// now are the figures of the newest sample.
func (w *watch) now() *live {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.made
}

// last is the newest sample with the rates of its hosts.
func (w *watch) last() (insight.Sample, map[string]float64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, _ := w.seen.Last()
	return s, maps.Clone(w.seen.Hosts)
}

// tenants are those that an operator may choose from.
func (w *watch) tenants() []string {
	if !w.scope.fleet() {
		return nil
	}
	w.source.mu.Lock()
	defer w.source.mu.Unlock()
	if w.scope.filtered && !slices.Contains(w.source.tenants, w.scope.tenant) { // it has not run anything lately
		return append(slices.Clone(w.source.tenants), w.scope.tenant)
	}
	return w.source.tenants
}

// patient is a source of samples that does not repeat what was refused: a refusal may cost seconds.
type patient struct {
	client, own *dspex.Client

	mu      sync.Mutex
	refused time.Time
	why     error
	may     bool
	tenants []string
	looked  time.Time
}

// Health implements insight.Source.
func (p *patient) Health(ctx context.Context) (dspex.Health, error) {
	h, err := p.client.Health(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil && h.Stats.Tenants != nil {
		p.tenants = slices.Sorted(maps.Keys(h.Stats.Tenants))
		p.looked = time.Now()
	}
	if due := p.own != nil && p.own != p.client && time.Since(p.looked) > deniedFor; due { // one tenant's health has no list of tenants
		p.looked = time.Now()
		if all, err := p.own.Stats(ctx); err == nil {
			p.tenants = slices.Sorted(maps.Keys(all.Tenants))
		}
	}
	return h, err
}

var errNotForCaller = errors.New("hosts, workers and attempts are shown to operators of the whole service")

// Hosts implements insight.Source.
func (p *patient) Hosts(ctx context.Context) (dspex.Hosts, error) {
	if p.own == nil {
		return dspex.Hosts{}, errNotForCaller
	}
	p.mu.Lock()
	why := p.why
	if time.Since(p.refused) > deniedFor {
		why = nil
	}
	p.mu.Unlock()
	if why != nil {
		return dspex.Hosts{}, why
	}
	hosts, err := p.own.Admin().Hosts(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.why = err; err != nil {
		p.refused = time.Now()
	}
	p.may = p.may || err == nil
	return hosts, err
}

// Breakers implements insight.Source.
func (p *patient) Breakers(ctx context.Context) ([]dspex.Breaker, error) {
	if !p.allowed() {
		return nil, nil
	}
	return p.own.Admin().Breakers(ctx)
}

// allowed reports whether the service has answered a request that only operators may send.
func (p *patient) allowed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.may
}
