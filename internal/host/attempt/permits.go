package attempt

import (
	"github.com/dspex/dspex/internal/breaker"
)

// permits are what the breakers let through: one attempt that has its slot.
type permits struct{ pool, lm *breaker.Permit }

func (p *permits) enter(set *breaker.Set, pool, lm string) (refused *breaker.Refusal) {
	if p.lm, refused = set.Enter(lm); refused != nil {
		return refused
	}
	if p.pool, refused = set.Enter(pool); refused != nil {
		p.leave()
	}
	return refused
}

// leave gives the permits back; what no verdict was given on is no evidence.
func (p *permits) leave() {
	p.pool.End(breaker.Silent, "")
	p.lm.End(breaker.Silent, "")
	*p = permits{}
}
