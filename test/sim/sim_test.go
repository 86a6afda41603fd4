package sim

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats-server/v2/server/ats"

	"github.com/dspex/dspex/internal/wire"
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

// pulse counts what goes over the cables: while it beats, a bubble lives.
var pulse atomic.Uint64

// stuckAfter is real time. A bubble whose fake time stands still, because a goroutine waits for a lock, is not seen as a deadlock.
const stuckAfter = 90 * time.Second

// looks bounds how often a bubble that lives is let go on: no seed needs half of it, even on a busy machine.
const looks = 10

// watch ends the process, with all stacks, when nothing has happened for too long, or a seed does not come to its end.
func watch(seed uint64) (stop func()) {
	before, looked := pulse.Load(), 0
	var t *time.Timer
	t = time.AfterFunc(stuckAfter, func() {
		if now := pulse.Load(); now != before && looked < looks {
			before = now
			looked++
			t.Reset(stuckAfter)
			return
		}
		stacks := make([]byte, 16<<20)
		fmt.Printf("seed %d is stuck\n%s\n", seed, culpritsFirst(string(stacks[:runtime.Stack(stacks, true)])))
		os.Exit(3)
	})
	return func() { t.Stop() }
}

// culpritsFirst puts the goroutines that stop fake time, those of the bubble that no timer, channel or condition of the bubble wakes, before
// all others.
func culpritsFirst(stacks string) string {
	var first, rest []string
	for stack := range strings.SplitSeq(stacks, "\n\n") {
		head, _, _ := strings.Cut(stack, "\n")
		if strings.Contains(head, "synctest bubble") && !strings.Contains(head, "(durable)") {
			first = append(first, stack)
		} else {
			rest = append(rest, stack)
		}
	}
	return fmt.Sprintf("%d goroutines stop the clock:\n%s", len(first), strings.Join(append(first, rest...), "\n\n"))
}

// simulate plays one seed in a bubble of its own and returns its history and the violations.
func simulate(t *testing.T, seed uint64) (w *world, bad []string) {
	runtime.GC() // twice: empties the timer pool of nats.go, which must not reach from other tests into the bubble
	runtime.GC()
	ats.Register() // outside, or a goroutine of the server stops fake time
	defer ats.Unregister()
	dir, today := storeDir(t, seed), time.Now()
	defer watch(seed)()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(today)) // a bubble starts in the year 2000; the file store reads the real clock
		w = newWorld(makePlan(seed), dir)
		if err := w.run(); err != nil {
			bad = append(bad, "the simulation itself: "+err.Error())
		}
		sleep(time.Second) // what is on its way on a cable arrives
	})
	runtime.GC() // nor from this bubble into other tests
	runtime.GC()
	if w.plan.whole {
		bad = append(bad, nothingFails(w.history)...)
	}
	if w.plan.inTurn {
		bad = append(bad, modelBreaker(w.history)...)
	}
	bad = append(bad, poolBreakers(w.history)...)
	return w, append(bad, check(w.history, w.plan.idle)...)
}
