package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dspex/dspex"
)

const examples = "../../examples/python"

func startIn(t *testing.T, dir string, args ...string) *dev {
	t.Helper()
	d, err := startDev(nil, dir, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Stop)
	return d
}

// TestTheOperatorsOwnModules runs examples/python, as its first lines describe.
func TestTheOperatorsOwnModules(t *testing.T) {
	ctx, c := connectTo(t, startIn(t, examples, "--import", "my_programs").url)
	outputs := func(session, command string, args dspex.Args) map[string]any {
		t.Helper()
		var r dspex.Reply
		var err error
		if session == "" {
			r, err = c.ExecuteAnonymous(ctx, command, args)
		} else {
			r, err = c.Execute(ctx, session, command, args)
		}
		if err != nil || r.Engine != "dspy 3.4.1" {
			t.Fatalf("%s: %v by %s", command, err, r.Engine)
		}
		return r.Outputs()
	}
	if got := outputs("", "word_count", dspex.Args{"text": "two one two"}); got["two"] != 2.0 || got["one"] != 1.0 {
		t.Errorf("word_count: %v", got)
	}
	if got := outputs("imports", "rate", dspex.Args{"text": "I love it"}); got["mood"] != "good" && got["mood"] != "bad" {
		t.Errorf("rate: %v", got)
	}
	if got := outputs("imports", "charge", dspex.Args{"account": "a", "cents": 5}); !strings.HasPrefix(got["receipt"].(string), "imports/q") || got["attempt"] != 1.0 {
		t.Errorf("charge: %v", got)
	}
	for id, key := range map[string]string{"answer_in_steps": "steps", "geographer": "trajectory"} {
		got := outputs("imports", "execute_program", dspex.Args{"program_id": id, "inputs": map[string]any{"question": "Why is the sky blue?"}})
		if inner := got["outputs"].(map[string]any); inner[key] == nil || !strings.Contains(inner["answer"].(string), "sky") {
			t.Errorf("%s: %v", id, got)
		}
	}
	if got := outputs("", "list_programs", nil); got["total_count"] != 2.0 {
		t.Errorf("list_programs: %v", got)
	}
	for name, args := range map[string]dspex.Args{"unknown": {"text": "x", "txt": "x"}, "missing": {}, "wrong": {"text": 5}} {
		var e *dspex.Error
		if _, err := c.ExecuteAnonymous(ctx, "word_count", args); !errors.As(err, &e) || e.Code != "bad_input" || e.Expected != "least?: int, text: str" {
			t.Errorf("%s argument: %v", name, err)
		}
	}
	// A field of a signature without a type takes any value, as it does in DSPy.
	expected := map[string]string{"answer_in_steps": "question: str", "geographer": "question: Any"}
	for id, inputs := range map[string]map[string]any{"answer_in_steps": {}, "geographer": {"question": "?", "more": 1}} {
		var e *dspex.Error
		_, err := c.ExecuteAnonymous(ctx, "execute_program", dspex.Args{"program_id": id, "inputs": inputs})
		switch {
		case !errors.As(err, &e):
			t.Errorf("must hold: errors.As(err, &e); wrong inputs of %s: %v", id, err)
		case e.Code != "bad_input":
			t.Errorf(`e.Code must be "bad_input", got %v; wrong inputs of %s: %v`, e.Code, id, err)
		case !strings.HasPrefix(e.Path, "args.inputs."):
			t.Errorf(`must hold: strings.HasPrefix(e.Path, "args.inputs."); wrong inputs of %s: %v`, id, err)
		case e.Expected != expected[id]:
			t.Errorf("e.Expected: got %v, want %v; wrong inputs of %s: %v", e.Expected, expected[id], id, err)
		}
	}
	var e *dspex.Error
	if _, err := c.ExecuteAnonymous(ctx, "charge", dspex.Args{"account": "a", "cents": -5}); !errors.As(err, &e) || e.Code != "bad_amount" || e.Hint == "" {
		t.Errorf("charge: %v", err)
	}
	var said []string
	for chunk, err := range c.StreamAnonymous(ctx, "countdown", dspex.Args{"start": 3}) {
		switch {
		case err != nil:
			t.Fatal(err)
		case chunk.Reply != nil:
			said = append(said, string(chunk.Reply.Result))
		default:
			said = append(said, chunk.Status)
		}
	}
	if got := strings.Join(said, " "); got != `3... 2... 1... "lift-off"` {
		t.Errorf("countdown said %s", got)
	}
}

func TestAModuleThatCannotBeImportedEndsTheStartAndSaysWhatToDo(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"broken.py": "def f():\n    return 1 / 0\n\n\nf()\n", "needs.py": "import a_package_of_mine\n", "json.py": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for module, says := range map[string][]string{
		"nothing_here": {"import of nothing_here failed: ModuleNotFoundError", "directory where the host was started"},
		"broken":       {"import of broken failed: ZeroDivisionError: division by zero", "broken.py:2 in f", "broken.py:5 in <module>"},
		"json":         {"json in ", " is hidden: `import json` finds Python's own", "rename the module"},
		"needs":        {"No module named 'a_package_of_mine'", "dspex env add a_package_of_mine"},
	} {
		d, err := startDev(nil, dir, "--engine", "stub", "--import", module)
		if err == nil {
			d.Stop()
			t.Errorf("%s was imported", module)
			continue
		}
		for _, want := range says {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q is not said in\n%v", module, want, err)
			}
		}
		if strings.Count(err.Error(), "ZeroDivisionError: division") > 1 {
			t.Errorf("every worker says the same:\n%v", err)
		}
	}
}

// With real DSPy: what defines programs that no job could run is reported at the start.
func TestAModuleWhoseProgramsCannotRunEndsTheStartAndSaysWhatToDo(t *testing.T) {
	dir := t.TempDir()
	module := "import dspy\nfrom dspex_worker import program\n\n\n%sclass QA(dspy.Module):\n    def %s(self, question):\n        return question\n"
	for name, text := range map[string]string{"undecorated": fmt.Sprintf(module, "", "forward"), "forwardless": fmt.Sprintf(module, "@program(\"qa\")\n", "ask")} {
		if err := os.WriteFile(filepath.Join(dir, name+".py"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for module, says := range map[string]string{
		"undecorated": "undecorated makes no program: none of its DSPy modules (QA) has a decorator",
		"forwardless": "QA has no forward and no aforward",
	} {
		d, err := startDev(nil, dir, "--import", module)
		if err == nil {
			d.Stop()
			t.Errorf("%s was imported", module)
		} else if !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %q is not said in\n%v", module, says, err)
		}
	}
}

func TestAVirtualEnvironmentBringsItsPackagesForTheOperatorsModules(t *testing.T) {
	dir := t.TempDir()
	venv := filepath.Join(dir, "venv")
	if out, err := exec.Command("python3", "-m", "venv", "--without-pip", venv).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	site, err := filepath.Glob(filepath.Join(venv, "lib", "python3*", "site-packages"))
	if err != nil || len(site) != 1 {
		t.Fatal(site, err)
	}
	elsewhere := t.TempDir() // as an install in place has it
	module := "import a_package_of_mine, installed_in_place\nfrom dspex_worker import command\n\n\n@command\ndef mine() -> str:\n    return a_package_of_mine.SAID + installed_in_place.SAID\n"
	for path, text := range map[string]string{filepath.Join(site[0], "a_package_of_mine.py"): "SAID = 'mine'\n",
		filepath.Join(site[0], "in_place.pth"): elsewhere + "\n", filepath.Join(elsewhere, "installed_in_place.py"): "SAID = ' and here'\n", filepath.Join(dir, "needs.py"): module} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, engine := range []string{"stub", "dspy"} {
		ctx, c := connectTo(t, startIn(t, dir, "--engine", engine, "--import", "needs", "--python", filepath.Join(venv, "bin", "python")).url)
		if r, err := c.ExecuteAnonymous(ctx, "mine", nil); err != nil || string(r.Result) != `"mine and here"` {
			t.Errorf("%s: %s %v", engine, r.Result, err)
		}
	}
}
