package pyenv

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/pflag"
)

// Modules are the operator's own Python modules, as flags.
type Modules struct {
	Names []string
	Paths []string // directories of them; none: the working directory
}

// Flags declares what the operator can say of them.
func (m *Modules) Flags(f *pflag.FlagSet) {
	f.StringSliceVar(&m.Names, "import", nil, "Python module whose commands and programs become available; repeated, or separated by commas")
	f.StringSliceVar(&m.Paths, "path", nil, "directory of these modules (default: the working directory); repeated, or separated by commas")
}

// Check says all that is wrong.
func (m Modules) Check() error {
	var wrong []error
	if len(m.Paths) > 0 && len(m.Names) == 0 {
		wrong = append(wrong, errors.New("--path has no effect without --import"))
	}
	for _, path := range m.Paths {
		if info, err := os.Stat(path); err != nil || !info.IsDir() {
			wrong = append(wrong, fmt.Errorf("--path %s is no directory", path))
		}
	}
	return errors.Join(wrong...)
}

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

// List is Names as the workers are told them: never nil.
func (m Modules) List() []string { return append([]string{}, m.Names...) }
