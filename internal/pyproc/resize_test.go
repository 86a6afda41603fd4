package pyproc

import (
	"reflect"
	"testing"
	"testing/synctest"
	"time"
)

func (b *bench) resize(size, overflow int) {
	b.t.Helper()
	l := b.Limits()
	l.Size, l.Overflow = size, overflow
	if err := b.Adjust(l); err != nil {
		b.t.Fatal(err)
	}
	synctest.Wait()
}

func TestAPoolGrowsAndShrinksAndNoCallEndsForIt(t *testing.T) {
	inBubble(t, Config{Size: 2}, []string{"slots 2"}, func(t *testing.T, b *bench) {
		b.resize(4, 0)
		if st := b.Stats(); st.Serving != 4 || st.Size != 4 {
			t.Fatalf("%d of %d workers serve, want 4 of 4", st.Serving, st.Size)
		}
		var freers []*Slot
		results := make(chan error, 3)
		for range 3 {
			s := b.take(0)
			freers = append(freers, b.take(s.WorkerID()))
			go func() { _, err := s.Call(t.Context(), callBody("hold", 0), nil); s.Release(); results <- err }()
		}
		synctest.Wait()
		b.resize(1, 0) // the idle one leaves at once, two of the busy ones after their calls
		if st := b.Stats(); st.Serving != 1 || st.Active != 6 {
			t.Errorf("%d workers serve and %d slots are taken, want 1 and the 6 from before: %+v", st.Serving, st.Active, st)
		}
		next := make(chan *Slot, 1)
		go func() { s, _ := b.Checkout(t.Context(), 0); next <- s }()
		synctest.Wait()
		for _, s := range freers {
			if _, err := s.Call(t.Context(), callBody("free", 0), nil); err != nil {
				t.Errorf("a call in a worker that leaves: %v", err)
			}
			if err := <-results; err != nil {
				t.Errorf("a call that ran while the pool shrank: %v", err)
			}
			s.Release()
		}
		(<-next).Release()
		synctest.Wait()
		if st := b.Stats(); st.Serving != 1 || len(st.Workers) != 1 || st.Active != 0 {
			t.Errorf("got %+v, want one worker and nothing taken", st)
		}
		b.resize(3, 0)
		if st := b.Stats(); st.Serving != 3 {
			t.Errorf("%d workers serve after another growth, want 3", st.Serving)
		}
	})
}

func TestWorkersOfABurstAreAmongThoseOfALargerPool(t *testing.T) {
	for _, c := range []struct{ burst, size, to, overflow, want int }{
		{2, 2, 4, 2, 0}, {2, 2, 3, 2, 1}, {0, 2, 4, 2, 0}, {2, 4, 1, 2, 2}, {2, 4, 4, 1, 1}, {3, 4, 2, 0, 0},
	} {
		if got := burstAfter(c.burst, c.size, Limits{Size: c.to, Overflow: c.overflow}); got != c.want {
			t.Errorf("burst %d of %d, now %d with %d over: got %d, want %d", c.burst, c.size, c.to, c.overflow, got, c.want)
		}
	}
	inBubble(t, Config{Size: 1, Overflow: 1}, []string{"slots 1"}, func(t *testing.T, b *bench) {
		first, second := b.take(0), b.take(0)
		b.resize(2, 1)
		if n := b.fake.count(); n != 2 {
			t.Errorf("%d workers were started, want 2: the burst's is one of the pool's now", n)
		}
		first.Release()
		second.Release()
		time.Sleep(10 * time.Minute)
		if st := b.Stats(); st.Serving != 2 || st.Overflow != 0 {
			t.Errorf("got %+v, want two workers, none of a burst", st)
		}
	})
}

func TestThoseWhoWaitGetTheSlotsOfALargerPool(t *testing.T) {
	inBubble(t, Config{Size: 1}, []string{"slots 1"}, func(t *testing.T, b *bench) {
		first := b.take(0)
		got := make(chan *Slot, 1)
		go func() { s, _ := b.Checkout(t.Context(), 0); got <- s }()
		synctest.Wait()
		b.resize(2, 0)
		select {
		case s := <-got:
			s.Release()
		default:
			t.Error("the caller waits still")
		}
		first.Release()
	})
}

func TestLimitsThatAreWrongChangeNothing(t *testing.T) {
	inBubble(t, Config{Size: 2}, nil, func(t *testing.T, b *bench) {
		was := b.Limits()
		for _, l := range []Limits{{}, {Size: 0, Overflow: 1}, {Size: 1, Overflow: -1}, {Size: 1, PingEvery: -1}} {
			if err := b.Adjust(l); err == nil {
				t.Errorf("%+v were taken", l)
			}
		}
		if now := b.Limits(); !reflect.DeepEqual(now, was) {
			t.Errorf("got %+v, want %+v", now, was)
		}
		b.halt()
		if err := b.Adjust(was); err == nil {
			t.Error("a pool that has ended takes limits")
		}
	})
}

func TestAShorterPingTimeoutFindsAHangEarlier(t *testing.T) {
	inBubble(t, Config{PingEvery: time.Hour, PingLost: time.Hour}, []string{"no pong"}, func(t *testing.T, b *bench) {
		time.Sleep(30 * time.Minute)
		if n := b.fake.count(); n != 1 {
			t.Fatalf("%d starts, want 1", n)
		}
		l := b.Limits()
		l.PingEvery, l.PingLost = 500*time.Millisecond, 2*time.Second
		if err := b.Adjust(l); err != nil {
			t.Fatal(err)
		}
		time.Sleep(15 * time.Second)
		if n := b.fake.count(); n < 2 {
			t.Errorf("%d starts, want the worker that answers no PING replaced", n)
		}
	})
}
