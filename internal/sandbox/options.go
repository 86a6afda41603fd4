package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"
)

// auto is the level of those who choose none: User where the machine can give it.
const auto = "auto"

// Options are what the people who run a host may choose. The zero value is the default.
type Options struct {
	Level string // "" is auto
	Min   string // "" is none
	Read  []string
	Write []string
}

// Flags defines a flag for each option.
func (o *Options) Flags(f *pflag.FlagSet) {
	f.StringVar(&o.Level, "sandbox", auto, "what workers are kept from: none, user or strict; auto is user where the machine can give it")
	f.StringVar(&o.Min, "sandbox-min", None.String(), "refuse to start with less: none, user or strict")
	f.StringSliceVar(&o.Read, "sandbox-read", nil, "file or directory that sandboxed workers may read, besides their modules and packages; repeated, or separated by commas")
	f.StringSliceVar(&o.Write, "sandbox-write", nil, "directory that sandboxed workers may read and write; repeated, or separated by commas")
}

// Check reports everything that is wrong, also that this machine cannot give the level that is requested.
func (o Options) Check() error {
	_, _, err := o.resolve()
	wrong := []error{err}
	for _, path := range o.Read {
		if _, err := os.Stat(path); err != nil {
			wrong = append(wrong, fmt.Errorf("--sandbox-read must be a file or directory that is there, got %q", path))
		}
	}
	for _, path := range o.Write {
		if info, err := os.Stat(path); err != nil || !info.IsDir() {
			wrong = append(wrong, fmt.Errorf("--sandbox-write must be a directory that is there, got %q", path))
		}
	}
	return errors.Join(wrong...)
}

// resolve chooses the level. lacks is why it is none where auto would have liked more.
func (o Options) resolve() (l Level, lacks, err error) {
	least, err := parse("sandbox-min", or(o.Min, None.String()))
	if err != nil {
		return None, nil, err
	}
	if or(o.Level, auto) == auto {
		l = max(User, least)
		if lacks = missing(l); lacks == nil || least == None {
			if lacks != nil {
				l = None
			}
			return l, lacks, nil
		}
		return None, nil, refusal("sandbox-min", least, lacks)
	}
	if l, err = parse("sandbox", o.Level); err != nil {
		return None, nil, fmt.Errorf("%w (or auto)", err)
	}
	if l < least {
		return None, nil, fmt.Errorf("--sandbox must be at least %s, the level of --sandbox-min, got %s", least, l)
	}
	if lacks := missing(l); lacks != nil {
		return None, nil, refusal("sandbox", l, lacks)
	}
	return l, nil, nil
}

func refusal(flag string, l Level, lacks error) error {
	return fmt.Errorf("--%s must be a level that this machine supports, got %s: %w", flag, l, lacks)
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// absolute makes paths independent of the working directory, and follows their links.
func absolute(paths []string) ([]string, error) {
	found := make([]string, 0, len(paths))
	for _, path := range paths {
		full, err := filepath.Abs(path)
		if err == nil {
			full, err = filepath.EvalSymlinks(full)
		}
		if err != nil {
			return nil, err
		}
		found = append(found, full)
	}
	return found, nil
}
