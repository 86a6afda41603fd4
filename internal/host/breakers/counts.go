package breakers

import (
	"context"
	"errors"

	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/stream"
)

// mostSums bounds the language models whose failures are stored: clients choose their names. The failures of others count on
// their own host only.
const mostSums = 256

// forget removes what was counted of a breaker that an operator has reset.
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
			s.SetFailures(name, s.countOf(name).onto(next), c.last)
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

// readSum applies a count that another host has written.
func (s *Shared) readSum(name string, e stream.Entry) {
	if !control.BreakerOfAll(name) {
		return
	}
	s.sums.set(name, failuresIn(e))
	var last *control.LastFailure
	if count, err := control.ParseOpenBreaker(e.Value); err == nil {
		last = count.Last
	}
	s.SetFailures(name, s.countOf(name).onto(s.sums[name]), last)
}
