package sim

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	seedFlag   = flag.Uint64("seed", 0, "run this one seed and print its history if it fails")
	repeatFlag = flag.Int("repeat", 1, "with -seed: run it so many times, until it fails; a seed fixes the faults, not the interleaving")
	dumpFlag   = flag.Bool("dump", false, "with -seed: print the history also if it passes")
	seedsFlag  = flag.Int("seeds", 24, "how many seeds to run")
	fromFlag   = flag.Uint64("from", 1, "the first seed")
	aboutFlag  = flag.String("about", "", "only seeds that are about this scenario, by its name")
	shardsFlag = flag.Int("shards", 0, "run the seeds in so many processes at a time, one core each (0: in this one; -1: one a core)")
	firstFlag  = flag.Bool("first", false, "end with the first seed that fails")
	childFlag  = flag.Bool("child", false, "print verdicts as JSON lines: for the parent of a shard")
)

// seedVerdict is what a seed came to; a child prints one a line.
type seedVerdict struct {
	Seed     uint64
	Bad      []string                  `json:",omitempty"`
	Coverage map[string]map[string]int `json:",omitempty"`
}

// enough seeds have struck everything; with fewer the table is not judged.
const enough = 1000

func TestEveryPromiseHoldsUnderFaults(t *testing.T) {
	switch {
	case *seedFlag != 0:
		runOne(t, *seedFlag)
		return
	case *childFlag:
		runChild(t)
		return
	}
	nth(t, 0) // refuses an unknown scenario
	var total coverage
	take := func(v seedVerdict) {
		total.merge(v.Coverage)
		if len(v.Bad) > 0 {
			t.Errorf("seed %d:\n  %s\n  reproduce: go test ./test/sim -run TestEveryPromiseHoldsUnderFaults -seed %d -repeat 100",
				v.Seed, strings.Join(v.Bad, "\n  "), v.Seed)
		}
	}
	if *shardsFlag != 0 {
		runShards(t, take)
	} else {
		for n := *fromFlag; n < *fromFlag+uint64(*seedsFlag) && !(*firstFlag && t.Failed()); n++ {
			take(judge(t, nth(t, n)))
		}
	}
	if *seedsFlag >= enough && !*firstFlag && *aboutFlag == "" {
		fmt.Printf("%d scenarios\n%s", *seedsFlag, total.String())
		for _, what := range total.missing() {
			t.Errorf("never struck: %s", what)
		}
	}
}

// nth is the nth of the seeds that are requested.
func nth(t *testing.T, n uint64) uint64 {
	if *aboutFlag == "" {
		return n
	}
	list := scenarios()
	i := slices.IndexFunc(list, func(s scenario) bool { return s.name == *aboutFlag })
	if i < 0 {
		var names []string
		for _, s := range list {
			names = append(names, s.name)
		}
		t.Fatalf("-about %q: expected one of:\n  %s", *aboutFlag, strings.Join(names, "\n  "))
	}
	return n*uint64(len(list)) + uint64(i)
}

// judge simulates a seed.
func judge(t *testing.T, seed uint64) seedVerdict {
	v := seedVerdict{Seed: seed}
	t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
		w, bad := simulate(t, seed)
		w.coverage.countJobs(w.history)
		v.Bad, v.Coverage = bad, w.coverage.rows
	})
	return v
}

func runOne(t *testing.T, seed uint64) {
	for range *repeatFlag {
		w, bad := simulate(t, seed)
		if *dumpFlag || len(bad) > 0 {
			fmt.Printf("%s\n%s\n", w.plan, w.history.dump())
		}
		if len(bad) > 0 {
			t.Fatal(strings.Join(bad, "\n"))
		}
	}
}

func runChild(t *testing.T) {
	for n := *fromFlag; n < *fromFlag+uint64(*seedsFlag); n++ {
		line, err := json.Marshal(judge(t, nth(t, n)))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("\n%s\n", line)
	}
}

// chunk is the number of seeds of one child process.
const chunk = 25

// runShards runs the seeds in processes of their own, each on one core, several at a time.
func runShards(t *testing.T, take func(seedVerdict)) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	starts, verdicts := make(chan uint64), make(chan seedVerdict)
	var wg sync.WaitGroup
	shards := *shardsFlag
	if shards < 0 {
		shards = runtime.NumCPU()
	}
	for range shards {
		wg.Go(func() {
			for from := range starts {
				n := min(chunk, *fromFlag+uint64(*seedsFlag)-from)
				if err := runChunk(ctx, t, from, n, verdicts); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
				if *firstFlag && t.Failed() {
					cancel()
				}
			}
		})
	}
	go func() {
		for from := *fromFlag; from < *fromFlag+uint64(*seedsFlag) && ctx.Err() == nil; from += chunk {
			starts <- from
		}
		close(starts)
		wg.Wait()
		close(verdicts)
	}()
	bar := progress{began: time.Now(), every: 10, begin: "\r"}
	if i, err := os.Stderr.Stat(); err != nil || i.Mode()&os.ModeCharDevice == 0 {
		bar.every, bar.begin = max(10, *seedsFlag/10), "\n" // a log
	}
	for v := range verdicts {
		bar.add(v)
		if ctx.Err() != nil {
			continue
		}
		take(v)
		if *firstFlag && t.Failed() {
			cancel()
		}
	}
	fmt.Fprintln(os.Stderr)
}

// progress is the line on standard error.
type progress struct {
	began        time.Time
	every        int
	begin        string
	done, failed int
}

func (p *progress) add(v seedVerdict) {
	p.done++
	if len(v.Bad) > 0 {
		p.failed++
		fmt.Fprintf(os.Stderr, "\nseed %d: %s\n", v.Seed, v.Bad[0])
	}
	if p.done%p.every == 0 || p.done == *seedsFlag {
		fmt.Fprintf(os.Stderr, p.begin+"%d of %d scenarios, %d failed, %.0f a second ", p.done, *seedsFlag, p.failed, float64(p.done)/time.Since(p.began).Seconds())
	}
}

func runChunk(ctx context.Context, t *testing.T, from, n uint64, verdicts chan<- seedVerdict) error {
	child := exec.CommandContext(ctx, os.Args[0], "-test.run", "^TestEveryPromiseHoldsUnderFaults$", "-child", "-from", fmt.Sprint(from), "-seeds", fmt.Sprint(n), "-about", *aboutFlag)
	child.Env = append(os.Environ(), "GOMAXPROCS=1")
	out, err := child.StdoutPipe()
	if err != nil {
		return err
	}
	child.Stderr = child.Stdout
	if err := child.Start(); err != nil {
		return err
	}
	next := from
	var rest []string
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var v seedVerdict
		if json.Unmarshal(lines.Bytes(), &v) == nil && v.Seed != 0 {
			next++
			verdicts <- v
		} else {
			rest = append(rest, lines.Text())
		}
	}
	err = child.Wait()
	if next == from+n {
		return nil // what fails is in the verdicts
	}
	return fmt.Errorf("the process ended at seed %d (%w):\n%s", nth(t, next), err, excerpt(rest))
}

// excerpt shows the first lines, blank ones left out.
func excerpt(lines []string) string {
	lines = slices.DeleteFunc(lines, func(s string) bool { return strings.TrimSpace(s) == "" })
	if most := 60; len(lines) > most {
		lines = append(lines[:most:most], "...")
	}
	return strings.Join(lines, "\n")
}
