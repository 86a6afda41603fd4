package pyenv

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// Modules are the operator's own Python modules, as flags.
type Modules struct {
	Names []string
	Paths []string // directories of them; none: the working directory
	Env   []string // names of variables that they get from the host's surroundings
}

// Flags declares their flags.
func (m *Modules) Flags(f *pflag.FlagSet) {
	f.StringSliceVar(&m.Names, "import", nil, "Python module whose commands and programs become available; repeated, or separated by commas")
	f.StringSliceVar(&m.Paths, "path", nil, "directory of these modules (default: the working directory); repeated, or separated by commas")
	f.StringSliceVar(&m.Env, "env", nil, "name of a variable of the host's that workers get; all others stay out; repeated, or separated by commas")
}

// variable is what a shell takes for a name.
var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// Check reports everything that is wrong. env looks a variable up.
func (m Modules) Check(env func(string) string) error {
	var wrong []error
	if len(m.Paths) > 0 && len(m.Names) == 0 {
		wrong = append(wrong, errors.New("--path has no effect without --import"))
	}
	for _, path := range m.Paths {
		if info, err := os.Stat(path); err != nil || !info.IsDir() {
			wrong = append(wrong, fmt.Errorf("--path must be a directory, got %s", path))
		}
	}
	for _, name := range m.Env {
		if reason := refused(name, env); reason != "" {
			wrong = append(wrong, fmt.Errorf("--env must name a variable that is set and not dspex's own, got %q: %s", name, reason))
		}
	}
	return errors.Join(wrong...)
}

// refused is why a variable cannot be passed on, "" if it can.
func refused(name string, env func(string) string) string {
	switch {
	case strings.Contains(name, "="):
		return "a name is expected, whose value the host's surroundings have"
	case !variable.MatchString(name):
		return "it is no name of a variable"
	case strings.HasPrefix(name, "DSPEX_"), strings.HasPrefix(name, "PYTHON"), strings.HasPrefix(name, "LD_"), slices.Contains(ours, name):
		return "dspex sets it, or keeps it from workers"
	case env(name) == "":
		return "it is not set"
	}
	return ""
}

// ours are the variables that a worker finds set by dspex.
var ours = []string{"HOME", "PATH", "TMPDIR", "XDG_CACHE_HOME", "DSPY_CACHEDIR", "DENO_DIR"}

// Dirs are the directories that the workers need for them.
func (m Modules) Dirs() ([]string, error) {
	if len(m.Names) == 0 || len(m.Paths) > 0 {
		return m.Paths, nil
	}
	wd, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	return []string{wd}, nil
}

// List is Names as the workers receive them: never nil.
func (m Modules) List() []string { return append([]string{}, m.Names...) }
