package pyenv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// The interpreters that the lock was made for.
const (
	oldest = 11 // 3.11
	newest = 14 // 3.14
)

// interpreter is an interpreter's report about itself.
type interpreter struct {
	Version    string `json:"version"`
	Minor      [2]int `json:"minor"`
	Executable string `json:"executable"`
	Kind       string `json:"kind"`
	Platform   string `json:"platform"`
	ABI        string `json:"abi"`
	Tag        string `json:"tag"`
	Venv       bool   `json:"venv"`      // the modules venv and ensurepip are there
	VenvSite   string `json:"venv_site"` // set when the interpreter belongs to a virtual environment
}

// introduce also runs on interpreters that are far too old: they must be able to report it.
const introduce = `
import json, os, sys
v = sys.version_info
d = {"version": "%d.%d.%d" % tuple(v[:3]), "minor": list(v[:2]), "executable": sys.executable}
if v >= (3, 11):
    import importlib.util, sysconfig
    d["kind"] = sys.implementation.name
    d["platform"] = sysconfig.get_platform()
    d["abi"] = sysconfig.get_config_var("SOABI") or ""
    d["tag"] = sys.implementation.cache_tag
    d["venv"] = all(importlib.util.find_spec(m) is not None for m in ("venv", "ensurepip"))
    root = os.path.dirname(os.path.dirname(sys.executable))
    if os.path.exists(os.path.join(root, "pyvenv.cfg")):
        d["venv_site"] = sysconfig.get_path("purelib", "venv", vars={"base": root, "platbase": root})
sys.stdout.write(json.dumps(d))
`

// introduceTimeout bounds a program that is called python3 and does not answer.
const introduceTimeout = 30 * time.Second

func (b *builder) ask(ctx context.Context, path string) (interpreter, error) {
	ctx, cancel := context.WithTimeout(ctx, introduceTimeout)
	defer cancel()
	// Not -I: Python 2 does not have it. -E, -s and a root directory as cwd do the same here.
	cmd := exec.CommandContext(ctx, path, "-E", "-s", "-S", "-c", introduce)
	cmd.Dir, cmd.Env, cmd.WaitDelay = "/", b.environ.installer(), time.Second
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return interpreter{}, fmt.Errorf("it did not answer: %w", ctx.Err())
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return interpreter{}, fmt.Errorf("it does not run: %s", lastLine(string(exit.Stderr), err.Error()))
	}
	if err != nil {
		return interpreter{}, fmt.Errorf("it does not run: %w", err)
	}
	var py interpreter
	if err := json.Unmarshal(out, &py); err != nil || py.Executable == "" {
		return interpreter{}, errors.New("it does not answer like a Python interpreter")
	}
	return py, nil
}

// find returns the first interpreter that suits, or an error that has for each one tried the reason why it does not.
func (b *builder) find(ctx context.Context, suits func(interpreter) error) (interpreter, error) {
	names := []string{b.Python}
	if b.Python == "" || b.Python == "python3" {
		names = []string{"python3"}
		for minor := newest; minor >= oldest; minor-- {
			names = append(names, fmt.Sprintf("python3.%d", minor))
		}
	}
	var refused []string
	for _, name := range names {
		path, ok := b.environ.lookPath(name)
		if !ok {
			continue
		}
		py, err := b.ask(ctx, path)
		if ctx.Err() != nil {
			return interpreter{}, context.Cause(ctx)
		}
		if err == nil {
			err = suits(py)
		}
		if err == nil {
			return py, nil
		}
		refused = append(refused, fmt.Sprintf("%s: %v", path, err))
	}
	return interpreter{}, b.noPython(names, refused)
}

const howToInstall = "Install Python 3.11 or newer (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python; with uv: uv python install 3.13), or name one with --python."

func (b *builder) noPython(names, refused []string) error {
	switch {
	case len(refused) > 0 && strings.Contains(strings.Join(refused, " "), noVenv):
		return &Error{Problem: "Python is here, but cannot make a virtual environment:\n  " + strings.Join(refused, "\n  "),
			Hint: "Install the missing part (Debian, Ubuntu: apt install python3-venv), or install uv, which does without it."}
	case len(refused) > 0:
		return &Error{Problem: "no usable Python:\n  " + strings.Join(refused, "\n  "), Hint: howToInstall}
	case len(names) == 1:
		return &Error{Problem: fmt.Sprintf("the Python interpreter is to be %q, which is not an executable file here", b.Python), Hint: howToInstall}
	}
	return &Error{Problem: "no Python on the PATH: looked for " + strings.Join(names, ", "), Hint: howToInstall}
}

// recent refuses what the worker runtime cannot run on.
func (b *builder) recent(py interpreter) error {
	switch {
	case py.Minor[0] != 3 || py.Minor[1] < oldest:
		return fmt.Errorf("Python must be 3.%d or newer, got %s", oldest, py.Version)
	case py.Minor[1] > newest:
		return fmt.Errorf("Python must be at most 3.%d, the newest that the pinned packages support, got %s", newest, py.Version)
	case py.Kind != "cpython":
		return fmt.Errorf("the interpreter must be CPython, got %s", py.Kind)
	}
	return nil
}

const noVenv = "has no venv and ensurepip modules"

// usable also requests the means to make an environment.
func (b *builder) usable(py interpreter) error {
	if err := b.recent(py); err != nil {
		return err
	}
	if _, uv := b.uv(); !uv && !py.Venv {
		return fmt.Errorf("Python %s %s", py.Version, noVenv)
	}
	return nil
}

// uv returns the program if it may be used.
func (b *builder) uv() (string, bool) {
	if b.Installer == Pip {
		return "", false
	}
	return b.environ.lookPath("uv")
}

func lastLine(text, otherwise string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if last := strings.TrimSpace(lines[len(lines)-1]); last != "" {
		return last
	}
	return otherwise
}
