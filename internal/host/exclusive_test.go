package host_test

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dspex/dspex/internal/frame"
)

func TestAnExclusiveCommandHasItsWorkerToItself(t *testing.T) {
	y := start(t, t.TempDir())
	var inside, others, solo atomic.Int64
	y.pool.mu.Lock()
	y.pool.hook = func(_ context.Context, c frame.CallBody) (frame.Frame, error, bool) {
		inside.Add(1)
		defer inside.Add(-1)
		if c.Command == "alone" {
			solo.Add(1)
			if n := inside.Load(); n != 1 || y.pool.Free() != 0 {
				others.Add(1)
			}
		}
		return frame.Frame{}, nil, false
	}
	y.pool.mu.Unlock()
	var wg sync.WaitGroup
	for n := range 40 {
		command := map[bool]string{true: "alone", false: "append"}[n%4 == 0]
		subject := "dspex.rpc.session.s" + strconv.Itoa(n)
		if n%8 == 0 {
			subject = "dspex.rpc.anonymous"
		}
		wg.Go(func() {
			if r := y.callFor(subject, "", `{"command":"`+command+`","options":{"deadline":"10m"}}`, 10*time.Minute); !r.OK {
				t.Errorf("%s: %+v", command, r)
			}
		})
	}
	wg.Wait()
	if solo.Load() != 10 || others.Load() != 0 || y.pool.Free() != 8 {
		t.Errorf("%d ran alone, %d of them with others; %d of 8 slots are free at the end", solo.Load(), others.Load(), y.pool.Free())
	}
}
