package pyproc

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspex/dspex/internal/pyproc/proc"
)

func (b *bench) room() (free, allowed int) {
	free, allowed, _ = b.Room()
	return free, allowed
}

func (b *bench) expectRoom(free, allowed int) {
	b.t.Helper()
	if f, a := b.room(); f != free || a != allowed {
		b.t.Errorf("room: %d free and %d allowed, want %d and %d", f, a, free, allowed)
	}
}

func TestRoomIsWhatIsFreeAndThenWhatMayBeStarted(t *testing.T) {
	inBubble(t, Config{Size: 2, Overflow: 2}, []string{"slots 1"}, func(t *testing.T, b *bench) {
		b.expectRoom(2, 0)
		held := []*Slot{b.take(0), b.take(0)}
		b.expectRoom(0, 2)
		held = append(held, b.take(0))
		b.expectRoom(0, 1)
		held = append(held, b.take(0))
		b.expectRoom(0, 0)
		_, _, changed := b.Room()
		held[0].Release()
		if !proc.IsClosed(changed) {
			t.Error("a slot came free, and nobody was told")
		}
		b.expectRoom(1, 0)
		for _, s := range held[1:] {
			s.Release()
		}
	})
}

func TestCallersWhoWaitTogetherGetTheirOverflowWorkersTogether(t *testing.T) {
	inBubble(t, Config{Size: 2, Overflow: 4}, []string{"slots 1"}, func(t *testing.T, b *bench) {
		base := []*Slot{b.take(0), b.take(0)}
		b.fake.set("never ready") // whatever starts does not come to its end
		for range 4 {
			go func() { b.Checkout(t.Context(), 0) }()
		}
		synctest.Wait()
		starting := 0
		for _, w := range b.Stats().Workers {
			if w.State == Warming {
				starting++
			}
		}
		if starting != 4 {
			t.Errorf("%d workers are starting for 4 callers, want 4", starting)
		}
		b.expectRoom(0, 0)
		for _, s := range base {
			s.Release()
		}
	})
}

func TestAnOverflowWorkerIsGoneWithinAMinuteOfIdling(t *testing.T) {
	inBubble(t, Config{Size: 1, Overflow: 1}, []string{"slots 1"}, func(t *testing.T, b *bench) {
		first, second := b.take(0), b.take(0)
		time.Sleep(5 * time.Minute) // a long burst is none of idling
		if st := b.Stats(); st.Overflow != 1 {
			t.Errorf("%d overflow workers while both are needed, want 1", st.Overflow)
		}
		second.Release()
		time.Sleep(40 * time.Second)
		if st := b.Stats(); st.Overflow != 1 {
			t.Errorf("%d overflow workers 40 s after the burst, want 1", st.Overflow)
		}
		time.Sleep(20 * time.Second)
		if st := b.Stats(); st.Overflow != 0 || len(st.Workers) != 1 {
			t.Errorf("%+v a minute after the burst, want one worker", st)
		}
		first.Release()
	})
}
