package pyproc

import (
	"fmt"
	"time"

	"github.com/dspex/dspex/internal/fair"
)

// Limits are what may change while a pool runs: the fields of Config with the same names.
type Limits struct {
	Size, Overflow      int
	PingEvery, PingLost time.Duration
	Recycle             Recycle
	Weights             fair.Weights
}

// Limits are those of a configuration.
func (c Config) Limits() Limits {
	return Limits{Size: c.Size, Overflow: c.Overflow, PingEvery: c.PingEvery, PingLost: c.PingLost, Recycle: c.Recycle, Weights: c.Weights}
}

// Limits are those in force.
func (p *Pool) Limits() Limits {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.limits
}

// Adjust gives a pool other limits; it reports what is wrong with them, and changes nothing then. It does not wait: workers that are
// missing start from now on. Of those that are too many the idle ones end, and the others take no more calls and end after those they have.
func (p *Pool) Adjust(l Limits) error {
	cfg := p.cfg
	cfg.Size, cfg.Overflow, cfg.PingEvery, cfg.PingLost, cfg.Recycle, cfg.Weights = l.Size, l.Overflow, l.PingEvery, l.PingLost, l.Recycle, l.Weights
	cfg = cfg.withDefaults()
	if err := cfg.problems(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopping {
		return ErrStopped
	}
	was := p.limits
	p.limits = cfg.Limits()
	p.waiters.Weigh(cfg.Weights)
	p.burst = burstAfter(p.burst, was.Size, p.limits)
	p.recruitLocked()
	for p.running && p.censusLocked().serving > p.targetLocked() {
		p.standDownLocked()
	}
	p.replanLocked()
	return nil
}

// burstAfter is what is left of a burst in a pool of another size: workers that the burst brought are among those of a larger pool.
func burstAfter(burst, size int, now Limits) int {
	return min(max(0, burst-max(0, now.Size-size)), now.Overflow)
}

// recruitLocked sees to it that there are supervisors for the limits: more than workers, for replacements that come before the old ones
// have gone.
func (p *Pool) recruitLocked() {
	l := p.limits
	for len(p.supervisors) < max(0, l.Size)+max(0, l.Overflow)+max(0, p.cfg.Spares)+max(2, l.Size/2) {
		s := &supervisor{pool: p, name: fmt.Sprintf("%s/%d", p.cfg.Name, len(p.supervisors)+1), kick: make(chan struct{}, 1)}
		p.supervisors = append(p.supervisors, s)
		if p.employ != nil {
			p.employ(s)
		}
	}
}
