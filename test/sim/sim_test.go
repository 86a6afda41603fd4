package sim

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats-server/v2/server/ats"

	"github.com/dspex/dspex/internal/wire"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "run this one seed and print its history if it fails")
	seedsFlag = flag.Int("seeds", 24, "how many seeds to run")
	fromFlag  = flag.Uint64("from", 1, "the first seed")
	dumpFlag  = flag.Bool("dump", false, "print the history of every seed")
)

func decodeReply(body string, r *reply) error { return wire.Decode([]byte(body), r) }

// sleep is for what runs in a bubble: fake time passes.
func sleep(d time.Duration) { time.Sleep(d) }

// storeDir is on tmpfs where there is one: the simulation waits for fsync.
func storeDir(t *testing.T, seed uint64) string {
	dir := filepath.Join("/dev/shm", fmt.Sprintf("dspex-sim-%d-%d", os.Getpid(), seed))
	if os.Mkdir(dir, 0o700) != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// stuckAfter is real time. A bubble whose fake time stands still, because a goroutine waits for a lock, is not seen as a deadlock.
const stuckAfter = 60 * time.Second

// simulate plays one seed in a bubble of its own and returns its history and the violations.
func simulate(t *testing.T, seed uint64) (w *world, bad []string) {
	ats.Register() // outside, or a goroutine of the server stops fake time
	defer ats.Unregister()
	dir, today := storeDir(t, seed), time.Now()
	watchdog := time.AfterFunc(stuckAfter, func() {
		stacks := make([]byte, 4<<20)
		fmt.Printf("seed %d is stuck\n%s\n", seed, stacks[:runtime.Stack(stacks, true)])
		os.Exit(3)
	})
	defer watchdog.Stop()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(today)) // a bubble starts in the year 2000; the file store reads the real clock
		w = newWorld(makePlan(seed), dir)
		if err := w.run(); err != nil {
			bad = append(bad, "the simulation itself: "+err.Error())
		}
	})
	runtime.GC() // twice: empties the timer pool of nats.go, which must not reach the next bubble
	runtime.GC()
	return w, append(bad, check(w.history, w.plan.idle)...)
}

func TestEveryPromiseHoldsUnderFaults(t *testing.T) {
	from, n := *fromFlag, *seedsFlag
	if *seedFlag != 0 {
		from, n = *seedFlag, 1
	}
	for seed := from; seed < from+uint64(n); seed++ {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			w, bad := simulate(t, seed)
			if *dumpFlag || len(bad) > 0 && *seedFlag != 0 {
				fmt.Printf("%s\n", w.history.dump())
			}
			if len(bad) > 0 {
				t.Errorf("%s\nreproduce: go test ./test/sim -run TestEveryPromiseHoldsUnderFaults -seed %d", strings.Join(bad, "\n"), seed)
			}
		})
	}
}
