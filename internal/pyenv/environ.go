package pyenv

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// environment is a set of variables.
type environment map[string]string

func newEnvironment(pairs []string) environment {
	e := environment{}
	for _, pair := range pairs {
		if name, value, ok := strings.Cut(pair, "="); ok && name != "" {
			e[name] = value
		}
	}
	return e
}

func (e environment) list() []string {
	out := make([]string, 0, len(e))
	for _, name := range slices.Sorted(maps.Keys(e)) {
		out = append(out, name+"="+e[name])
	}
	return out
}

// lookPath is exec.LookPath on this environment's PATH instead of the process's.
func (e environment) lookPath(name string) (string, bool) {
	if strings.ContainsRune(name, filepath.Separator) {
		path, err := filepath.Abs(name)
		return path, err == nil && executable(path)
	}
	for _, dir := range filepath.SplitList(e["PATH"]) {
		// A relative entry would make the answer depend on the working directory: as in os/exec, it does not count.
		if path := filepath.Join(dir, name); filepath.IsAbs(dir) && executable(path) {
			return path, true
		}
	}
	return "", false
}

// Executable reports whether a file can be run.
func Executable(path string) bool { return executable(path) }

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// redirecting variables would make an installer write elsewhere than into our environment.
var redirecting = []string{
	"VIRTUAL_ENV", "CONDA_PREFIX", "__PYVENV_LAUNCHER__", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_DRY_RUN", "PIP_NO_COMPILE",
	"PIP_REQUIREMENT", "PIP_CONSTRAINT", "PIP_PYTHON", "PIP_QUIET", "UV_TARGET", "UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_PROJECT_ENVIRONMENT", "UV_CONSTRAINT", "UV_OVERRIDE",
}

// installer is what installers see: everything (mirrors, proxies and certificates are the user's) but what would redirect
// them. Variables named PYTHON... change what an interpreter loads or whether it writes bytecode.
func (e environment) installer() []string {
	out := maps.Clone(e)
	for name := range out {
		if strings.HasPrefix(name, "PYTHON") || slices.Contains(redirecting, name) {
			delete(out, name)
		}
	}
	out["PYTHONNOUSERSITE"], out["PIP_DISABLE_PIP_VERSION_CHECK"], out["PIP_NO_INPUT"] = "1", "1", "1"
	return out.list()
}

// passed are the variables that a worker gets from its surroundings; none of them is meant for a secret of the user's.
var passed = []string{
	"HOME", "PATH", "LANG", "LANGUAGE", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
	"DSPEX_FAST_PATHS", // docs/workers.md
}

// Certificates are where the user has certificates of authorities that no system has.
func Certificates(env func(string) string) []string {
	var paths []string
	for _, name := range []string{"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"} {
		if path := env(name); path != "" {
			paths = append(paths, path)
		}
	}
	return paths
}

func (e environment) worker(cache string, more []string) []string {
	out := environment{
		"PYTHONNOUSERSITE": "1",
		// Without these two, importing litellm fetches a price list and reads a .env file above its install directory.
		"LITELLM_LOCAL_MODEL_COST_MAP": "True",
		"LITELLM_MODE":                 "PRODUCTION",
		"TQDM_DISABLE":                 "1",
		"TOKENIZERS_PARALLELISM":       "false",
		// A worker is one process of many: it must not take every core, nor a heap arena for each thread.
		"OMP_NUM_THREADS":  "1",
		"MALLOC_ARENA_MAX": "2",
		// Payloads of megabytes reuse memory. By default each buffer is mapped, faulted in page by page and unmapped: two thirds
		// of the time of a 1 MB call. The second number bounds what a worker keeps of the memory that it has freed.
		"MALLOC_MMAP_THRESHOLD_": "8388608",
		"MALLOC_TRIM_THRESHOLD_": "16777216",
		"DSPY_CACHEDIR":          filepath.Join(cache, "dspy"),
	}
	for name, value := range e {
		if slices.Contains(passed, name) || strings.HasPrefix(name, "LC_") || slices.Contains(more, name) {
			out[name] = value
		}
	}
	return out.list()
}

// boot puts the runtime first and the packages last, so that neither the operator's directories nor an installed package can
// stand in for the runtime or the standard library.
const boot = `import sys
sys.path[:] = [sys.argv[1], *sys.path, *sys.argv[2:]]
sys.argv[1:] = []
import runpy
runpy.run_module("dspex_worker", run_name="__main__")
`

// Command is the argument vector of a worker. -I and -S keep out the working directory, the user's site directory and
// everything that .pth files would run; so sys.path is spelled out.
func (e Env) Command() []string {
	argv := []string{e.Python, "-I", "-S", "-X", "faulthandler", "-X", "utf8", "-u", "-c", boot, e.RuntimeDir}
	if e.SitePackages != "" {
		argv = append(argv, e.SitePackages)
	}
	argv = append(argv, e.Paths...)
	for _, site := range e.Sites {
		if site != e.SitePackages {
			argv = append(argv, site)
		}
	}
	return argv
}

// set gives workers a variable.
func (e *Env) set(name, value string) {
	vars := newEnvironment(e.environ)
	vars[name] = value
	e.environ = vars.list()
}

// Init is the environment in INIT (contract/frame.md).
func (e Env) Init(config map[string]any) map[string]any {
	config["paths"], config["sites"] = append([]string{}, e.Paths...), append([]string{}, e.Sites...)
	return config
}

// Environ is the whole environment of a worker: what is allowed through from the surroundings, what keeps libraries quiet,
// and extra ("NAME=value"), which wins.
func (e Env) Environ(extra ...string) []string {
	out := newEnvironment(e.environ)
	maps.Copy(out, newEnvironment(extra))
	return out.list()
}
