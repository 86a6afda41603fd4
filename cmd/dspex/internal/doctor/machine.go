package doctor

import (
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/dspex/dspex/cmd/dspex/internal/cli"
	"github.com/dspex/dspex/internal/config"
	"github.com/dspex/dspex/internal/lm"
	"github.com/dspex/dspex/internal/pyenv"
)

// machine checks what needs no broker.
func (d *doctor) machine(ctx context.Context) {
	d.settings()
	d.secrets()
	d.python(ctx)
	d.environment(ctx)
	d.disks()
	d.limits()
	cpus := runtime.NumCPU()
	d.add("size", Note, "CPU-bound programs: about one worker a processor; programs that wait for models: 2 to 3, with many slots each",
		"%d processors: pool_size %d to %d", cpus, cpus, 3*cpus)
}

// settings checks the file of settings and the language models it names.
func (d *doctor) settings() {
	path, err := config.Find(d.app.Env(config.Variable(config.FileFlag)), ".")
	var file *config.File
	if err == nil {
		file, err = config.Read(path)
	}
	switch {
	case err != nil:
		for line := range strings.Lines(err.Error()) {
			d.add("settings", Wrong, "docs/config.md has every key", "%s", strings.TrimSpace(line))
		}
		return
	case path == "":
		d.add("settings", Note, "`dspex init` writes one", "no file of settings here: flags and variables count")
		return
	}
	d.fine("settings", "%s: %d settings", path, len(file.Settings))
	for _, w := range file.Warnings {
		d.add("settings", Warning, "", "%s", w)
	}
	for _, s := range file.Settings {
		if s.Flag == "python" {
			d.interpreter = s.Text
		}
		if slices.Contains(secretFlags, s.Flag) {
			d.secretFiles = append(d.secretFiles, s.Text)
		}
	}
	if i := slices.IndexFunc(file.Settings, func(s config.Setting) bool { return s.Flag == "lm" }); i >= 0 {
		d.models(file.Settings[i].Text)
	}
}

// models checks the language-model profiles: their form, and whether the keys they refer to are here.
func (d *doctor) models(profiles string) {
	f, err := lm.Load(profiles)
	if err == nil {
		_, err = lm.New(f, d.app.Env)
	}
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			d.add("models", Wrong, "docs/language-models.md", "%s", strings.TrimSpace(line))
		}
		return
	}
	d.secretFiles = append(d.secretFiles, f.SecretFiles()...)
	for name := range f.Profiles {
		d.profiles = append(d.profiles, name)
	}
	slices.Sort(d.profiles)
	d.fine("models", "profiles with their keys: %s", strings.Join(d.profiles, ", "))
}

// oldestPython is the oldest that workers run on.
var oldestPython = [2]int{3, 11}

func (d *doctor) python(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	name := cli.FirstOf(d.app.Env(config.Variable("python")), d.interpreter, "python3")
	d.interpreter = name
	out, err := exec.CommandContext(ctx, name, "-c", "import sys, json; print(json.dumps(list(sys.version_info[:3])))").Output() //nolint:gosec // the user's own interpreter
	var version [3]int
	if err == nil {
		err = json.Unmarshal(out, &version)
	}
	hint := "install Python 3.11 or newer, or name one with --python or $DSPEX_PYTHON"
	switch {
	case err != nil:
		d.add("python", Wrong, hint, "%s does not run: %v", name, err)
	case version[0] < oldestPython[0] || version[0] == oldestPython[0] && version[1] < oldestPython[1]:
		d.add("python", Wrong, hint, "%s is %d.%d.%d: it must be %d.%d or newer", name, version[0], version[1], version[2], oldestPython[0], oldestPython[1])
	default:
		d.fine("python", "%s is %d.%d.%d", name, version[0], version[1], version[2])
	}
	for _, name := range []string{pyenv.RequirementsFile, pyenv.ProjectFile} {
		if file := filepath.Join(d.path, name); exists(file) {
			d.fine("packages", "packages of your modules come from %s: `dspex env list` shows them", file)
			break
		}
	}
}
