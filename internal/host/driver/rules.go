package driver

import (
	"sync/atomic"

	"github.com/dspex/dspex/internal/lifecycle"
)

// Rules are those that the cores follow. They may be changed while jobs run: each core follows them from its next step on.
type Rules struct {
	now atomic.Pointer[lifecycle.Config]
}

// NewRules are those of cfg, until Set.
func NewRules(cfg *lifecycle.Config) *Rules {
	r := &Rules{}
	r.Set(cfg)
	return r
}

// Set changes the rules. cfg is not changed any more.
func (r *Rules) Set(cfg *lifecycle.Config) { r.now.Store(cfg) }

// Now are the rules in force.
func (r *Rules) Now() *lifecycle.Config { return r.now.Load() }
