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
import re
import subprocess
import sys
from types import SimpleNamespace

import dspy
import six
from dspex_worker import command


@command
def child() -> dict:
    found = subprocess.run([sys.executable, "-I", "-c", "import dspy, six; print(dspy.__version__, six.__version__)"], capture_output=True, text=True)
    with dspy.primitives.LocalInterpreter() as interpreter:
        return {"found": found.stdout + found.stderr[-500:], "six": six.__version__, "local": interpreter.execute("import six; print(six.__version__)")}


@command
def calculate(code: str) -> dict:
    with dspy.PythonInterpreter() as interpreter:
        return {"said": str(interpreter.execute(code)), "six": six.__version__, "mine": os.environ.get("MINE"), "other": os.environ.get("OTHER")}


class Coder(dspy.BaseLM):
    def forward(self, prompt=None, messages=None, **more):
        text = messages[-1]["content"]
        ran = "it ran" if "42 emscripten" in text else "it did not run"
        code = "import sys\nprint(6 * 7, sys.platform)"
        if "SUBMIT" in messages[0]["content"]:
            code = "import sys\nSUBMIT(answer='it ran' if sys.platform == 'emscripten' else sys.platform)"
        values = {"reasoning": "so", "generated_code": code, "code": code, "finished": "True", "answer": ran}
        asked = dict.fromkeys(re.findall(r"\[\[ ## (\w+) ## \]\]", text[text.rfind("Respond with"):]))
        said = "\n\n".join(f"[[ ## {name} ## ]]\n{values.get(name, '')}" for name in asked)
        message = SimpleNamespace(content=said, role="assistant", tool_calls=None)
        return SimpleNamespace(choices=[SimpleNamespace(message=message, finish_reason="stop", index=0)], usage={"total_tokens": 1}, model="coder")


def double(n: int) -> int:
    """Doubles."""
    return 2 * n


@command
def agents() -> dict:
    with dspy.context(lm=Coder("coder")):
        made = {
            "program_of_thought": dspy.ProgramOfThought("question -> answer"),
            "code_act": dspy.CodeAct("question -> answer", tools=[double], max_iters=1),
            "rlm": dspy.RLM("question -> answer", max_iters=2),
        }
        return {name: agent(question="What is 6 * 7?").answer for name, agent in made.items()}
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
	if out, err := env("add", "dspy<3"); err == nil || !strings.Contains(out, "dspy<3 is required, dspex runs with dspy 3.4.1") {
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
	switch said, _ := got["said"].(string); {
	case strings.TrimSpace(said) != "42 emscripten":
		t.Errorf(`strings.TrimSpace(said) must be "42 emscripten", got %v; %s`, strings.TrimSpace(said), r.Result)
	case got["six"] == nil:
		t.Errorf(`got["six"] must not be nil; %s`, r.Result)
	case got["mine"] != "yes":
		t.Errorf(`got["mine"] must be "yes", got %v; %s`, got["mine"], r.Result)
	case got["other"] != nil:
		t.Errorf(`got["other"] must be nil, got %v; %s`, got["other"], r.Result)
	}
	if r, err = c.ExecuteAnonymous(ctx, "child", nil, dspex.WithTimeout(90*time.Second)); err != nil {
		t.Fatal(err)
	}
	got = r.Outputs()
	version, _ := got["six"].(string)
	if found, _ := got["found"].(string); strings.TrimSpace(found) != "3.4.1 "+version {
		t.Errorf("a Python that a module starts finds other packages: %s", r.Result)
	}
	if local, _ := got["local"].(string); strings.TrimSpace(local) != version {
		t.Errorf("dspy.LocalInterpreter finds other packages: %s", r.Result)
	}
	if r, err = c.ExecuteAnonymous(ctx, "agents", nil, dspex.WithTimeout(4*time.Minute)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"program_of_thought", "code_act", "rlm"} {
		if got := r.Outputs()[name]; got != "it ran" {
			t.Errorf("%s: %v", name, got)
		}
	}
}
