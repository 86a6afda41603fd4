package clock

import (
	"slices"
	"time"
)

// Mono is a moment of a machine's monotonic clock: the time since some moment before the process began to look.
type Mono = time.Duration

// estimate is what observations of the broker's clock come to. Each reports that the broker read stamp between two moments of the
// monotonic clock here. Nothing in it reads a clock: it is pure.
type estimate struct {
	eras   []era         // the oldest first; none before the first observation
	sure   Mono          // the latest observation began here
	within time.Duration // it may be off by so much
	steps  int           // that were found
}

// era is a time in which the broker's clock ran without a step.
type era struct {
	from   Mono  // it began then at the earliest: what was observed last before still fitted the era before
	found  Mono  // and was detected then
	offset int64 // unix ns of the broker, less ns of the monotonic clock
}

const (
	// stepLeast is what counts as a step, beyond what the observation before may have been wrong by; less is drift, and is followed in
	// its era.
	stepLeast = 500 * time.Millisecond
	// mostEras bounds the steps that are kept: two brokers that take turns once a minute need them for half an hour.
	mostEras = 64
	// slack is how much later than the clock's reading a stamp may be and still belong to its era.
	slack = 250 * time.Millisecond
)

// observe takes an answer of the broker: the request was sent at before, the answer arrived at after. It returns by how much the broker's
// clock has stepped against the monotonic one, 0 if it has not.
func (e *estimate) observe(stamp time.Time, before, after Mono) (step time.Duration) {
	low, high := stamp.UnixNano()-int64(after), stamp.UnixNano()-int64(before)
	if len(e.eras) == 0 {
		e.eras = []era{{from: before, found: before, offset: low + (high-low)/2}}
		e.sure, e.within = before, time.Duration(high-low)
		return 0
	}
	if before < e.sure { // overtaken by a later one
		return 0
	}
	last := &e.eras[len(e.eras)-1]
	nearest := min(max(last.offset, low), high)
	if moved := time.Duration(nearest - last.offset); moved.Abs() >= stepLeast+e.within {
		step = moved
		e.steps++
		e.eras = append(e.eras, era{from: e.sure, found: after, offset: low + (high-low)/2})
		if len(e.eras) > mostEras {
			e.eras = slices.Delete(e.eras, 0, 1)
		}
	} else {
		last.offset = nearest
	}
	e.sure, e.within = before, time.Duration(high-low)
	return step
}

// at is what the broker's clock shows at a moment of the latest era.
func (e *estimate) at(m Mono) time.Time {
	return time.Unix(0, e.eras[len(e.eras)-1].offset+int64(m))
}

// age is how long before now the broker has stamped, steps of its clock left out. Where a stamp can be read in two ways, as after a
// step back, it is as young as it can be.
func (e *estimate) age(stamp time.Time, now Mono) time.Duration {
	read := func(i int) Mono { return Mono(stamp.UnixNano() - e.eras[i].offset) }
	over := func(i int) bool {
		return i+1 < len(e.eras) && read(i) > e.eras[i+1].found+slack || i+1 == len(e.eras) && read(i) > now+slack
	}
	for i, era := range slices.Backward(e.eras) {
		if !over(i) && (i == 0 || read(i) >= era.from-slack) {
			return max(now-read(i), 0)
		}
	}
	for i := len(e.eras) - 2; i >= 0; i-- {
		if over(i) && !over(i+1) { // no clock showed it: it fell into the step between the two
			return max(now-e.eras[i+1].from, 0)
		}
	}
	return 0 // of an era that was not detected yet
}
