package stream

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestReadsWaitForEachOtherBeyondTheirBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewReads()
		var mu sync.Mutex
		under, most := 0, 0
		count := func(n int) {
			mu.Lock()
			defer mu.Unlock()
			under += n
			most = max(most, under)
		}
		for range 3 * mostReads {
			go func() {
				_, err := r.one(t.Context(), func() (Stored, error) {
					count(1)
					time.Sleep(time.Second)
					count(-1)
					return Stored{}, nil
				})
				if err != nil {
					t.Error(err)
				}
			}()
		}
		synctest.Wait()
		bounded, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		if _, err := r.one(bounded, func() (Stored, error) { return Stored{}, nil }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who waits for its turn got %v", err)
		}
		time.Sleep(3 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		if most != mostReads {
			t.Errorf("%d reads at once, want %d", most, mostReads)
		}
		if _, err := (*Reads)(nil).one(t.Context(), func() (Stored, error) { return Stored{}, nil }); err != nil {
			t.Error(err)
		}
	})
}
