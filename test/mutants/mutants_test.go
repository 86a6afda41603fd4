// Package mutants leaves out one rule of the product at a time and fails unless something objects. These may object: the model of the
// promises and the scenarios of internal/lifecycle, which take seconds; a test that the mutant names; the simulation's ordinary checkers.
// A mutant that nothing catches is a missing fault, or a rule that only saves work; the table states which.
//
// It takes minutes: `make mutants`, not `make test`.
package mutants

import (
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
	byFlag     = flag.String("by", "", "hunt only by one of model, scenarios, test, simulation; empty: by one after the other")
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
	// test names a test of a package of internal/ that catches it, for what none of the others looks at.
	test string
	// survives is why no promise can be broken by it, for a rule that only saves work; empty: it must be caught. The scenarios of
	// internal/lifecycle state what is done, not only what is promised: they do not count then.
	survives string
}

// root of the module, from the directory that the tests of this package run in; sim is the simulation, core the packages of the
// core that decides about a job.
const root, sim, core = "../..", "../sim", "../../internal/lifecycle"

// TestEveryMutantStillFitsTheCode has the compiler's front end read each mutant.
func TestEveryMutantStillFitsTheCode(t *testing.T) {
	names, code := map[string]bool{}, load(t)
	for _, m := range mutants {
		if names[m.name] {
			t.Errorf("two mutants are called %q", m.name)
		}
		names[m.name] = true
		t.Run(m.name, func(t *testing.T) {
			changed, err := m.apply()
			if err != nil {
				t.Fatal(err)
			}
			if err := code.check(changed); err != nil {
				t.Error(err)
			}
			if m.test != "" && !isThere(t, m.test) {
				t.Errorf("the test %s is not there", m.test)
			}
		})
	}
}

// isThere reports whether a package of internal/ has a test, both as mutants name it.
func isThere(t *testing.T, test string) bool {
	t.Helper()
	pkg, name, _ := strings.Cut(test, ".")
	paths, err := filepath.Glob(filepath.Join(root, "internal", pkg, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "func "+name+"(") {
			return true
		}
	}
	return false
}

// TestMutantsAreCaught tries to catch each mutant.
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
	overlay := m.overlay(t, dir)
	var survived []string
	for _, hunter := range []struct {
		name  string
		hunts func(*testing.T, string, string) (string, bool)
	}{{"model", m.byModel}, {"scenarios", m.byScenarios}, {"test", m.byTest}, {"simulation", m.bySimulation}} {
		if *byFlag != "" && *byFlag != hunter.name {
			continue
		}
		verdict, caught := hunter.hunts(t, dir, overlay)
		if caught {
			return hunter.name + ": " + verdict, true
		}
		if verdict != "" {
			survived = append(survived, verdict)
		}
	}
	return "survives " + strings.Join(survived, ", "), false
}

// build makes a test binary with the mutant in it.
func (m mutant) build(t *testing.T, overlay, binary, of string) {
	t.Helper()
	if out, err := exec.Command("go", "test", "-vet=off", "-c", "-overlay", overlay, "-o", binary, of).CombinedOutput(); err != nil {
		t.Fatalf("%s does not build: %v\n%s", m.name, err, out)
	}
}

// checks is how many lives of a session the model plays.
const checks = 5000

// byModel has the model of internal/lifecycle look for a promise that the mutant breaks.
func (m mutant) byModel(t *testing.T, dir, overlay string) (verdict string, caught bool) {
	if !m.ofCore(t) {
		return "", false
	}
	return m.byCore(t, dir, overlay, fmt.Sprint(checks, " lives of a session"),
		"-test.run", "^TestASessionKeepsItsPromises", "-rapid.checks", fmt.Sprint(checks), "-rapid.nofailfile", "-rapid.shrinktime", "1s")
}

// byScenarios compares what the core does with what is written down.
func (m mutant) byScenarios(t *testing.T, dir, overlay string) (verdict string, caught bool) {
	if !m.ofCore(t) || m.survives != "" {
		return "", false
	}
	return m.byCore(t, dir, overlay, "the scenarios", "-test.run", "^TestScenarios$")
}

func (m mutant) byCore(t *testing.T, dir, overlay, whole string, args ...string) (verdict string, caught bool) {
	t.Helper()
	binary := filepath.Join(dir, "core.test")
	if _, err := os.Stat(binary); err != nil {
		m.build(t, overlay, binary, core)
	}
	run := exec.CommandContext(t.Context(), binary, append(args, "-test.timeout", "10m")...)
	run.Dir = core
	if out, err := run.CombinedOutput(); err != nil {
		return firstFailure(out), true
	}
	return whole, false
}

// byTest runs the test that the mutant names.
func (m mutant) byTest(t *testing.T, _, overlay string) (verdict string, caught bool) {
	if m.test == "" {
		return "", false
	}
	pkg, name, _ := strings.Cut(m.test, ".")
	args := []string{"test", "-vet=off", "-overlay", overlay, "-run", "^" + name + "$", "../../internal/" + pkg}
	if m.test == batchModel {
		args = append(args, "-rapid.checks", fmt.Sprint(4*checks), "-rapid.nofailfile", "-rapid.shrinktime", "1s")
	}
	out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput()
	switch {
	case err == nil && strings.Contains(string(out), "no tests to run"):
		t.Fatalf("%s names the test %s, which is not there", m.name, m.test)
	case err == nil:
		return m.test, false
	case !strings.Contains(string(out), "--- FAIL: "+name):
		t.Fatalf("%s does not build: %v\n%s", m.name, err, out)
	}
	return m.test, true
}

// firstFailure is the line of a failed test of the core with what was wrong.
func firstFailure(out []byte) string {
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if _, after, ok := strings.Cut(line, "[rapid] failed after "); ok {
			return after
		}
		if name, ok := strings.CutPrefix(line, "--- FAIL: TestScenarios/"); ok {
			return strings.Fields(name)[0]
		}
		if strings.HasPrefix(line, "panic:") {
			return line
		}
	}
	return "the run failed"
}

// bySimulation builds the simulation over the mutant and runs seeds until the ordinary checkers object.
func (m mutant) bySimulation(t *testing.T, dir, overlay string) (verdict string, caught bool) {
	binary := filepath.Join(dir, "sim.test")
	m.build(t, overlay, binary, sim)
	for _, about := range m.aim {
		if out, bad := m.run(t, binary, *aimedFlag, "-about", about); bad {
			return about + ", " + firstObjection(out), true
		}
	}
	seeds := *seedsFlag
	if m.survives != "" {
		seeds /= 10 // its own claim is not proved by more
	}
	if out, bad := m.run(t, binary, seeds); bad {
		return firstObjection(out), true
	}
	return fmt.Sprintf("%d seeds", seeds+len(m.aim)**aimedFlag), false
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
	changed, err := m.apply()
	if err != nil {
		t.Fatal(err)
	}
	replace := map[string]string{}
	for path, text := range changed {
		whole, err := filepath.Abs(path)
		if err != nil {
			t.Fatal(err)
		}
		replace[whole] = filepath.Join(dir, fmt.Sprint(len(replace), ".go"))
		if err := os.WriteFile(replace[whole], text, 0o600); err != nil {
			t.Fatal(err)
		}
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

// firstObjection is the line of a failed run with what was wrong.
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
