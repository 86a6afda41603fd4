package pyenv

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func script(t *testing.T, path, body string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// says is a fake interpreter that introduces itself.
func says(json string) string { return "printf '%s' '" + json + "'" }

const (
	tooOld    = `{"version": "3.8.2", "minor": [3, 8], "executable": "/usr/bin/python3"}`
	tooNew    = `{"version": "3.15.0", "minor": [3, 15], "executable": "/usr/bin/python3", "kind": "cpython"}`
	otherKind = `{"version": "3.11.1", "minor": [3, 11], "executable": "/usr/bin/python3", "kind": "pypy", "venv": true}`
	bare      = `{"version": "3.12.1", "minor": [3, 12], "executable": "/usr/bin/python3", "kind": "cpython", "venv": false}`
	good      = `{"version": "3.13.1", "minor": [3, 13], "executable": "/opt/python3.13", "kind": "cpython", "venv": true, "tag": "cpython-313"}`
)

func TestPythonIsFoundOrTheErrorSaysWhatToInstall(t *testing.T) {
	for name, c := range map[string]struct {
		programs map[string]string // on the PATH
		python   string
		want     string   // version
		says     []string // of the error
	}{
		"none":                  {says: []string{"no Python on the PATH", "python3.14", "apt install python3"}},
		"named and missing":     {python: "python9", says: []string{`is to be "python9"`}},
		"too old":               {programs: map[string]string{"python3": says(tooOld)}, says: []string{"must be 3.11 or newer, got 3.8.2", "apt install python3"}},
		"too new":               {programs: map[string]string{"python3": says(tooNew)}, says: []string{"must be at most 3.14", "got 3.15.0"}},
		"not CPython":           {programs: map[string]string{"python3": says(otherKind)}, says: []string{"must be CPython, got pypy"}},
		"no venv":               {programs: map[string]string{"python3": says(bare)}, says: []string{"no venv and ensurepip", "apt install python3-venv"}},
		"no venv, but uv":       {programs: map[string]string{"python3": says(bare), "uv": "exit 1"}, want: "3.12.1"},
		"a shim":                {programs: map[string]string{"python3": "echo 'pyenv: python3: command not found' >&2; exit 127"}, says: []string{"does not run", "pyenv: python3"}},
		"something else":        {programs: map[string]string{"python3": "echo hello"}, says: []string{"does not answer like a Python"}},
		"old first, good later": {programs: map[string]string{"python3": says(tooOld), "python3.13": says(good)}, want: "3.13.1"},
		"named, no other tried": {python: "mypython", programs: map[string]string{"mypython": says(tooOld), "python3.13": says(good)}, says: []string{"mypython", "must be 3.11 or newer"}},
	} {
		t.Run(name, func(t *testing.T) {
			bin := t.TempDir()
			for program, body := range c.programs {
				script(t, filepath.Join(bin, program), body)
			}
			b, err := newBuilder(Config{Python: c.python, CacheDir: t.TempDir(), Environ: []string{"PATH=" + bin}})
			if err != nil {
				t.Fatal(err)
			}
			py, err := b.find(t.Context(), b.usable)
			if py.Version != c.want {
				t.Errorf("found %q, want %q (%v)", py.Version, c.want, err)
			}
			var e *Error
			if c.want == "" && !errors.As(err, &e) {
				t.Fatalf("got %v, want an *Error", err)
			}
			for _, text := range c.says {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("the error does not say %q:\n%v", text, err)
				}
			}
		})
	}
}

func TestSystemInstallsNothingAndTheStubEngineStarts(t *testing.T) {
	cache := t.TempDir()
	env, err := System(t.Context(), Config{CacheDir: cache})
	if err != nil {
		t.Fatal(err)
	}
	if venvs, _ := filepath.Glob(filepath.Join(cache, "venv-*")); len(venvs) > 0 || env.Key != "" {
		t.Errorf("an environment was made: %v %q", venvs, env.Key)
	}
	argv := env.Command()
	argv[indexOf(argv, boot)] = "import sys; sys.path.insert(0, sys.argv[1]); from dspex_worker import start; print(start.runtime_hash(), end='')"
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = env.Environ()
	if said, err := cmd.CombinedOutput(); err != nil || string(said) != env.RuntimeHash {
		t.Errorf("the worker says of itself %s (%v), we say %s", said, err, env.RuntimeHash)
	}
	info, err := os.Stat(filepath.Join(env.RuntimeDir, "dspex_worker", "__init__.py"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := System(t.Context(), Config{CacheDir: cache}); err != nil {
		t.Fatal(err)
	}
	if later, _ := os.Stat(filepath.Join(env.RuntimeDir, "dspex_worker", "__init__.py")); !os.SameFile(info, later) {
		t.Error("the runtime was written again")
	}
}

func TestADamagedRuntimeIsWrittenAgain(t *testing.T) {
	cache := t.TempDir()
	env, err := System(t.Context(), Config{CacheDir: cache})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(env.RuntimeDir, "dspex_worker", "protocol", "wire.py")); err != nil {
		t.Fatal(err)
	}
	if env, err = System(t.Context(), Config{CacheDir: cache}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(env.RuntimeDir, "dspex_worker", "protocol", "wire.py")); err != nil {
		t.Error(err)
	}
}

func TestSystemTakesAVirtualEnvironmentsPackagesAlong(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "venv")
	if out, err := exec.Command("python3", "-m", "venv", "--without-pip", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	env, err := System(t.Context(), Config{Python: filepath.Join(dir, "bin", "python"), CacheDir: t.TempDir(), Paths: []string{"/srv/mine"}})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(env.SitePackages, dir) {
		t.Errorf("site packages %q, want those below %s", env.SitePackages, dir)
	}
	if argv := env.Command(); !slices.Equal(argv[len(argv)-3:], []string{env.RuntimeDir, env.SitePackages, "/srv/mine"}) {
		t.Errorf("argv %q", argv)
	}
}

func TestAWorkerGetsNoSecretOfItsSurroundings(t *testing.T) {
	env, err := System(t.Context(), Config{CacheDir: t.TempDir(), Environ: append(os.Environ(), "OPENAI_API_KEY=sk-x", "PYTHONPATH=/x", "LC_ALL=C", "AWS_SECRET_ACCESS_KEY=y", "DSPEX_FAST_PATHS=none")})
	if err != nil {
		t.Fatal(err)
	}
	got := newEnvironment(env.Environ("DSPEX_NONCE=1", "TQDM_DISABLE=0"))
	for _, name := range []string{"OPENAI_API_KEY", "PYTHONPATH", "AWS_SECRET_ACCESS_KEY"} {
		if _, ok := got[name]; ok {
			t.Errorf("%s was passed on", name)
		}
	}
	for name, want := range map[string]string{"LC_ALL": "C", "DSPEX_NONCE": "1", "DSPEX_FAST_PATHS": "none", "TQDM_DISABLE": "0", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONNOUSERSITE": "1"} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
}

func TestAPythonOfTheModulesEnvironmentFindsTheProductsPackages(t *testing.T) {
	site := t.TempDir()
	file := filepath.Join(site, "dspex.pth")
	for _, product := range []string{"/one", "/one", "/other"} {
		if err := withProduct(site, product); err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(file); err != nil || string(text) != product+"\n" {
			t.Errorf("%q %v", text, err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(site, ".dspex-*")); len(left) > 0 {
		t.Errorf("%q are left", left)
	}
}

func TestWhereInstallsInPlaceAndPathFilesLeadIsKnown(t *testing.T) {
	site, project, plain := t.TempDir(), t.TempDir(), t.TempDir()
	info := filepath.Join(site, "mine-1.dist-info")
	if err := os.Mkdir(info, 0o755); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{
		filepath.Join(info, "direct_url.json"): `{"dir_info": {"editable": true}, "url": "file://` + project + `"}`,
		filepath.Join(site, "a.pth"):           "# a comment\nimport something\n" + plain + "\n/not/there\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env := Env{Python: "python3", RuntimeDir: "/r", SitePackages: "/s", Paths: []string{"/mine"}}
	env.withSite(site)
	if !slices.Equal(env.Read, []string{plain, project}) {
		t.Errorf("leads to %q", env.Read)
	}
	if argv := env.Command(); !slices.Equal(argv[len(argv)-4:], []string{"/r", "/s", "/mine", site}) {
		t.Errorf("argv %q", argv)
	}
	if got := env.Init(map[string]any{})["sites"]; !slices.Equal(got.([]string), []string{site}) {
		t.Errorf("INIT has the sites %v", got)
	}
}
