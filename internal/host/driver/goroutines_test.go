package driver

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
)

func TestGoroutinesAreUsedAgainAndEndWithTheWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		work, end := context.WithCancel(t.Context())
		all := &Drivers{Work: work, Goroutines: &Goroutines{}}
		idle := func() int {
			all.Goroutines.mu.Lock()
			defer all.Goroutines.mu.Unlock()
			return len(all.Goroutines.idle)
		}
		var ends sync.WaitGroup
		all.Goroutines.Go(work, &ends, func() {})
		synctest.Wait()
		all.Goroutines.Go(work, &ends, func() {})
		synctest.Wait()
		if got := idle(); got != 1 {
			t.Errorf("%d goroutines are idle after two tasks, one after the other: expected 1", got)
		}
		hold := make(chan struct{})
		for range 2 * mostIdle {
			all.Goroutines.Go(work, &ends, func() { <-hold })
		}
		synctest.Wait()
		if got := idle(); got != 0 {
			t.Errorf("%d goroutines are idle while all run: expected 0", got)
		}
		close(hold)
		ends.Wait()
		synctest.Wait()
		if got := idle(); got != mostIdle {
			t.Errorf("%d goroutines are idle: expected %d", got, mostIdle)
		}
		end()
		all.Wait()
		if got := idle(); got != 0 {
			t.Errorf("%d goroutines are left after the end of the work: expected 0", got)
		}
		ran := false
		all.Goroutines.Go(work, &ends, func() { ran = true })
		ends.Wait()
		if !ran {
			t.Error("a task after the end of the work has not run")
		}
	})
}
