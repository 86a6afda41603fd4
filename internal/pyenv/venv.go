package pyenv

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// marker reports that an environment is whole; it is written last.
const marker = ".complete"

func venvPython(dir string) string { return filepath.Join(dir, "bin", "python") }

func venvSite(dir string, py interpreter) string {
	return filepath.Join(dir, "lib", fmt.Sprintf("python%d.%d", py.Minor[0], py.Minor[1]), "site-packages")
}

// complete reports whether dir is a whole environment whose interpreter still exists: its python is a link to one that the
// user may have removed.
func complete(dir, key string) bool {
	text, err := os.ReadFile(filepath.Join(dir, marker))
	return err == nil && strings.TrimSpace(string(text)) == key && executable(venvPython(dir))
}

// whole reports whether dir is a complete environment from which nothing was removed.
func whole(dir, key string, py interpreter) bool {
	return complete(dir, key) && missing(dir, venvSite(dir, py)) == ""
}

// make builds the environment in place (environments cannot be moved), under a lock.
func (b *builder) make(ctx context.Context, py interpreter, dir, key string) error {
	lock, err := acquire(ctx, dir+".lock", func() {
		b.progress.note("Another dspex is making the Python environment: waiting for it.")
	})
	if err != nil {
		return err
	}
	defer lock.Close()
	if whole(dir, key, py) {
		return nil
	}
	if gone := missing(dir, venvSite(dir, py)); gone != "" {
		b.progress.note("The Python environment is damaged, files are missing in " + gone + ": making it again.")
	} else if _, err := os.Stat(dir); err == nil {
		b.progress.note("The Python environment is not whole, an earlier setup was interrupted: starting again.")
	}
	if err := os.RemoveAll(dir); err != nil {
		return b.cannotWrite(err)
	}
	b.progress.note(fmt.Sprintf("Making the Python environment, once: Python %s (%s) in %s", py.Version, py.Executable, dir))
	if err := b.install(ctx, py, dir, lock); err != nil {
		return err
	}
	if err := b.probe(ctx, py, dir, lock); err != nil {
		return err
	}
	if err := writeContents(dir, venvSite(dir, py)); err != nil {
		return b.cannotWrite(err)
	}
	if err := writeMarker(dir, key); err != nil {
		return b.cannotWrite(err)
	}
	b.progress.note("The Python environment is ready.")
	return nil
}

func (b *builder) cannotWrite(err error) error {
	return &Error{Problem: "the Python environment cannot be written: " + err.Error(), Hint: "Check the space and the permissions in " + b.cache + ".", err: err}
}

func (b *builder) install(ctx context.Context, py interpreter, dir string, lock *os.File) error {
	uv, ok := b.uv()
	if b.Installer == UV && !ok {
		return &Error{Problem: "uv is not on the PATH", Hint: "Install uv, or leave the choice of the installer open."}
	}
	requirements := dir + ".txt"
	if err := os.WriteFile(requirements, b.lock, 0o644); err != nil {
		return b.cannotWrite(err)
	}
	venv := []string{py.Executable, "-I", "-m", "venv", dir}
	packages, from := pipInstall(dir), []string{"-r", requirements}
	if ok {
		venv = []string{uv, "venv", "--no-project", "--python", py.Executable, dir}
		packages = []string{uv, "pip", "sync", "--python", venvPython(dir), "--require-hashes", "--compile-bytecode", "--only-binary", ":all:"}
		from = []string{requirements}
	}
	if b.Wheelhouse != "" {
		wheels, err := filepath.Abs(b.Wheelhouse)
		if err != nil {
			return b.cannotWrite(err)
		}
		packages = append(packages, "--no-index", "--find-links", wheels)
	}
	if err := b.step(ctx, "Virtual environment", venv, lock, nil); err != nil {
		return err
	}
	return b.installPackages(ctx, append(packages, from...), lock)
}

func pipInstall(dir string) []string {
	return []string{venvPython(dir), "-I", "-m", "pip", "install", "--progress-bar", "off", "--no-deps", "--require-hashes", "--only-binary", ":all:"}
}

func (b *builder) installPackages(ctx context.Context, argv []string, lock *os.File) error {
	names := pinned(b.lock)
	title := fmt.Sprintf("%d packages, each checked against its hash", len(names))
	return b.step(ctx, title, argv, lock, counter(len(names)))
}

// step runs one program visibly. count, which may be nil, reads progress out of a line of its output.
func (b *builder) step(ctx context.Context, title string, argv []string, lock *os.File, count func(string) (done, total int, detail string)) error {
	s := b.progress.start(title, argv)
	c := command{argv: argv, env: b.environ.installer(), dir: b.cache, lock: lock}
	advice := newAdvice()
	tail, err := c.run(ctx, func(line string) {
		advice.take(line)
		if count != nil {
			s.update(count(line))
		}
	})
	s.end(err)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("making the Python environment: %w", err)
	}
	return &Error{Problem: fmt.Sprintf("setting up Python failed: %s: %v", filepath.Base(argv[0]), err), Hint: advice.hint(), Output: tail, err: err}
}

// pinned returns the names of the packages in a lock, each once.
func pinned(lock []byte) []string {
	var names []string
	seen := map[string]bool{}
	for line := range strings.Lines(string(lock)) {
		name, _, ok := strings.Cut(line, "==")
		if ok && name != "" && !strings.ContainsAny(name, " \t#") && !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names
}

// counter follows pip, which names each package as it comes to it. uv is silent until it is done.
func counter(total int) func(string) (int, int, string) {
	seen, detail := 0, ""
	return func(line string) (int, int, string) {
		switch words := strings.Fields(line); {
		case len(words) > 1 && words[0] == "Collecting":
			seen, detail = min(seen+1, total), strings.Trim(words[1], "(")
		case len(words) > 1 && words[0] == "Ignoring":
			seen = min(seen+1, total)
		case strings.HasPrefix(line, "Installing collected packages"):
			seen, detail = total, "unpacking and compiling"
		}
		return seen, total, detail
	}
}

// probe imports what a worker will import, in the way a worker does.
func (b *builder) probe(ctx context.Context, py interpreter, dir string, lock *os.File) error {
	if len(b.imports) == 0 {
		return nil
	}
	code := "import sys\nsys.path.append(sys.argv[1])\nimport importlib\nfor m in sys.argv[2:]: importlib.import_module(m)\n"
	argv := append([]string{venvPython(dir), "-I", "-S", "-X", "utf8", "-c", code, venvSite(dir, py)}, b.imports...)
	s := b.progress.start("First import of "+strings.Join(b.imports, ", "), nil)
	tail, err := command{argv: argv, env: b.environ.worker(b.cache, nil), dir: b.cache, lock: lock}.run(ctx, nil)
	s.end(err)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("making the Python environment: %w", err)
	}
	return &Error{Problem: "the packages are installed, but do not import: " + strings.Join(b.imports, ", "),
		Hint: "If a library of the system is missing, install it; the next start tries again.", Output: tail, err: err}
}

func writeMarker(dir, key string) error {
	tmp := filepath.Join(dir, marker+".tmp")
	if err := os.WriteFile(tmp, []byte(key+"\n"), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, marker))
}
