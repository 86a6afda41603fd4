package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/dspex/dspex/internal/jobs"
)

// TotalsKey is the key in dspex_control of what hosts have counted: a host that restarts counts from zero.
const TotalsKey = "totals"

// Counts are what a host counts since it started.
type Counts struct {
	Requests  int64 `json:"requests"`
	Errors    int64 `json:"errors"`
	RunMillis int64 `json:"run_ms"`
	Hits      int64 `json:"hits"`
	Misses    int64 `json:"misses"`
	Moves     int64 `json:"moves"`
}

func (c Counts) plus(o Counts) Counts {
	return Counts{c.Requests + o.Requests, c.Errors + o.Errors, c.RunMillis + o.RunMillis, c.Hits + o.Hits, c.Misses + o.Misses, c.Moves + o.Moves}
}

func (c Counts) most(o Counts) Counts {
	return Counts{max(c.Requests, o.Requests), max(c.Errors, o.Errors), max(c.RunMillis, o.RunMillis), max(c.Hits, o.Hits), max(c.Misses, o.Misses), max(c.Moves, o.Moves)}
}

func (c Counts) valid() bool {
	return min(c.Requests, c.Errors, c.RunMillis, c.Hits, c.Misses, c.Moves) >= 0
}

// Incarnation is what one process of a host has counted.
type Incarnation struct {
	Counts
	Host    string `json:"host"`
	Started int64  `json:"started"` // unix ms, by the broker's clock
}

// Totals are what all processes of all hosts have counted. Of each the largest counts are kept, so that two of them can be put together
// in any order; the earliest incarnations are added up in Past once there are many.
type Totals struct {
	Past         Counts                 `json:"past"`
	Until        int64                  `json:"until"` // incarnations that started until then and are not in Incarnations are in Past
	Incarnations map[string]Incarnation `json:"lives"` // by id
}

// mostIncarnations is how many incarnations of hosts that are gone are kept apart. mostTotals bounds what is accepted of a value.
const (
	mostIncarnations = 256
	mostTotals       = 20_000
)

// Note takes what a host reports, and reports whether that is news.
func (t *Totals) Note(b Heartbeat) bool {
	known, there := t.Incarnations[b.Incarnation]
	if b.Incarnation == "" || !there && (b.Started <= t.Until || len(t.Incarnations) >= mostTotals) {
		return false
	}
	now := known.most(Counts{max(b.Requests, 0), max(b.Errors, 0), max(b.RunMillis, 0), max(b.Hits, 0), max(b.Misses, 0), max(b.Moves, 0)})
	if there && now == known.Counts {
		return false
	}
	if t.Incarnations == nil {
		t.Incarnations = map[string]Incarnation{}
	}
	t.Incarnations[b.Incarnation] = Incarnation{now, b.Host, b.Started}
	return true
}

// Merge takes what another dispatcher has written, and reports whether it lacks something that is known here.
func (t *Totals) Merge(o Totals) (more bool) {
	if o.Until > t.Until {
		t.Past, t.Until = o.Past, o.Until
		for incarnation, l := range t.Incarnations {
			if _, there := o.Incarnations[incarnation]; !there && l.Started <= o.Until {
				delete(t.Incarnations, incarnation)
			}
		}
	}
	if t.Incarnations == nil {
		t.Incarnations = map[string]Incarnation{}
	}
	for incarnation, l := range o.Incarnations {
		known, there := t.Incarnations[incarnation]
		if !there && l.Started <= t.Until && o.Until < t.Until {
			continue // it is in Past
		}
		more = more || there && known.most(l.Counts) != l.Counts
		l.Counts = l.most(known.Counts)
		t.Incarnations[incarnation] = l
	}
	return more || t.Until > o.Until || len(t.Incarnations) > len(o.Incarnations)
}

// Fold adds the earliest incarnations up, beyond the bound; those of live hosts stay.
func (t *Totals) Fold(alive func(incarnation string) bool) {
	var gone []string
	for incarnation := range t.Incarnations {
		if !alive(incarnation) {
			gone = append(gone, incarnation)
		}
	}
	slices.SortFunc(gone, func(a, b string) int {
		return int(min(max(t.Incarnations[a].Started-t.Incarnations[b].Started, -1), 1))
	})
	for _, incarnation := range gone[:max(len(gone)-mostIncarnations, 0)] {
		l := t.Incarnations[incarnation]
		t.Past, t.Until = t.Past.plus(l.Counts), max(t.Until, l.Started)
		delete(t.Incarnations, incarnation)
	}
}

// Sum is what all have counted.
func (t *Totals) Sum() Counts {
	sum := t.Past
	for _, l := range t.Incarnations {
		sum = sum.plus(l.Counts)
	}
	return sum
}

// ParseTotals reads the value of TotalsKey.
func ParseTotals(value []byte) (t Totals, err error) {
	if err := json.Unmarshal(value, &t); err != nil {
		return Totals{}, fmt.Errorf("totals: %w", err)
	}
	valid := t.Past.valid() && len(t.Incarnations) <= mostTotals
	for incarnation, l := range t.Incarnations {
		valid = valid && l.valid() && incarnation != "" && jobs.ValidSession(l.Host)
	}
	if !valid {
		return Totals{}, errors.New("totals must be as a dispatcher writes them")
	}
	return t, nil
}
