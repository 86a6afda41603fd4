package clock

import "time"

// Step is one step of the broker's clock, as a process that was there has seen it. Both times are by the clock behind the step.
type Step struct {
	From  time.Time     // it came then at the earliest
	Found time.Time     // and was detected then
	By    time.Duration // how far the clock went
}

// Steps are those that are known, the oldest first.
func (c *Clock) Steps() []Step {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.e.recorded()
}

// AddSteps takes the steps before the first observation, the oldest first, from a process that ran then. What was stamped before them
// is as old as it is to them. It is for the start, before anything is judged.
func (c *Clock) AddSteps(steps []Step) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.e.eras) == 1 {
		c.e.merge(steps)
	}
}

func (e *estimate) recorded() (steps []Step) {
	for i := 1; i < len(e.eras); i++ {
		at := func(m Mono) time.Time { return time.Unix(0, e.eras[i].offset+int64(m)) }
		steps = append(steps, Step{at(e.eras[i].from), at(e.eras[i].found), time.Duration(e.eras[i].offset - e.eras[i-1].offset)})
	}
	return steps
}

// merge goes back from the one era that was seen.
func (e *estimate) merge(steps []Step) {
	steps = steps[max(len(steps)-mostEras+1, 0):]
	eras := make([]era, len(steps)+1)
	eras[len(steps)] = e.eras[0]
	for i := len(steps); i > 0; i-- {
		s, offset := steps[i-1], eras[i].offset
		eras[i].from, eras[i].found = Mono(s.From.UnixNano()-offset), Mono(s.Found.UnixNano()-offset)
		eras[i-1].offset = offset - int64(s.By)
	}
	e.eras = eras
}

// Merge is what is known of the steps when somebody has seen some of them, and more; false: they were known. The latest are kept.
func Merge(known, seen []Step) (all []Step, more bool) {
	all = append(all, known...)
	for _, s := range seen {
		if !has(known, s) {
			all, more = append(all, s), true
		}
	}
	return all[max(len(all)-mostEras+1, 0):], more
}

// nearly is what two processes may differ by about one step.
const nearly = time.Second

func has(list []Step, s Step) bool {
	for _, o := range list {
		if (o.By-s.By).Abs() < nearly && o.From.Before(s.Found.Add(nearly)) && s.From.Before(o.Found.Add(nearly)) {
			return true
		}
	}
	return false
}
