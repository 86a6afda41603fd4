package pyproc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspex/dspex/internal/fair"
)

func TestCheckoutPrefersThenBalances(t *testing.T) {
	inBubble(t, Config{Size: 2}, nil, func(t *testing.T, b *bench) {
		first := b.take(0)
		if second := b.take(0); second.WorkerID() == first.WorkerID() {
			t.Error("got the busy worker, want the idle one")
		}
		for range 3 {
			if s := b.take(first.WorkerID()); s.WorkerID() != first.WorkerID() {
				t.Errorf("got worker %d, want the preferred %d", s.WorkerID(), first.WorkerID())
			}
		}
		if s := b.take(first.WorkerID()); s.WorkerID() == first.WorkerID() {
			t.Error("got a fifth slot of a worker with four")
		}
		if got := b.Free(); got != 2 {
			t.Errorf("free: got %d, want 2", got)
		}
		if s := b.take(987654321); s.WorkerID() == first.WorkerID() || s.WorkerID() == 0 {
			t.Error("an unknown preference must lead to the least loaded worker")
		}
	})
}

// order lets n goroutines wait for a slot one after the other and records who got one when.
func order(b *bench, n int, ctxOf func(i int) context.Context, opts func(i int) []Option) <-chan string {
	got := make(chan string, n)
	for i := range n {
		go func() {
			s, err := b.Checkout(ctxOf(i), 0, opts(i)...)
			if err != nil {
				got <- fmt.Sprintf("%d failed", i)
				return
			}
			got <- fmt.Sprint(i)
			s.Release()
		}()
		synctest.Wait()
	}
	return got
}

func TestCheckoutWaitsInOrderOfArrival(t *testing.T) {
	inBubble(t, Config{}, []string{"slots 1"}, func(t *testing.T, b *bench) {
		held := b.take(0)
		got := order(b, 5, func(int) context.Context { return t.Context() }, func(int) []Option { return nil })
		if st := b.Stats(); st.Waiting != 5 || st.Active != 1 || st.Available != 0 {
			t.Errorf("got %+v, want 5 waiting, 1 active, 0 available", st)
		}
		held.Release()
		held.Release() // does nothing
		for i := range 5 {
			if s := <-got; s != fmt.Sprint(i) {
				t.Errorf("got %s, want %d", s, i)
			}
		}
		synctest.Wait()
		if b.Free() != 1 {
			t.Errorf("free: got %d, want 1", b.Free())
		}
	})
}

func TestCheckoutServesByTurn(t *testing.T) {
	turns := []fair.Key{{Class: fair.Queued, Tenant: "crowd"}, {Class: fair.Queued, Tenant: "crowd"}, {Class: fair.Queued, Tenant: "single"},
		{Class: fair.Call, Tenant: "crowd"}, {Class: fair.Call, Tenant: "crowd", Fresh: true}}
	inBubble(t, Config{}, []string{"slots 1"}, func(t *testing.T, b *bench) {
		held := b.take(0)
		got := order(b, len(turns), func(int) context.Context { return t.Context() }, func(i int) []Option { return []Option{Turn(turns[i])} })
		held.Release()
		var served []string
		for range turns {
			served = append(served, <-got)
		}
		if want := []string{"4", "0", "3", "2", "1"}; !slices.Equal(served, want) {
			t.Errorf("served %v, expected %v: calls share with published jobs by weight, idle ones first, tenants in turn", served, want)
		}
	})
}

func TestCheckoutSharesByTheTenantsWeights(t *testing.T) {
	inBubble(t, Config{Weights: fair.Weights{"acme": 3}}, []string{"slots 1"}, func(t *testing.T, b *bench) {
		tenants := []string{"acme", "beta"}
		acmeOf := func(n int) (acme int) {
			held := b.take(0)
			got := order(b, 2*n, func(int) context.Context { return t.Context() }, func(i int) []Option {
				return []Option{Turn(fair.Key{Class: fair.Queued, Tenant: tenants[i%2]})}
			})
			held.Release()
			for i := range 2 * n {
				if s := <-got; i < n && (s[len(s)-1]-'0')%2 == 0 {
					acme++
				}
			}
			return acme
		}
		if got := acmeOf(40); got < 29 || got > 31 {
			t.Errorf("acme had %d of 40 slots, expected 30", got)
		}
		l := b.Limits()
		l.Weights = fair.Weights{"beta": 4}
		if err := b.Adjust(l); err != nil {
			t.Fatal(err)
		}
		if got := acmeOf(40); got < 7 || got > 9 {
			t.Errorf("with other weights acme had %d of 40 slots, expected 8", got)
		}
	})
}

func TestPublishedJobsLeaveSlotsToCalls(t *testing.T) {
	published := []fair.Class{fair.Queued, fair.Batch}
	inBubble(t, Config{Size: 2}, []string{"slots 16"}, func(t *testing.T, b *bench) {
		var held []*Slot
		for n := range 30 {
			held = append(held, b.take(0, Turn(fair.Key{Class: published[n%2]})))
		}
		got := order(b, 2, func(int) context.Context { return t.Context() }, func(i int) []Option { return []Option{Turn(fair.Key{Class: published[i]})} })
		call := b.take(0) // though others wait
		if st := b.Stats(); st.Waiting != 2 || b.Free() != 1 {
			t.Fatalf("%d published jobs wait while %d slots are free, expected 2 and 1", st.Waiting, b.Free())
		}
		call.Release() // what a call had is no published job's
		synctest.Wait()
		if st := b.Stats(); st.Waiting != 2 {
			t.Fatalf("%d published jobs wait, expected 2", st.Waiting)
		}
		held[0].Release()
		for range 2 {
			<-got
		}
		for _, s := range held {
			s.Release()
		}
		synctest.Wait()
		if b.Free() != 32 {
			t.Errorf("free: got %d, want 32", b.Free())
		}
	})
}

func TestPublishedJobsRunWhereLessIsLeftThanIsForCalls(t *testing.T) {
	inBubble(t, Config{Size: 16}, []string{"slots 1", "cannot start"}, func(t *testing.T, b *bench) {
		b.take(0, Turn(fair.Key{Class: fair.Queued})).Release()
	})
}

func TestCheckoutThatGivesUpLosesNoSlot(t *testing.T) {
	inBubble(t, Config{}, []string{"slots 1"}, func(t *testing.T, b *bench) {
		held := b.take(0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := b.Checkout(ctx, 0)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the deadline", err)
		}
		// Granted and cancelled at the same moment, both orders.
		for range 200 {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				if s, err := b.Checkout(ctx, 0); err == nil {
					s.Release()
				}
			}()
			synctest.Wait()
			go cancel()
			held.Release()
			<-done
			cancel()
			held = b.take(0)
		}
		held.Release()
		if b.Free() != 1 {
			t.Errorf("free: got %d, want 1", b.Free())
		}
	})
}

func TestAloneGetsAWholeWorkerAndDoesNotStarve(t *testing.T) {
	inBubble(t, Config{Size: 2}, nil, func(t *testing.T, b *bench) {
		one, two := b.take(0), b.take(0)
		got := make(chan *Slot, 1)
		go func() { got <- b.take(two.WorkerID(), Alone) }()
		synctest.Wait()
		// New calls pass to the other worker only.
		for range 3 {
			if s := b.take(two.WorkerID()); s.WorkerID() != one.WorkerID() {
				t.Error("a reserved worker took another call")
			}
		}
		two.Release()
		whole := <-got
		if whole.WorkerID() != two.WorkerID() || b.Free() != 0 {
			t.Errorf("got worker %d with %d slots free, want %d and 0", whole.WorkerID(), b.Free(), two.WorkerID())
		}
		whole.Release()
		if b.Free() != 4 {
			t.Errorf("free: got %d, want 4", b.Free())
		}
		if !b.Exclusive("evaluate") || b.Exclusive("echo") || !one.Exclusive("evaluate") {
			t.Error("expected evaluate and only evaluate to be exclusive")
		}
	})
}

func TestAloneTakesWhicheverWorkerIsFreeFirst(t *testing.T) {
	inBubble(t, Config{Size: 2}, nil, func(t *testing.T, b *bench) {
		held := []*Slot{b.take(0), b.take(0)}
		got := make(chan *Slot, 1)
		go func() { got <- b.take(0, Alone) }()
		synctest.Wait()
		held[1].Release() // whichever it had reserved
		if whole := <-got; whole.WorkerID() != held[1].WorkerID() {
			t.Errorf("got worker %d, want the free one, %d", whole.WorkerID(), held[1].WorkerID())
		}
		held[0].Release()
	})
	inBubble(t, Config{Size: 2}, nil, func(t *testing.T, b *bench) {
		held := []*Slot{b.take(0), b.take(0)}
		got := make(chan *Slot, 1)
		go func() { got <- b.take(0, Alone) }()
		synctest.Wait()
		held[0].Release()
		if whole := <-got; whole.WorkerID() != held[0].WorkerID() {
			t.Errorf("got worker %d, want the free one, %d", whole.WorkerID(), held[0].WorkerID())
		}
		held[1].Release()
	})
}

func TestAloneThatGivesUpFreesItsReservation(t *testing.T) {
	inBubble(t, Config{}, nil, func(t *testing.T, b *bench) {
		held := b.take(0)
		ctx, cancel := context.WithCancel(t.Context())
		alone := make(chan error, 1)
		go func() { _, err := b.Checkout(ctx, 0, Alone); alone <- err }()
		synctest.Wait()
		behind := make(chan *Slot, 1)
		go func() { behind <- b.take(0) }()
		synctest.Wait()
		if len(behind) != 0 {
			t.Fatal("a call passed the waiter that has the only worker reserved")
		}
		cancel()
		if err := <-alone; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want cancelled", err)
		}
		(<-behind).Release()
		held.Release()
	})
}

func TestAloneIsServedByAnotherWorkerIfTheReservedOneDies(t *testing.T) {
	inBubble(t, Config{Size: 1}, nil, func(t *testing.T, b *bench) {
		held := b.take(0)
		got := make(chan *Slot, 1)
		go func() { got <- b.take(0, Alone) }()
		synctest.Wait()
		if _, err := held.Call(t.Context(), callBody("exit", 1), nil); err == nil {
			t.Error("expected an error from the call that kills its worker")
		}
		held.Release()
		whole := <-got
		if whole.WorkerID() == held.WorkerID() || b.Free() != 0 {
			t.Errorf("got worker %d with %d free, want a new one, whole", whole.WorkerID(), b.Free())
		}
		whole.Release()
	})
}

func TestStoppingPoolFailsTheWaitersAtOnce(t *testing.T) {
	inBubble(t, Config{}, []string{"slots 1"}, func(t *testing.T, b *bench) {
		b.take(0)
		got := make(chan error, 1)
		go func() { _, err := b.Checkout(t.Context(), 0); got <- err }()
		synctest.Wait()
		b.stop()
		if err := <-got; !errors.Is(err, ErrStopped) {
			t.Errorf("got %v, want ErrStopped", err)
		}
		if _, err := b.Checkout(t.Context(), 0); !errors.Is(err, ErrStopped) {
			t.Errorf("got %v, want ErrStopped", err)
		}
		if err := b.Ready(t.Context()); !errors.Is(err, ErrStopped) {
			t.Errorf("Ready: got %v, want ErrStopped", err)
		}
	})
}

func TestWrongConfigSaysEverything(t *testing.T) {
	err := New(Config{PingEvery: -1, MaxFrame: 1 << 30, StopGrace: -1}).Run(t.Context())
	for _, want := range []string{"Command", "Name", "Size", "PingEvery", "MaxFrame", "StopGrace"} {
		if err == nil || !containsText(err.Error(), want) {
			t.Errorf("got %v, want it to name %s", err, want)
		}
	}
}

func TestAnAvoidedWorkerIsTakenOnlyIfNoOtherHasASlot(t *testing.T) {
	inBubble(t, Config{Size: 2}, nil, func(t *testing.T, b *bench) {
		first := b.take(0)
		for n := range 4 {
			if s := b.take(first.WorkerID(), Avoid(first.WorkerName())); s.WorkerID() == first.WorkerID() {
				t.Errorf("%d: got the worker that is to be avoided", n)
			}
		}
		if s := b.take(0, Avoid(first.WorkerName())); s.WorkerID() != first.WorkerID() {
			t.Error("the avoided worker alone has a slot: got another one")
		}
	})
}
