package host_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/stream"
)

func TestAHostWhoseWorkersFailLeavesAnonymousJobsToOthersWhileThereAreAny(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		defer y.anotherHost("h2")()
		open := func(host string) {
			name := control.PoolBreaker(host)
			y.put(stream.Control, control.BreakerKey(name), control.OpenBreaker{Name: name, Host: host, Failures: 5}.Bytes())
			y.pass(100 * time.Millisecond) // the hosts have received it; what h1 has requested before comes to it yet
		}
		open("h1")
		for n := range 40 {
			if r := y.call("dspex.rpc.anonymous", "", echo); !r.OK {
				t.Fatalf("call %d: %+v", n, r)
			}
		}
		open("h2")
		began := time.Now()
		if r := y.call("dspex.rpc.anonymous", "", echo); r.Error.Code != "breaker_open" || time.Since(began) > time.Second {
			t.Errorf("all workers fail: %+v after %v", r, time.Since(began))
		}
	})
}

func TestWhileInteractiveJobsWaitBatchJobsRunOneAtATime(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		var mu sync.Mutex
		running, most, pressed := 0, 0, false
		batch := func(by int) {
			mu.Lock()
			defer mu.Unlock()
			running += by
			if pressed && by > 0 {
				most = max(most, running)
			}
		}
		y.script(func(_ context.Context, c frame.CallBody) (frame.Frame, error, bool) {
			if strings.HasPrefix(c.Job, "batch") {
				batch(1)
				defer batch(-1)
			}
			time.Sleep(time.Second)
			return frame.Frame{}, nil, false
		})
		for n := range 100 {
			y.store("dspex.anonymous.batch", fmt.Sprint("batch_", n), echo)
		}
		for n := range 60 {
			y.store("dspex.anonymous.interactive", fmt.Sprint("now_", n), echo)
		}
		y.pass(2 * time.Second) // what ran before has ended
		mu.Lock()
		pressed = true
		mu.Unlock()
		y.pass(4 * time.Second)
		mu.Lock()
		pressed = false
		mu.Unlock()
		if most > 1 {
			t.Errorf("%d batch jobs ran at a time", most)
		}
		y.end("", "now_59")
		if e := y.end("", "batch_99"); e.Outcome != "succeeded" {
			t.Errorf("%+v", e)
		}
	})
}
