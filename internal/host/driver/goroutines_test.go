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
		all := &Drivers{Work: work}
		idle := func() int {
			all.goroutines.mu.Lock()
			defer all.goroutines.mu.Unlock()
			return len(all.goroutines.idle)
		}
		var ends sync.WaitGroup
		all.Go(&ends, func() {})
		synctest.Wait()
		all.Go(&ends, func() {})
		synctest.Wait()
		if got := idle(); got != 1 {
			t.Errorf("%d goroutines are idle after two tasks, one after the other: expected 1", got)
		}
		hold := make(chan struct{})
		for range 2 * mostIdle {
			all.Go(&ends, func() { <-hold })
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
		all.Go(&ends, func() { ran = true })
		ends.Wait()
		if !ran {
			t.Error("a task after the end of the work has not run")
		}
	})
}
