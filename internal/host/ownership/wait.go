package ownership

import (
	"context"
	"time"
)

// Wait returns when ctx ends, c is ready or d is over; a d of 0 has no end.
func Wait(ctx context.Context, c <-chan struct{}, d time.Duration) {
	var due <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
	case <-c:
	case <-due:
	}
}
