package breakers

import (
	"context"
	"errors"

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

// mostSums bounds the language models whose failures are stored: clients choose their names. The failures of others count on
// their own host only.
const mostSums = 256

// drop removes what was counted of a breaker that an operator has reset.
func (s *Shared) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.counts, name)
}

func (s *Shared) takeCounts() map[string]count {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.counts
	s.counts = map[string]count{}
	return taken
}

// keepCount keeps what could not be shared, before what was counted since.
func (s *Shared) keepCount(name string, c count) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[name] = s.counts[name].over(c)
}

// countOf is what was counted and not shared.
func (s *Shared) countOf(name string) count {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[name]
}

// shareCounts writes what was counted here. It reports false if some of it is to be tried again.
func (s *Shared) shareCounts(ctx context.Context) bool {
	shared := true
	for name, c := range s.takeCounts() {
		if err := s.shareCount(ctx, name, c); err != nil {
			s.on.Log.Warn("failures_not_shared", "breaker", name, "error", err)
			s.keepCount(name, c)
			shared = false
		}
	}
	return shared
}

func (s *Shared) shareCount(ctx context.Context, name string, c count) error {
	key := control.FailureKey(name)
	for range tries {
		have := s.sums[name]
		next := c.onto(have)
		if next == have || have == 0 && len(s.sums) >= mostSums {
			return nil
		}
		var rev uint64
		var err error
		if next == 0 {
			rev, err = s.on.Control.Delete(key, s.revs[key])
		} else {
			rev, err = s.on.Control.PutSync(key, control.OpenBreaker{Name: name, Host: s.host, Failures: next, Last: c.last}.Bytes(), s.revs[key], 0)
		}
		if err == nil {
			s.revs[key] = rev
			s.sums.set(name, next)
			s.LearnFailures(name, s.countOf(name).onto(next), c.last)
			return nil
		}
		if !errors.Is(err, stream.ErrWrongRevision) {
			return err
		}
		entry, err := s.on.Control.Get(ctx, key)
		if err != nil {
			return err
		}
		s.revs[key] = entry.Revision
		s.sums.set(name, failuresIn(entry))
	}
	return stream.ErrWrongRevision
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

// learnSum applies a count that another host has written.
func (s *Shared) learnSum(name string, e stream.Entry) {
	if !control.BreakerOfAll(name) {
		return
	}
	s.sums.set(name, failuresIn(e))
	var last *control.LastFailure
	if count, err := control.ParseOpenBreaker(e.Value); err == nil {
		last = count.Last
	}
	s.LearnFailures(name, s.countOf(name).onto(s.sums[name]), last)
}
