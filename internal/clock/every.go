package clock

import (
	"context"
	"iter"
	"time"
)

// Every counts pauses: it yields 0 after the first one, and so on until ctx ends. Who takes longer than a pause is not called more often
// for it.
func Every(ctx context.Context, pause time.Duration) iter.Seq[int] { return rounds(ctx, pause, false) }

// AtOnceAndEvery yields 0 at once, and then after each pause until ctx ends.
func AtOnceAndEvery(ctx context.Context, pause time.Duration) iter.Seq[int] {
	return rounds(ctx, pause, true)
}

func rounds(ctx context.Context, pause time.Duration, now bool) iter.Seq[int] {
	return func(yield func(int) bool) {
		tick := time.NewTicker(pause)
		defer tick.Stop()
		for n := 0; ; n++ {
			if n > 0 || !now {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
			}
			if !yield(n) {
				return
			}
		}
	}
}
