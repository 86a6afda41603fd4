package breakers

import (
	"github.com/dspex/dspex/internal/breaker"
	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/stream"
)

// The failures in a row of a language model are counted by all hosts together, so that its breaker is one. A failure is written
// to dspex_control by compare-and-set; a success is only where failures are counted there, and sets them back. While all is well
// nobody writes anything. Of a failure and a success at the same time the success counts: fewer failures in a row.

// count is what a host has counted since it last wrote.
type count struct {
	cleared  bool // first a success
	failures int  // then this many failures
	last     *control.LastFailure
}

// then is the count after one more event. A breaker that opens or closes ends the count.
func (c count) then(e breaker.Event) count {
	if e.Change != breaker.Counted {
		return count{cleared: true}
	}
	c.failures++
	c.last = e.Info.LastFailure
	return c
}

// over is the count of both, c after the earlier one.
func (c count) over(earlier count) count {
	if c.cleared {
		return c
	}
	c.cleared = earlier.cleared
	c.failures += earlier.failures
	if c.last == nil {
		c.last = earlier.last
	}
	return c
}

// onto is how many failures in a row there are when the count is added to what is stored.
func (c count) onto(stored int) int {
	if c.cleared {
		return c.failures
	}
	return stored + c.failures
}

// sums are the failures in a row that are stored, by name of the breaker.
type sums map[string]int

func (s sums) set(name string, failures int) {
	if failures == 0 {
		delete(s, name)
		return
	}
	s[name] = failures
}

// failuresIn reads a stored count; what cannot be read counts nothing.
func failuresIn(e stream.Entry) int {
	if !e.Exists {
		return 0
	}
	count, err := control.ParseOpenBreaker(e.Value)
	if err != nil {
		return 0
	}
	return max(count.Failures, 0)
}
