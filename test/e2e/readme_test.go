package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var fence = regexp.MustCompile("(?s)```(go|python|js|sh)\n(.*?)```")

// TestTheProgramsOfTheReadmeRun takes the programs as they stand there; only the address is another one.
func TestTheProgramsOfTheReadmeRun(t *testing.T) {
	page, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	python := os.Getenv("DSPEX_TEST_PYTHON")
	if python == "" {
		t.Fatal("DSPEX_TEST_PYTHON names the interpreter of the development environment: run `make test`")
	}
	// Below directories that have what the programs import; names that begin with a dot are no packages to the Go tool.
	dir, err := os.MkdirTemp(".", ".readme-") //nolint:usetesting // inside of the module, so that its imports are found
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	needNode(t)
	script, err := os.MkdirTemp("node", ".readme-") //nolint:usetesting // beside node_modules, for the same reason
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(script) })
	run := map[string]struct {
		file string
		argv []string
	}{
		"go":     {filepath.Join(dir, "main.go"), []string{"go", "run", "./" + dir}},
		"python": {filepath.Join(dir, "main.py"), []string{python, filepath.Join(dir, "main.py")}},
		"js":     {filepath.Join(script, "main.mjs"), []string{"node", filepath.Join(script, "main.mjs")}},
		"sh":     {filepath.Join(dir, "main.sh"), []string{"sh", "-eu", filepath.Join(dir, "main.sh")}},
	}
	seen := map[string]bool{}
	for _, m := range fence.FindAllStringSubmatch(string(page), -1) {
		kind, text := m[1], strings.ReplaceAll(m[2], "nats://127.0.0.1:4222", url)
		if seen[kind] {
			t.Errorf("there is a second program in %s: give it a name of its own here", kind)
		}
		seen[kind] = true
		if kind == "sh" { // it writes files
			text = "cd " + dir + "\n" + text
		}
		if err := os.WriteFile(run[kind].file, []byte(strings.ReplaceAll(text, "bin/dspex", binary)), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(run[kind].argv[0], run[kind].argv[1:]...)
		cmd.Env = append(os.Environ(), "NATS_URL="+url)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "echo") || !strings.Contains(string(out), "capital of France?") {
			t.Errorf("%s: %v\n%s", kind, err, out)
		}
	}
	for kind := range run {
		if !seen[kind] {
			t.Errorf("the README has no program in %s", kind)
		}
	}
}
