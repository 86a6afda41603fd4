package lm

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// KeyRefs are the references to keys, env:NAME or file:PATH, that set_lm may name beside the usual one of the model's provider.
// NAME alone is env:NAME.
type KeyRefs []string

// Flags declares their flags.
func (k *KeyRefs) Flags(f *pflag.FlagSet) {
	f.StringSliceVar((*[]string)(k), "allow-key-refs", nil, "variable (NAME) or file (file:PATH) with a key that set_lm may refer to, beside the usual one of the model's provider; repeated, or separated by commas")
}

// Files are the files among them.
func (k KeyRefs) Files() []string { return filesOf(k) }

func filesOf(refs []string) []string {
	var files []string
	for _, ref := range refs {
		if path, ok := strings.CutPrefix(ref, "file:"); ok {
			files = append(files, path)
		}
	}
	slices.Sort(files)
	return slices.Compact(files)
}

// variable is what a shell takes for a name.
var variable = regexp.MustCompile(`^(env:)?[A-Za-z_][A-Za-z0-9_]*$`)

// Allow lets set_lm name these references. It reports everything that is wrong with them, at once.
func (r *Registry) Allow(refs KeyRefs) error {
	allowed, wrong := map[string]bool{}, []error{}
	for _, ref := range refs {
		switch file := strings.HasPrefix(ref, "file:"); {
		case !file && !variable.MatchString(ref):
			// What else it may be is not repeated: perhaps the key itself.
			wrong = append(wrong, errors.New("--allow-key-refs must be names of variables or file:PATH, got something else"))
			continue
		case !file:
			ref = "env:" + strings.TrimPrefix(ref, "env:")
		}
		secret, err := r.secret(ref)
		if err == nil && secret == "" {
			err = errors.New("the value must not be empty")
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("--allow-key-refs must name keys that are there, got %s: %w", ref, err))
		}
		allowed[ref] = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.allowed = allowed
	return errors.Join(wrong...)
}

// mayName are the references that set_lm may name for a model whose usual one is given, "" if it has none.
func (r *Registry) mayName(usual string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var refs []string
	for ref := range r.allowed {
		refs = append(refs, ref)
	}
	if usual != "" && !r.allowed[usual] {
		refs = append(refs, usual)
	}
	slices.Sort(refs)
	return refs
}

// SecretFiles are the files that hold keys of the profiles.
func (f File) SecretFiles() []string {
	var refs []string
	for _, p := range f.Profiles {
		refs = append(refs, p.APIKey)
	}
	return filesOf(refs)
}
