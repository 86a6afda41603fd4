package sim

import (
	"fmt"
	"strings"
	"time"

	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/jobs"
)

// threshold is the number of failures in a row that open a breaker.
const threshold = 5

// sharing is the time in which all hosts receive what one has counted.
const sharing = 400 * time.Millisecond

// modelBreaker: of jobs that come one after the other, on whatever host, the fifth in a row that the language model fails opens its
// breaker, and nothing else does. What happens after that is not looked at.
func modelBreaker(h *history) (bad []string) {
	row, due, open, over := 0, time.Duration(0), false, false
	h.each(func(e event) {
		switch {
		case over:
		case e.kind == opened && e.text == simModel:
			open = true // the attempt has ended, its result is under way
		case row == threshold && (open || e.at > due+sharing):
			if over = true; !open {
				bad = append(bad, fmt.Sprintf("%s is not open at %v after %d failures in a row", simModel, e.at, row))
			}
		case e.kind != resulted:
		case e.result.Kind == jobs.Succeeded:
			row = 0
		case e.result.Kind == jobs.Failed:
			row++
			due = e.at
		}
		if open && !over && e.kind == resulted && row < threshold {
			over = true
			bad = append(bad, fmt.Sprintf("%s opens before %v after %d failures in a row", simModel, e.at, row))
		}
	}, opened, resulted, stored, fault)
	return bad
}

// poolBreakers: the breaker of a host's workers opens for the first time after as many of them have died, however much was in them.
func poolBreakers(h *history) (bad []string) {
	dead := map[string]int{}
	h.each(func(e event) {
		if e.kind == died {
			host, _, _ := strings.Cut(e.who, ".")
			dead[host]++
			return
		}
		if host, ok := strings.CutPrefix(e.text, control.PoolBreaker("")); ok && dead[host] < threshold {
			bad = append(bad, fmt.Sprintf("%s opens at %v after the end of %d workers", e.text, e.at, dead[host]))
		}
	}, opened, died)
	return bad
}
