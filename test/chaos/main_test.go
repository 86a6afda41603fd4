//go:build chaos

// Package chaos runs a whole deployment as operators run it: three brokers with the shipped accounts, two dispatchers, three worker-hosts
// and two tenants, all of them processes. It breaks it at random for a while, and checks the history that its clients saw.
// `make chaos` runs it for ten minutes. It is not one of the tests of `make test`: a nats-server of a cluster that is killed and cut
// off again and again may need longer to become healthy than a test may wait.
package chaos

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/dspex/dspex/internal/programtest"
)

var (
	length = flag.Duration("for", 20*time.Second, "how long faults strike")
	seed   = flag.Uint64("seed", 1, "of the faults' kinds and times")
)

var bin string // directory of the programs

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == brokerRole {
		if err := playBroker(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(programtest.Run(m, func(built, _ string) (func(), error) { bin = built; return nil, nil }, "../../cmd/..."))
}

// TestEveryPromiseHoldsWhileEverythingBreaks is the run. What it promises is in check.go's rules.
func TestEveryPromiseHoldsWhileEverythingBreaks(t *testing.T) {
	programtest.Fresh(t, "../..", "nats.conf", "tenants")
	began := time.Now()
	d := deploy(t)
	clients := d.startClients(t)
	struck := d.strike(clients)
	d.heal()
	for _, c := range clients {
		c.end()
	}
	d.awaitHealthy(clients[0])
	var all []job
	for _, c := range clients {
		all = append(all, c.history()...)
		c.readAgain()
	}
	violations := check(all)
	for _, c := range clients {
		violations = append(violations, c.changed...)
	}
	report(all, struck, violations, time.Since(began))
	for _, v := range violations {
		t.Error(v)
	}
}

// report prints what happened: the faults first.
func report(all []job, struck map[string]int, violations []string, took time.Duration) {
	var kinds []string
	total := 0
	for kind, n := range struck {
		kinds = append(kinds, kind)
		total += n
	}
	slices.Sort(kinds)
	fmt.Printf("\n%-36s %s\n", "fault", "struck")
	for _, kind := range kinds {
		fmt.Printf("%-36s %6d\n", kind, struck[kind])
	}
	ended, again := 0, 0
	for _, j := range all {
		if j.ended {
			ended++
		}
		again += j.asked - 1
	}
	fmt.Printf("\nseed %d, %v: %d faults, %d jobs accepted, %d ended, %d times asked again, %d violations\n",
		*seed, took.Round(time.Second), total, len(all), ended, again, len(violations))
}
