package pyenv

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

	"github.com/dspex/dspex/python"
)

// codeDir is where an environment with Deno has what DSPy's interpreter runs: Deno's cache, with Pyodide in it, and the script. The
// names are known to python/dspex_worker/engines/dspy_engine/patches/interpreter.py.
const codeDir = "deno"

// withCode completes an environment that has Deno with what dspy.PythonInterpreter needs of the npm registry, so that no job has to
// fetch it and a sandboxed worker finds it.
func (b *builder) withCode(ctx context.Context, py interpreter, dir string, lock *os.File) error {
	deno := filepath.Join(dir, "bin", "deno")
	product := filepath.Join(b.cache, "venv-"+b.key(py))
	theirs := filepath.Join(venvSite(product, py), "dspy", "primitives", "runner.js")
	if !executable(deno) || !exists(theirs) { // the engine stub runs no DSPy
		return nil
	}
	cache := filepath.Join(dir, codeDir)
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return b.cannotWrite(err)
	}
	script := filepath.Join(cache, "runner.js")
	program, err := fs.ReadFile(python.Worker(), "dspex_worker/engines/dspy_engine/code_runner.py")
	if err != nil {
		return fmt.Errorf("reading the embedded runtime: %w", err)
	}
	write := []string{py.Executable, "-I", "-S", "-c", string(program), theirs, script}
	if tail, err := (command{argv: write, env: b.environ.installer(), dir: cache, lock: lock}).run(ctx, nil); err != nil {
		return &Error{Problem: "DSPy's interpreter cannot be set up: " + err.Error(), Output: tail, err: err}
	}
	surroundings := maps.Clone(b.environ)
	surroundings["DENO_DIR"], surroundings["DENO_NO_PACKAGE_JSON"], surroundings["DENO_NO_UPDATE_CHECK"], surroundings["NO_COLOR"] = cache, "1", "1", "1"
	argv := []string{deno, "cache", "--no-config", "--no-lock", "--node-modules-dir=none", script}
	s := b.progress.start("Pyodide, in which DSPy's interpreter runs code", argv)
	advice := newAdvice()
	tail, err := command{argv: argv, env: surroundings.installer(), dir: cache, lock: lock}.run(ctx, advice.take)
	s.end(err)
	if err != nil {
		return &Error{Problem: "Pyodide cannot be fetched from the npm registry: " + err.Error(), Hint: advice.hint(), Output: tail, err: err}
	}
	return nil
}
