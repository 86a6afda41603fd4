package breakers

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspex/dspex/internal/breaker"
	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/stream"
)

// follower is a host that only reads of breakers.
func follower() *Shared {
	s := New("h1", breaker.Config{}, func(breaker.Change) {})
	s.Open(&stream.Access{Log: slog.New(slog.DiscardHandler), Clock: &stream.Clock{Clock: clock.New(nil)}})
	s.began = 0
	return s
}

func entryOf(name string, rev uint64, at time.Time) (string, stream.Entry) {
	return control.BreakerKey(name), stream.Entry{Value: control.OpenBreaker{Name: name, Host: "h2", Failures: 5}.Bytes(), Revision: rev, Stored: at, Exists: true}
}

func (s *Shared) stateOf(name string) (breaker.State, time.Duration) {
	for _, i := range s.Infos() {
		if i.Name == name {
			return i.State, time.Duration(i.TimeUntilRetry) * time.Millisecond
		}
	}
	return "", 0
}

func TestAnEntryCountsOnceAndAnOldOneForWhatIsLeftOfItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Hour)
		h := follower()
		expect := func(name string, state breaker.State, left time.Duration) {
			t.Helper()
			if s, d := h.stateOf(name); s != state || d != left {
				t.Errorf("%s is %s for %v, expected %s for %v", name, s, d, state, left)
			}
		}
		h.follow(entryOf("lm.old", 3, time.Now().Add(-45*time.Second)))
		h.follow(entryOf("lm.ancient", 4, time.Now().Add(-time.Hour)))
		h.follow(entryOf("lm.early", 5, time.Now().Add(time.Hour))) // another clock is nobody's measure
		expect("lm.old", breaker.Open, 15*time.Second)
		expect("lm.early", breaker.Open, time.Minute)
		time.Sleep(time.Millisecond)
		expect("lm.ancient", breaker.HalfOpen, 0)
		time.Sleep(10 * time.Second)
		h.follow(entryOf("lm.new", 6, time.Now().Add(-5*time.Second))) // received late, but stored since the host started
		expect("lm.new", breaker.Open, time.Minute)
		time.Sleep(time.Minute + time.Millisecond)
		h.follow(entryOf("lm.new", 6, time.Now())) // a watch that begins again delivers it once more
		expect("lm.new", breaker.HalfOpen, 0)
		h.follow(entryOf("lm.new", 7, time.Now()))
		expect("lm.new", breaker.Open, time.Minute)
		h.follow(control.BreakerKey("lm.new"), stream.Entry{Revision: 8})
		expect("lm.new", breaker.Closed, 0)
		h.follow(control.BreakerKey("lm.new"), stream.Entry{Value: []byte("{"), Revision: 9, Exists: true})
		expect("lm.new", breaker.Closed, 0)
	})
}

func TestBreakersOfOtherHostsAreTheirsAndThoseOfAnEarlierProcessEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Hour)
		h := follower()
		h.follow(entryOf("pool.h2", 1, time.Now()))
		h.follow(entryOf("pool.h1", 2, time.Now().Add(-time.Second)))
		if s, _ := h.stateOf("pool.h2"); s != "" {
			t.Errorf("the breaker of another host is %s here", s)
		}
		if s, _ := h.stateOf("pool.h1"); s != breaker.Closed {
			t.Errorf("the workers of an earlier process have made the breaker %s", s)
		}
		if e := h.take()["pool.h1"]; e.Change != breaker.Shut {
			t.Errorf("the entry is to be deleted: %+v", e)
		}
		h.follow(entryOf("start.h1", 3, time.Now()))
		if s, _ := h.stateOf("start.h1"); s != breaker.Open {
			t.Errorf("its own breaker is %s", s)
		}
	})
}
