// Package mutants leaves out one rule of the product at a time and insists that the simulation's ordinary checkers object. A
// mutant that nothing catches is a missing fault, or a rule that only saves work; the table says which.
//
// It takes minutes: `make mutants`, not `make test`.
package mutants

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var (
	mutantFlag = flag.String("mutant", "", `build and hunt this one, or "all"; without it only the patches are checked`)
	seedsFlag  = flag.Int("seeds", 1000, "scenarios that a mutant may survive, after those that are aimed at it")
	aimedFlag  = flag.Int("aimed", 100, "scenarios of each kind that is aimed at a mutant")
	shardsFlag = flag.Int("shards", -1, "processes at a time; -1: one a core")
)

// mutant is the product with one rule left out.
type mutant struct {
	name  string
	rule  string // heading of docs/architecture.md
	edits []edit
	// aim names the scenarios of the simulation that are tried first: those that the rule is for.
	aim []string
	// survives says why nothing can catch it, for a rule that only saves work; empty: it must be caught.
	survives string
}

// edit replaces a text that stands exactly once in its file.
type edit struct{ file, old, new string }

// root of the module, from the directory that the tests of this package run in; sim is the simulation.
const root, sim = "../..", "../sim"

func TestEveryMutantStillFitsTheCode(t *testing.T) {
	names := map[string]bool{}
	for _, m := range mutants {
		if names[m.name] {
			t.Errorf("two mutants are called %q", m.name)
		}
		names[m.name] = true
		for _, e := range m.edits {
			text, err := os.ReadFile(filepath.Join(root, e.file))
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(text), e.old); n != 1 {
				t.Errorf("%s: the text to replace stands %d times in %s, want once:\n%s", m.name, n, e.file, e.old)
			}
		}
	}
}

// TestMutantsAreCaught builds the simulation over each mutant and runs seeds until the ordinary checkers object.
func TestMutantsAreCaught(t *testing.T) {
	for _, m := range mutants {
		if *mutantFlag != "all" && *mutantFlag != m.name {
			continue
		}
		verdict, caught := m.hunt(t)
		fmt.Printf("%-58s %s\n", m.name, verdict)
		switch {
		case !caught && m.survives == "":
			t.Errorf("nothing caught: %s (%s)", m.name, m.rule)
		case caught && m.survives != "":
			t.Errorf("%s was caught, though it is said to survive: %s", m.name, m.survives)
		}
	}
}

// hunt returns what caught the mutant.
func (m mutant) hunt(t *testing.T) (verdict string, caught bool) {
	t.Helper()
	dir := t.TempDir()
	overlay, binary := m.overlay(t, dir), filepath.Join(dir, "mutant.test")
	if out, err := exec.Command("go", "test", "-vet=off", "-c", "-overlay", overlay, "-o", binary, sim).CombinedOutput(); err != nil {
		t.Fatalf("%s does not build: %v\n%s", m.name, err, out)
	}
	for _, about := range m.aim {
		if out, bad := m.run(t, binary, *aimedFlag, "-about", about); bad {
			return about + ", " + firstObjection(out), true
		}
	}
	seeds := *seedsFlag
	if m.survives != "" {
		seeds /= 10 // what it says of itself is not proved by more
	}
	if out, bad := m.run(t, binary, seeds); bad {
		return firstObjection(out), true
	}
	return fmt.Sprintf("survives %d seeds", seeds+len(m.aim)**aimedFlag), false
}

// run plays seeds until one fails.
func (m mutant) run(t *testing.T, binary string, seeds int, more ...string) (out []byte, bad bool) {
	run := exec.CommandContext(t.Context(), binary, append([]string{"-test.run", "^TestEveryPromiseHoldsUnderFaults$", "-first",
		"-test.timeout", "0", "-seeds", fmt.Sprint(seeds), "-shards", fmt.Sprint(*shardsFlag)}, more...)...)
	run.Dir = sim
	out, err := run.Output()
	return out, err != nil
}

// overlay writes the changed files and the list that go build takes.
func (m mutant) overlay(t *testing.T, dir string) string {
	t.Helper()
	replace := map[string]string{}
	for n, e := range m.edits {
		path, err := filepath.Abs(filepath.Join(root, e.file))
		if err != nil {
			t.Fatal(err)
		}
		from := path
		if before, again := replace[path]; again {
			from = before
		}
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		changed := filepath.Join(dir, fmt.Sprint(n, ".go"))
		if err := os.WriteFile(changed, bytes.Replace(text, []byte(e.old), []byte(e.new), 1), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[path] = changed
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	overlay := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlay, list, 0o600); err != nil {
		t.Fatal(err)
	}
	return overlay
}

// firstObjection is the line of a failed run that says what was wrong.
func firstObjection(out []byte) string {
	lines := strings.Split(string(out), "\n")
	for i, line := range lines {
		if _, seed, ok := strings.Cut(line, ": seed "); ok && i+1 < len(lines) {
			return "seed " + strings.TrimSuffix(seed, ":") + ": " + strings.TrimSpace(lines[i+1])
		}
	}
	for _, line := range lines {
		if strings.Contains(line, "the process ended at seed") || strings.Contains(line, "panic:") {
			return strings.TrimSpace(line)
		}
	}
	return "the run failed: " + strings.TrimSpace(lines[0])
}
