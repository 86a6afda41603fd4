package host

import (
	"context"
	"errors"
	"sync"

	"github.com/dspex/dspex/internal/breaker"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// The failures in a row of a language model are counted by all hosts together, so that its breaker is one. A failure is written
// to dspex_control by compare-and-set; a success is only where failures are counted there, and sets them back. While all is well
// nobody writes anything. Of a failure and a success at the same time the success counts: fewer failures in a row.

// tally is what a host has counted since it last wrote.
type tally struct {
	cleared  bool // first a success
	failures int  // and then so many failures
	last     *jobs.LastFailure
}

// then is the tally after one more event. A breaker that opens or closes ends the count.
func (t tally) then(e breaker.Event) tally {
	if e.Change != breaker.Counted {
		return tally{cleared: true}
	}
	t.failures++
	t.last = e.Info.LastFailure
	return t
}

// over is the tally of both, t after the earlier one.
func (t tally) over(earlier tally) tally {
	if t.cleared {
		return t
	}
	t.cleared = earlier.cleared
	t.failures += earlier.failures
	if t.last == nil {
		t.last = earlier.last
	}
	return t
}

// onto is how many failures in a row there are when the tally is added to what is stored.
func (t tally) onto(stored int) int {
	if t.cleared {
		return t.failures
	}
	return stored + t.failures
}

// mostSums bounds the language models whose failures are stored: clients choose their names. The failures of others count on
// their own host only.
const mostSums = 256

// forget drops what was counted of a breaker that an operator has reset.
func (o *outages) forget(name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.tallies, name)
}

func (o *outages) takeTallies() map[string]tally {
	o.mu.Lock()
	defer o.mu.Unlock()
	taken := o.tallies
	o.tallies = map[string]tally{}
	return taken
}

// keepTally keeps what could not be shared, before what was counted since.
func (o *outages) keepTally(name string, t tally) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tallies[name] = o.tallies[name].over(t)
}

// tallyOf is what was counted and not shared.
func (o *outages) tallyOf(name string) tally {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.tallies[name]
}

// shareTallies writes what was counted here. It reports false if some of it is to be tried again.
func (h *Host) shareTallies(ctx context.Context) bool {
	shared := true
	for name, t := range h.outages.takeTallies() {
		if err := h.shareTally(ctx, name, t); err != nil {
			h.log.Warn("failures_not_shared", "breaker", name, "error", err)
			h.outages.keepTally(name, t)
			shared = false
		}
	}
	return shared
}

func (h *Host) shareTally(ctx context.Context, name string, t tally) error {
	o, key := &h.outages, jobs.FailureKey(name)
	for range tries {
		have := o.sums[name]
		next := t.onto(have)
		if next == have || have == 0 && len(o.sums) >= mostSums {
			return nil
		}
		var rev uint64
		var err error
		if next == 0 {
			rev, err = h.control.Delete(key, o.revs[key])
		} else {
			rev, err = h.control.PutSync(key, jobs.OpenBreaker{Name: name, Host: h.cfg.Name, Failures: next, Last: t.last}.Bytes(), o.revs[key], 0)
		}
		if err == nil {
			o.revs[key] = rev
			o.setSum(name, next)
			h.breakers.LearnFailures(name, o.tallyOf(name).onto(next), t.last)
			return nil
		}
		if !errors.Is(err, stream.ErrWrongRevision) {
			return err
		}
		entry, err := h.control.Get(ctx, key)
		if err != nil {
			return err
		}
		o.revs[key] = entry.Revision
		o.setSum(name, failuresIn(entry))
	}
	return stream.ErrWrongRevision
}

func (o *outages) setSum(name string, failures int) {
	if failures == 0 {
		delete(o.sums, name)
		return
	}
	o.sums[name] = failures
}

// failuresIn reads a stored count; what cannot be read counts nothing.
func failuresIn(e stream.Entry) int {
	if !e.Exists {
		return 0
	}
	count, err := jobs.ParseOpenBreaker(e.Value)
	if err != nil {
		return 0
	}
	return max(count.Failures, 0)
}

// learnSum applies a count that another host has written.
func (h *Host) learnSum(name string, e stream.Entry) {
	if !jobs.BreakerOfAll(name) {
		return
	}
	h.outages.setSum(name, failuresIn(e))
	var last *jobs.LastFailure
	if count, err := jobs.ParseOpenBreaker(e.Value); err == nil {
		last = count.Last
	}
	h.breakers.LearnFailures(name, h.outages.tallyOf(name).onto(h.outages.sums[name]), last)
}

// ends are the ends of workers, and the failed starts, that have been counted: one is one failure, whoever was in it or waited.
type ends struct {
	mu      sync.Mutex
	workers map[uint64]bool
	start   error
}

// mostEnds bounds the workers that are remembered; who comes so late counts once more.
const mostEnds = 1024

// first reports whether the end of a worker is news.
func (e *ends) first(worker uint64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.workers == nil || len(e.workers) >= mostEnds {
		e.workers = map[uint64]bool{}
	}
	seen := e.workers[worker]
	e.workers[worker] = true
	return !seen
}

// firstStart reports whether a failed start is news.
func (e *ends) firstStart(cause error) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	seen := cause != nil && errors.Is(e.start, cause)
	e.start = cause
	return !seen
}
