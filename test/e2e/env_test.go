package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dspex/dspex"
)

const codeModule = `import os

import dspy
import six
from dspex_worker import command


@command
def calculate(code: str) -> dict:
    with dspy.PythonInterpreter() as interpreter:
        return {"said": str(interpreter.execute(code)), "six": six.__version__, "mine": os.environ.get("MINE"), "other": os.environ.get("OTHER")}
`

// TestWhatModulesNeedIsInstalledByOneCommand needs the registries of Python and of npm, as the first start of dspex dev does.
func TestWhatModulesNeedIsInstalledByOneCommand(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "calculating.py"), []byte(codeModule), 0o600); err != nil {
		t.Fatal(err)
	}
	env := func(args ...string) (string, error) {
		cmd := exec.Command(binary, append([]string{"env"}, args...)...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := env("add", "dspy<3"); err == nil || !strings.Contains(out, "dspy<3 is wanted, dspex runs with dspy 3.4.1") {
		t.Errorf("another DSPy: %v\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "requirements.txt")); err == nil {
		t.Error("what cannot be installed stays in requirements.txt")
	}
	if out, err := env("add", "six", "dspy[deno]"); err != nil { // it may have been installed before
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"deno", "six"} {
		if out, err := env("list"); err != nil || !strings.Contains(out, want) {
			t.Errorf("%s is not listed: %v\n%s", want, err, out)
		}
	}
	if out, err := env("shell", "--", "python", "-c", "import dspy, six, dspex_worker; print('found', dspy.__version__)"); err != nil || !strings.Contains(out, "found 3.4.1") {
		t.Errorf("%v\n%s", err, out)
	}
	d, err := startDev([]string{"MINE=yes", "OTHER=no"}, dir, "--import", "calculating", "--env", "MINE", "--workers", "1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Stop)
	ctx, c := connectTo(t, d.url)
	r, err := c.ExecuteAnonymous(ctx, "calculate", dspex.Args{"code": "import sys\nprint(6 * 7, sys.platform)"}, dspex.WithTimeout(90*time.Second)) // the interpreter starts slowly on a loaded machine
	if err != nil {
		t.Fatal(err)
	}
	got := r.Outputs()
	if said, _ := got["said"].(string); strings.TrimSpace(said) != "42 emscripten" || got["six"] == nil || got["mine"] != "yes" || got["other"] != nil {
		t.Errorf("%s", r.Result)
	}
}
