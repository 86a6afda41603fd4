package pyenv

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/dspex/dspex/python"
)

// Installers that Config.Installer can request.
const (
	UV  = "uv"
	Pip = "pip"
)

// Config is what to make. The zero value is the product's own environment, made in silence.
type Config struct {
	Python     string   // interpreter to use: a name on the PATH or a path; "" or "python3" also tries python3.14 to python3.11
	CacheDir   string   // "" is dspex in the user's cache directory
	Lock       []byte   // what to install, in the form of a requirements file with hashes; nil is the worker's lock
	Imports    []string // modules that must import afterwards; nil with a nil Lock is dspy and msgspec
	Litellm    bool     // also install the optional litellm engine: another environment, from its own lock
	Installer  string   // UV or Pip; "" is uv when it is on the PATH, else pip
	Wheelhouse string   // a directory of wheels: install from it alone, without a network
	// Paths are directories for the operator's own modules, after everything else on sys.path. With them, an interpreter that
	// belongs to a virtual environment brings that environment's packages along, behind the product's own; with any other, what the
	// modules' requirements.txt or pyproject.toml requests is installed.
	Paths    []string
	Pass     []string  // names of variables that workers get from the surroundings, besides the usual
	Environ  []string  // the surrounding environment; nil is os.Environ()
	Progress io.Writer // what is going on, for people; nil is silence
}

// Env is a place in which workers can start.
type Env struct {
	Python       string   // the interpreter
	Version      string   // its version, such as 3.12.4
	RuntimeDir   string   // holds the package dspex_worker
	RuntimeHash  string   // SHA-256 of the runtime's source, hexadecimal, as a worker reports it in HELLO
	SitePackages string   // holds the installed packages; "" when there are none
	Key          string   // names the environment; "" when it is not ours
	OwnVenv      bool     // the interpreter belongs to a virtual environment of the user's
	User         string   // the environment that was made for the modules' packages; "" when there is none
	Paths        []string // the operator's own directories
	Sites        []string // where the packages are that the operator's modules need
	Read         []string // directories outside of all these to which .pth files and installs in place lead

	environ []string // allow-listed, without what Environ adds for this process
}

// builder is one call's view of the configuration and the machine.
type builder struct {
	Config
	cache    string
	lock     []byte
	imports  []string
	environ  environment
	progress *progress
}

func newBuilder(cfg Config) (*builder, error) {
	b := &builder{Config: cfg, cache: cfg.CacheDir, lock: cfg.Lock, imports: cfg.Imports}
	if cfg.Installer != "" && cfg.Installer != UV && cfg.Installer != Pip {
		return nil, &Error{Problem: fmt.Sprintf("unknown installer %q", cfg.Installer), Hint: "it is uv, pip or empty"}
	}
	if cfg.Environ == nil {
		b.environ = newEnvironment(os.Environ())
	} else {
		b.environ = newEnvironment(cfg.Environ)
	}
	if b.lock == nil {
		b.lock = python.WorkerLock
		if b.imports == nil {
			b.imports = []string{"dspy", "msgspec"}
		}
	}
	if cfg.Litellm {
		b.lock = python.LitellmLock // holds the worker's
		b.imports = append(slices.Clone(b.imports), "litellm")
	}
	if b.cache == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return nil, &Error{Problem: "there is no cache directory: " + err.Error(), Hint: "set HOME or XDG_CACHE_HOME to a directory that can be written", err: err}
		}
		b.cache = filepath.Join(base, "dspex")
	}
	cache, err := filepath.Abs(b.cache)
	if err == nil {
		err = os.MkdirAll(cache, 0o755)
	}
	if err != nil {
		return nil, &Error{Problem: "the cache directory cannot be made: " + err.Error(), Hint: "set XDG_CACHE_HOME to a directory that can be written", err: err}
	}
	b.cache = cache
	b.progress = newProgress(cfg.Progress, b.environ)
	return b, nil
}

// layout is part of the key: a change in how environments are made must not meet old ones.
const layout = "1"

func (b *builder) key(py interpreter) string {
	h := sha256.New()
	for _, part := range [][]byte{[]byte(layout), b.lock, []byte(py.Version), []byte(py.Platform), []byte(py.ABI)} {
		fmt.Fprintf(h, "%d:", len(part))
		h.Write(part)
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

func (b *builder) env(py interpreter) Env {
	return Env{Version: py.Version, Paths: slices.Clone(b.Paths), environ: b.environ.worker(b.cache, b.Pass)}
}
