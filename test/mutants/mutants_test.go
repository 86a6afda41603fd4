// Package mutants breaks one rule of the product at a time and insists that the simulation's ordinary checkers notice. A
// mutant that nothing catches is a missing fault, or a rule that can go.
//
// It takes minutes: `make mutants`, not `make test`.
package mutants

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

var (
	run   = flag.Bool("mutants", false, "build and run the mutants; without it only their patches are checked")
	seeds = flag.Int("seeds", 400, "seeds that a mutant may survive")
	batch = flag.Int("batch", 20, "seeds of one run")
)

// patch replaces a text that must stand in the file exactly once.
type patch struct{ file, old, new string }

type mutant struct {
	rule    string
	patches []patch
}

const (
	hostDir   = "internal/host/"
	noDeadEnd = "" // the text to put where something is left out
)

var mutants = []mutant{
	{"the message is acknowledged before the commit", []patch{{hostDir + "record.go",
		"	if err := s.commit(ctx, t, &next); err != nil {", "	_ = h.ack(t.job)\n	if err := s.commit(ctx, t, &next); err != nil {"}}},
	{"no compare-and-set on the record", []patch{{hostDir + "record.go",
		"			next.Ended, next.Updated = later(s.record.Ended, t.seq), h.now()",
		"			if e, err := h.records.Get(ctx, jobs.RecordKey(s.id)); err == nil {\n				s.recRev = e.Revision\n			}\n			next.Ended, next.Updated = later(s.record.Ended, t.seq), h.now()"}}},
	{"no compare-and-set on the head", []patch{{hostDir + "record.go",
		"			rev, err := h.records.PutSync(key, body, s.headRev, s.ttl(left))",
		"			if e, err := h.records.Get(ctx, key); err == nil {\n				s.headRev = e.Revision\n			}\n			rev, err := h.records.PutSync(key, body, s.headRev, s.ttl(left))"}}},
	{"attempts are not read from the head", []patch{{hostDir + "process.go",
		"	t.attempt, t.failures = hd.Attempt, hd.Failures\n", "	return nil\n"}}},
	{"the gate is open during the backoff", []patch{{hostDir + "process.go",
		"	return s.pause(ctx, t, t.again, delay+time.Second)", "	return errLeaving"}}},
	{"a host leaves a partition that still names it", []patch{
		{hostDir + "tenure.go", "		used = h.own(ctx, n, used)\n", "		used = h.own(ctx, n, used)\n		return\n"},
		{hostDir + "tenure.go", "			h.log.Warn(\"partition_epoch_ends\"", "			t.wg.Wait()\n			t.fence(nil)\n			close(ended)\n			guard.Wait()\n			return used\n			h.log.Warn(\"partition_epoch_ends\""}}},
	{"the last sequence is ignored", []patch{
		{hostDir + "process.go", "	if j.seq <= s.record.LastSequence {", "	if false {"},
		{hostDir + "record.go", " || s.record.LastSequence >= t.seq {", " {"}}},
	{"no look at the result before the first start", []patch{{hostDir + "process.go",
		"	if t.env.Chosen || j.stored.Before(s.since) {", "	if false {"}}},
	{"an early end is acknowledged without a result", []patch{
		{hostDir + "process.go", "		if !j.answered {", "		if false {"},
		{hostDir + "serve.go", "	if err := s.finish(ctx, t, kind); err != nil {\n		return err\n	}\n", noDeadEnd}}},
	{"early ends are forgotten at a commit", []patch{{hostDir + "record.go",
		"			next.Ended, next.Updated = later(s.record.Ended, t.seq), h.now()", "			next.Ended, next.Updated = nil, h.now()"}}},
	{"a cleanup begins the record anew", []patch{{hostDir + "record.go",
		"		empty(next)\n", "		empty(next)\n		next.LastSequence = 0\n"}}},
	{"a late write without a look at the assignment", []patch{{hostDir + "record.go",
		"	if s.known && time.Since(s.loaded) <= s.ttl(0)/2 && !s.lapsed() {", "	if s.known {"}}},
	{"a delivery behind a gap is kept", []patch{{hostDir + "partition.go",
		"gap := !p.resetting && sequence != p.next", "gap := false"}}},
	{"the default reconnect buffer", []patch{{"internal/stream/connect.go", "nats.ReconnectBufSize(-1)", "nats.ReconnectBufSize(8 << 20)"}}},
}

const root = "../.."

func TestEveryMutantStillFitsTheCode(t *testing.T) {
	for _, m := range mutants {
		for _, p := range m.patches {
			text, err := os.ReadFile(filepath.Join(root, p.file))
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(text), p.old); n != 1 {
				t.Errorf("%s: %s holds %d times, expected once: %q", m.rule, p.file, n, p.old)
			}
		}
	}
}

func TestEveryMutantIsCaught(t *testing.T) {
	if !*run {
		t.Log("the mutants are built and run by `make mutants`")
		return
	}
	t.Run("the code as it stands passes", func(t *testing.T) { // else the verdicts below mean nothing
		bin := build(t, mutant{})
		for from := 1; from <= *seeds; from += *batch {
			if said, caught := simulate(t.Context(), bin, from, *batch); caught {
				t.Fatalf("seeds %d to %d: %s", from, from+*batch-1, said)
			}
		}
	})
	for _, m := range mutants {
		t.Run(m.rule, func(t *testing.T) {
			bin := build(t, m)
			for from := 1; from <= *seeds; from += *batch {
				if said, caught := simulate(t.Context(), bin, from, *batch); caught {
					t.Logf("caught within seeds %d to %d: %s", from, from+*batch-1, said)
					return
				}
			}
			t.Errorf("nothing noticed it in %d seeds", *seeds)
		})
	}
}

// build compiles the simulation with the patched files.
func build(t *testing.T, m mutant) string {
	t.Helper()
	dir := t.TempDir()
	patched, replace := map[string]string{}, map[string]string{}
	for _, p := range m.patches {
		path, err := filepath.Abs(filepath.Join(root, p.file))
		if err != nil {
			t.Fatal(err)
		}
		if patched[path] == "" {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			patched[path] = string(text)
		}
		patched[path] = strings.Replace(patched[path], p.old, p.new, 1)
	}
	for path, text := range patched {
		replace[path] = filepath.Join(dir, strconv.Itoa(len(replace))+".go")
		if err := os.WriteFile(replace[path], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	list, bin := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "sim.test")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "go", "test", "-vet=off", "-c", "-overlay", list, "-o", bin, root+"/test/sim").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return bin
}

// simulate runs some seeds and returns the first thing that a checker said. A run that never ends is caught, too.
func simulate(ctx context.Context, bin string, from, count int) (said string, caught bool) {
	cmd := exec.CommandContext(ctx, bin, "-test.run", "TestEveryPromiseHoldsUnderFaults", "-test.failfast", "-test.timeout", "300s",
		"-from", strconv.Itoa(from), "-seeds", strconv.Itoa(count))
	cmd.Dir = root + "/test/sim"
	out, err := cmd.CombinedOutput()
	lines := bufio.NewScanner(strings.NewReader(string(out)))
	for lines.Scan() {
		if _, rest, found := strings.Cut(lines.Text(), "_test.go:"); found {
			said = rest
			break
		}
	}
	return said, err != nil
}
