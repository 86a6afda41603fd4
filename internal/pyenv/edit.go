package pyenv

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Edit adds requirements to the requirements.txt of a directory, in the place of those of the same packages, and removes packages
// from it by name. undo brings the file back to what it was. Errors are *Error.
func Edit(dir string, add, remove []string) (undo func() error, err error) {
	file := filepath.Join(dir, RequirementsFile)
	old, readErr := os.ReadFile(file)
	if readErr != nil && !os.IsNotExist(readErr) {
		return nil, &Error{Problem: readErr.Error(), err: readErr}
	}
	if readErr != nil && exists(filepath.Join(dir, ProjectFile)) {
		return nil, &Error{Problem: "the packages of this directory are listed in its " + ProjectFile, Hint: "Edit the list [project] dependencies there, then run dspex env sync."}
	}
	lines := strings.Split(strings.TrimRight(string(old), "\n"), "\n")
	if lines, err = edited(lines, dir, add, remove); err != nil {
		return nil, err
	}
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		return nil, &Error{Problem: err.Error(), err: err}
	}
	return func() error {
		if readErr != nil {
			return os.Remove(file)
		}
		return os.WriteFile(file, old, 0o644)
	}, nil
}

func edited(lines []string, dir string, add, remove []string) ([]string, error) {
	gone := map[string]bool{}
	for _, name := range remove {
		name = normal(name)
		if !slices.ContainsFunc(lines, func(line string) bool { return named(line, dir) == name }) {
			return nil, &Error{Problem: fmt.Sprintf("%s is not in %s", name, RequirementsFile), Hint: "dspex env list shows what is."}
		}
		gone[name] = true
	}
	for _, line := range add {
		name := named(line, dir)
		if name == "" {
			return nil, &Error{Problem: fmt.Sprintf("%q must be a package, such as numpy or \"numpy>=2\"", line), Hint: "Paths, addresses and options go into " + RequirementsFile + " by hand; then run dspex env sync."}
		}
		gone[name] = true
	}
	kept := slices.DeleteFunc(lines, func(line string) bool { return line == "" && len(lines) == 1 || gone[named(line, dir)] })
	return append(kept, add...), nil
}

// named is the package that a line of a requirements file is about, "" if it is about none.
func named(line, dir string) string {
	if line = withoutComment(line); line == "" {
		return ""
	}
	return parseRequirement(line, dir, "").name
}
