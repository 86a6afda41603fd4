package daemon

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/clock"
)

// Bounds of the collector. With the few megabytes that these programs hold it would run dozens of times a second under load. So it may
// let garbage come until the program has memoryGoal bytes, or garbageRoom more than what is alive.
const (
	rareCollector = 400 // percent
	memoryGoal    = 88 << 20
	garbageRoom   = 24 << 20
	goalPause     = 5 * time.Second
)

// Tune fits Go's runtime to programs that pass small messages on beside others that need the processors more. Variables of Go
// that are set win. stop ends what goes on for it.
func Tune(env func(string) string) (stop func()) {
	if env("GOMAXPROCS") == "" {
		// Half of them: the rest is for Python and the broker. A woken processor that finds nothing to do costs more than it
		// brings; with one of two, jobs took a tenth less.
		runtime.GOMAXPROCS(max(1, runtime.GOMAXPROCS(0)/2))
	}
	if env("GOGC") != "" || env("GOMEMLIMIT") != "" {
		return func() {}
	}
	debug.SetGCPercent(rareCollector)
	debug.SetMemoryLimit(memoryGoal)
	ctx, cancel := context.WithCancel(context.Background())
	var follows sync.WaitGroup
	follows.Go(func() { followHeap(ctx) })
	return func() {
		cancel()
		follows.Wait()
	}
}

// followHeap moves the limit along with what is alive: a limit below that would have the collector run all the time.
func followHeap(ctx context.Context) {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	for range clock.Every(ctx, goalPause) {
		metrics.Read(live)
		debug.SetMemoryLimit(max(memoryGoal, int64(live[0].Value.Uint64())+garbageRoom))
	}
}
