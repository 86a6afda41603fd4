package pyenv

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dspex/dspex/python"
)

// withRequirements takes along what the modules' own files request, from an environment that is made for exactly that: beside the
// product's, which is never changed. The product's packages come first on sys.path, and its pins bind those of the modules.
func (b *builder) withRequirements(ctx context.Context, env *Env, py interpreter) error {
	found, files, err := b.requirementsOf(ctx, py, b.Paths)
	if err != nil || len(files) == 0 {
		return err
	}
	if py.VenvSite != "" {
		b.progress.note(fmt.Sprintf("The packages of %s count, %s is not looked at.", filepath.Dir(filepath.Dir(py.Executable)), strings.Join(files, " and ")))
		return nil
	}
	pins := pinsOf(b.lock)
	found, err = beside(found, pins, func(name, extra string) []string { return dependsOnExtra(env.SitePackages, name, extra) })
	if err != nil || len(found) == 0 {
		return err
	}
	if slices.ContainsFunc(found, func(r requirement) bool { return r.name == "litellm" }) {
		pins = pinsOf(python.LitellmLock) // only versions that are trusted
	}
	u := userEnv{b: b, py: py, requirements: textOf(found), pins: pinText(pins), files: files, packages: len(found)}
	dir, err := u.ensure(ctx)
	if err != nil {
		return err
	}
	if env.SitePackages != "" {
		if err := withProduct(venvSite(dir, py), env.SitePackages); err != nil {
			return b.cannotWrite(err)
		}
	}
	env.withSite(venvSite(dir, py))
	env.User = dir
	env.Read = append(env.Read, dir)
	env.set("PATH", filepath.Join(dir, "bin")+string(filepath.ListSeparator)+b.environ["PATH"])
	if interpreter := filepath.Join(dir, codeDir); exists(interpreter) {
		env.set("DENO_DIR", interpreter)
		env.set("DENO_NO_UPDATE_CHECK", "1")
	}
	return nil
}

// userEnv is the environment of some modules' packages.
type userEnv struct {
	b            *builder
	py           interpreter
	requirements string
	pins         string
	files        []string
	packages     int
}

func (u *userEnv) key() string {
	h := sha256.New()
	for _, part := range []string{layout, u.requirements, u.pins, u.py.Version, u.py.Platform, u.py.ABI} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// ensure makes the environment unless it is there and whole.
func (u *userEnv) ensure(ctx context.Context) (string, error) {
	key := u.key()
	dir := filepath.Join(u.b.cache, "user-"+key)
	if whole(dir, key, u.py) {
		return dir, nil
	}
	lock, err := acquire(ctx, dir+".lock", func() { u.b.progress.note("Another dspex is installing the modules' packages: waiting for it.") })
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if whole(dir, key, u.py) {
		return dir, nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", u.b.cannotWrite(err)
	}
	u.b.progress.note(fmt.Sprintf("Installing the packages of %s, once, in %s", strings.Join(u.files, " and "), dir))
	if err := u.install(ctx, dir, lock); err != nil {
		return "", err
	}
	if err := u.b.withCode(ctx, u.py, dir, lock); err != nil {
		return "", err
	}
	if err := writeContents(dir, venvSite(dir, u.py)); err != nil {
		return "", u.b.cannotWrite(err)
	}
	if err := writeMarker(dir, key); err != nil {
		return "", u.b.cannotWrite(err)
	}
	return dir, nil
}

func (u *userEnv) install(ctx context.Context, dir string, lock *os.File) error {
	wanted, pins := dir+".txt", dir+"-pins.txt"
	for path, text := range map[string]string{wanted: u.requirements, pins: u.pins} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return u.b.cannotWrite(err)
		}
	}
	venv := []string{u.py.Executable, "-I", "-m", "venv", dir}
	packages := []string{venvPython(dir), "-I", "-m", "pip", "install", "--progress-bar", "off", "--constraint", pins, "--requirement", wanted}
	if uv, ok := u.b.uv(); ok {
		venv = []string{uv, "venv", "--no-project", "--python", u.py.Executable, dir}
		packages = []string{uv, "pip", "install", "--python", venvPython(dir), "--compile-bytecode", "--constraint", pins, "--requirement", wanted}
	}
	if u.b.Wheelhouse != "" {
		packages = append(packages, "--no-index", "--find-links", u.b.Wheelhouse)
	}
	if err := u.b.step(ctx, "Virtual environment", venv, lock, nil); err != nil {
		return err
	}
	title := fmt.Sprintf("%d packages and what they need", u.packages)
	if u.packages == 1 {
		title = "1 package and what it needs"
	}
	return u.b.step(ctx, title, packages, lock, collecting(u.packages))
}

// collecting follows pip through packages whose number it finds out on the way.
func collecting(least int) func(string) (int, int, string) {
	seen, detail := 0, ""
	return func(line string) (int, int, string) {
		switch words := strings.Fields(line); {
		case len(words) > 1 && words[0] == "Collecting":
			seen, detail = seen+1, words[1]
		case strings.HasPrefix(line, "Installing collected packages"):
			detail = "unpacking and compiling"
		}
		return seen, max(least, seen), detail
	}
}

// pinsOf are the versions of a lock, by name.
func pinsOf(lock []byte) map[string]string {
	pins := map[string]string{}
	for line := range strings.Lines(string(lock)) {
		name, rest, ok := strings.Cut(line, "==")
		if !ok || name == "" || strings.ContainsAny(name, " \t#") {
			continue
		}
		pins[normal(name)] = strings.FieldsFunc(rest, func(r rune) bool { return strings.ContainsRune(" ;\\\r\n", r) })[0]
	}
	return pins
}

func pinText(pins map[string]string) string {
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(pins)) {
		fmt.Fprintf(&text, "%s==%s\n", name, pins[name])
	}
	return text.String()
}

func textOf(found []requirement) string {
	var text strings.Builder
	for _, r := range found {
		text.WriteString(r.line + "\n")
	}
	return text.String()
}

// Package is one that is installed.
type Package struct {
	Name, Version string
}

// Packages are those of an environment's directory of packages, by name; what makes environments is left out.
func Packages(site string) []Package {
	dirs, _ := filepath.Glob(filepath.Join(site, "*.dist-info")) // the pattern is well-formed
	var found []Package
	for _, dir := range dirs {
		name, version, ok := strings.Cut(strings.TrimSuffix(filepath.Base(dir), ".dist-info"), "-")
		if ok && name != "pip" && name != "setuptools" {
			found = append(found, Package{normal(name), version})
		}
	}
	slices.SortFunc(found, func(a, b Package) int { return strings.Compare(a.Name, b.Name) })
	return found
}

// ShellPath is the PATH of a shell in which `python` is the modules' environment, or the product's where they have none.
func (e Env) ShellPath(path string) string {
	bin := filepath.Dir(e.Python)
	if e.User != "" {
		bin = filepath.Join(e.User, "bin")
	}
	return bin + string(filepath.ListSeparator) + path
}

// ShellPythonPath is what such a python finds besides its own packages, in the order of a worker.
func (e Env) ShellPythonPath() string {
	return strings.Join(append(append([]string{e.RuntimeDir, e.SitePackages}, e.Paths...), e.Sites...), string(filepath.ListSeparator))
}

// Deno is where Deno finds Pyodide, "" where it is not installed.
func (e Env) Deno() string { return newEnvironment(e.environ)["DENO_DIR"] }
