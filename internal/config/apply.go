package config

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// FileFlag names the file.
const FileFlag = "config"

// Flags declares the flags of the file and, for programs that run workers, of the preset.
func Flags(f *pflag.FlagSet, workers bool) {
	f.String(FileFlag, "", "file of settings (default: dspex.yaml or dspex.toml in the working directory)")
	if workers {
		f.String(PoolMode, "", "preset: development, test or production; all other settings override it")
	}
}

// keyNote is the annotation of a flag whose key stands in a section of the file.
const keyNote = "dspex key"

// InSection has these flags read their keys from a section of the file: those that other programs have under the same name, with another
// meaning. shared are the flags that mean the same everywhere.
func InSection(flags *pflag.FlagSet, section string, shared ...string) {
	flags.VisitAll(func(f *pflag.Flag) {
		if !slices.Contains(shared, f.Name) {
			f.Annotations = map[string][]string{keyNote: {section + "." + f.Name}}
		}
	})
}

// keyOf is the flag as settings name it.
func keyOf(f *pflag.Flag) string {
	if named := f.Annotations[keyNote]; len(named) > 0 {
		return named[0]
	}
	return f.Name
}

// natsFlags are those of the connection: their variables are the ones that the nats command line reads.
var natsFlags = map[string]string{
	"server": "NATS_URL", "user": "NATS_USER", "password-file": "NATS_PASSWORD_FILE", "creds": "NATS_CREDS", "nkey": "NATS_NKEY",
	"tls-ca": "NATS_CA", "tls-cert": "NATS_CERT", "tls-key": "NATS_KEY", "inbox-prefix": "NATS_INBOX_PREFIX",
}

// ownVariables have the names that the Elixir pool has.
var ownVariables = map[string]string{"test-mode": "TEST_MODE"}

// Variable is the environment variable of a flag, "" for --help and --version.
func Variable(flag string) string {
	if flag == "help" || flag == "version" {
		return ""
	}
	if name := natsFlags[flag]; name != "" {
		return name
	}
	if name := ownVariables[flag]; name != "" {
		return name
	}
	return "DSPEX_" + strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(flag))
}

// TellVariables adds each flag's variable to its help.
func TellVariables(flags *pflag.FlagSet) {
	flags.VisitAll(func(f *pflag.Flag) {
		if name := Variable(keyOf(f)); name != "" && !f.Hidden && !strings.Contains(f.Usage, "[$") {
			f.Usage += " [$" + name + "]"
		}
	})
}

// Set sets each flag that was not given from its variable, the file or the preset, and reports everything that is wrong with them. It
// returns the file, which is empty if there is none; what is right is set also if something else is wrong, so that a program can report
// what it finds in the same go. dir is where a file is looked for that is not named.
func Set(flags *pflag.FlagSet, env func(string) string, dir string) (*File, error) {
	wrong := fromEnvironment(flags, env)
	named := ""
	if f := flags.Lookup(FileFlag); f != nil {
		named = f.Value.String()
	}
	path, err := Find(named, dir)
	if err != nil {
		return &File{}, errors.Join(append(wrong, err)...)
	}
	file, err := Read(path)
	if err != nil {
		wrong = append(wrong, err)
	}
	wrong = append(wrong, fromFile(flags, file)...)
	wrong = append(wrong, fromPreset(flags)...)
	return file, errors.Join(wrong...)
}

func fromEnvironment(flags *pflag.FlagSet, env func(string) string) (wrong []error) {
	flags.VisitAll(func(f *pflag.Flag) {
		name := Variable(keyOf(f))
		if name == "" || f.Changed || f.Hidden {
			return
		}
		if text := env(name); text != "" {
			if err := flags.Set(f.Name, text); err != nil {
				wrong = append(wrong, fmt.Errorf("$%s %s", name, whyNot(err, f, text)))
			}
		}
	})
	return wrong
}

// whyNot is what a flag's own value finds wrong, where it has words for that.
func whyNot(err error, f *pflag.Flag, text string) string {
	if own := errors.Unwrap(err); own != nil && strings.HasPrefix(own.Error(), "must ") {
		return own.Error()
	}
	return fmt.Sprintf("must be a value of --%s (%s), got %q", f.Name, f.Value.Type(), text)
}

// fromFile sets what the file has for this program; what it has for others does not count here.
func fromFile(flags *pflag.FlagSet, file *File) (wrong []error) {
	own := map[string]*pflag.Flag{}
	flags.VisitAll(func(f *pflag.Flag) { own[keyOf(f)] = f })
	for _, s := range file.Settings {
		f := own[s.Flag]
		if f == nil || f.Changed || f.Hidden {
			continue
		}
		if err := flags.Set(f.Name, s.Text); err != nil {
			wrong = append(wrong, Problem{file.Path, s.At, fmt.Sprintf("%s must be a value of type %s, got %q", s.Key, f.Value.Type(), s.Text)})
		}
		file.counts = append(file.counts, s.Flag)
	}
	return wrong
}

// Locate gives what is wrong with a flag, in a line of err that begins with it, the place of the setting that set it.
func (f *File) Locate(err error) error {
	if err == nil || f == nil {
		return err
	}
	lines := strings.Split(err.Error(), "\n")
	for i, line := range lines {
		name, rest, _ := strings.Cut(strings.TrimPrefix(line, "--"), " ")
		at := slices.IndexFunc(f.Settings, func(s Setting) bool {
			return s.Flag[strings.LastIndexByte(s.Flag, '.')+1:] == strings.TrimSuffix(name, ":") && slices.Contains(f.counts, s.Flag)
		})
		if !strings.HasPrefix(line, "--") || at < 0 {
			continue
		}
		s := f.Settings[at]
		lines[i] = f.About(s, rest, s.Key+strings.TrimPrefix(name, strings.TrimSuffix(name, ":"))+" "+rest).Error()
	}
	if located := strings.Join(lines, "\n"); located != err.Error() {
		return errors.New(located)
	}
	return err
}

// Env is env with what the file has in place of variables that are not set.
func (f *File) Env(env func(string) string) func(string) string {
	return func(name string) string {
		if text := env(name); text != "" {
			return text
		}
		for _, s := range f.Settings {
			if Variable(s.Flag) == name {
				return s.Text
			}
		}
		return ""
	}
}

// KeyOf is a flag as the file spells it.
func (f *File) KeyOf(flag string) string {
	for _, s := range f.Settings {
		if s.Flag == flag {
			return s.Key
		}
	}
	return strings.ReplaceAll(flag, "-", "_")
}

func fromPreset(flags *pflag.FlagSet) []error {
	f := flags.Lookup(PoolMode)
	if f == nil || f.Value.String() == "" {
		return nil
	}
	mode := f.Value.String()
	if !slices.Contains(Modes, mode) {
		return []error{fmt.Errorf("pool_mode must be %s, got %q", list(Modes, "or"), mode)}
	}
	for flag, text := range presets(mode, runtime.NumCPU()) {
		if f := flags.Lookup(flag); f != nil && !f.Changed {
			if err := flags.Set(flag, text); err != nil {
				return []error{err}
			}
		}
	}
	return nil
}
