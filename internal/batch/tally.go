package batch

import (
	"maps"

	"github.com/dspex/dspex/internal/jobs"
)

// Tally counts outcomes.
type Tally struct {
	Succeeded int            `json:"succeeded"`
	Failed    int            `json:"failed"`
	Cancelled int            `json:"cancelled"`
	Expired   int            `json:"expired"`
	Errors    map[string]int `json:"errors,omitempty"` // by code
	Usage     Usage          `json:"usage,omitempty"`
}

// Usage is what language models counted: model -> counter -> sum.
type Usage map[string]map[string]int64

// Total is how many outcomes were counted.
func (t *Tally) Total() int { return t.Succeeded + t.Failed + t.Cancelled + t.Expired }

// mostCodes bounds the error codes that are counted apart; those of a user's own programs may be many.
const mostCodes = 64

// otherCodes counts the rest.
const otherCodes = "other"

func (t *Tally) add(e End) {
	switch e.Kind {
	case jobs.Succeeded:
		t.Succeeded++
	case jobs.Failed:
		t.Failed++
	case jobs.Cancelled:
		t.Cancelled++
	case jobs.Expired:
		t.Expired++
	}
	if e.Code != "" {
		t.count(e.Code, 1)
	}
	for model, counters := range e.Usage {
		if t.Usage == nil {
			t.Usage = Usage{}
		}
		if t.Usage[model] == nil {
			t.Usage[model] = map[string]int64{}
		}
		for name, n := range counters {
			t.Usage[model][name] += n
		}
	}
}

// count adds n errors of a code.
func (t *Tally) count(code string, n int) {
	if n == 0 {
		return
	}
	if t.Errors == nil {
		t.Errors = map[string]int{}
	}
	if _, known := t.Errors[code]; !known && len(t.Errors) >= mostCodes {
		code = otherCodes
	}
	t.Errors[code] += n
}

// clone shares nothing with t: the copy is written while t goes on.
func (t *Tally) clone() Tally {
	c := *t
	c.Errors = maps.Clone(t.Errors)
	c.Usage = maps.Clone(t.Usage)
	for model, counters := range c.Usage {
		c.Usage[model] = maps.Clone(counters)
	}
	return c
}

// End is what Run keeps of an outcome. The reply itself stays with the caller, which carries the actions out, until it is saved.
type End struct {
	Index int
	Kind  jobs.Kind
	Code  string // of the error
	Usage Usage
	Bytes int  // of the reply
	Unrun bool // the batch itself ended it: there is no other reply
}
