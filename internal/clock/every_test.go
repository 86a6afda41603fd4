package clock

import (
	"context"
	"iter"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestRoundsComeAfterEachPauseUntilTheContextEnds(t *testing.T) {
	for name, c := range map[string]struct {
		every func(context.Context, time.Duration) iter.Seq[int]
		at    []time.Duration
	}{
		"every":             {Every, []time.Duration{1, 2, 3}},
		"at once and every": {AtOnceAndEvery, []time.Duration{0, 1, 2, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 3500*time.Millisecond)
				defer cancel()
				began := time.Now()
				var at []time.Duration
				for n := range c.every(ctx, time.Second) {
					if n != len(at) {
						t.Errorf("got %d, want %d", n, len(at))
					}
					at = append(at, time.Since(began)/time.Second)
				}
				if !slices.Equal(at, c.at) {
					t.Errorf("came at %v s, want %v", at, c.at)
				}
			})
		})
	}
}
