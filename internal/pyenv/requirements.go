package pyenv

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// The files that report what packages the modules beside them need. The first that is there counts.
const (
	RequirementsFile = "requirements.txt"
	ProjectFile      = "pyproject.toml"
)

// requirement is one line of what a project needs.
type requirement struct {
	line   string   // as an installer takes it, with absolute paths
	name   string   // of a package, normalized; "" for options, paths and addresses
	extras []string // normalized
	spec   string   // the versions that suit, as after the name
	at     string   // where it stands: file and line
}

// pattern is a package's name, its extras, its versions and the marker that reports where it is needed.
var pattern = regexp.MustCompile(`^([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:\[([^\]]*)\])?\s*([^;]*?)\s*(?:;(.*))?$`)

var separators = regexp.MustCompile(`[-_.]+`)

// normal is a package's name as registries compare it.
func normal(name string) string { return strings.ToLower(separators.ReplaceAllString(name, "-")) }

// parseRequirement reads one line without its comment.
func parseRequirement(line, dir, at string) requirement {
	r := requirement{line: line, at: at}
	for _, flag := range []string{"-e ", "--editable ", "--editable=", "-c ", "--constraint ", "--constraint=", "-f ", "--find-links ", "--find-links="} {
		if rest, ok := strings.CutPrefix(line, flag); ok {
			r.line = strings.TrimRight(flag, " =") + " " + local(strings.TrimSpace(rest), dir)
			return r
		}
	}
	if strings.HasPrefix(line, "-") || strings.Contains(line, "://") && !strings.Contains(line, "@") {
		return r
	}
	if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "/") {
		r.line = local(line, dir)
		return r
	}
	text, _, _ := strings.Cut(line, " --") // hashes
	if m := pattern.FindStringSubmatch(text); m != nil {
		r.name, r.spec = normal(m[1]), m[3]
		for extra := range strings.SplitSeq(m[2], ",") {
			if extra = strings.TrimSpace(extra); extra != "" {
				r.extras = append(r.extras, normal(extra))
			}
		}
	}
	return r
}

// local makes a path absolute; addresses stay.
func local(path, dir string) string {
	if strings.Contains(path, "://") || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// includeDepth bounds files that include each other.
const includeDepth = 10

// readRequirements reads a requirements file with those that it includes, each line once.
func readRequirements(file string, depth int) ([]requirement, error) {
	if depth > includeDepth {
		return nil, fmt.Errorf("%s: its files include each other more than %d times", file, includeDepth)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var found []requirement
	dir, number := filepath.Dir(file), 0
	rest := strings.ReplaceAll(string(text), "\\\r\n", "\\\n")
	for line := range strings.Lines(strings.ReplaceAll(rest, "\\\n", " ")) {
		number++
		line = withoutComment(line)
		if line == "" {
			continue
		}
		if other, ok := included(line); ok {
			inner, err := readRequirements(local(other, dir), depth+1)
			if err != nil {
				return nil, err
			}
			found = append(found, inner...)
			continue
		}
		found = append(found, parseRequirement(line, dir, fmt.Sprintf("%s, line %d", filepath.Base(file), number)))
	}
	return found, nil
}

func withoutComment(line string) string {
	if strings.HasPrefix(strings.TrimSpace(line), "#") {
		return ""
	}
	line, _, _ = strings.Cut(line, " #")
	return strings.TrimSpace(line)
}

func included(line string) (string, bool) {
	for _, flag := range []string{"-r ", "--requirement ", "--requirement="} {
		if rest, ok := strings.CutPrefix(line, flag); ok {
			return strings.TrimSpace(rest), true
		}
	}
	return "", false
}

// readProject runs in the interpreter, which reads TOML.
const readProject = `
import json, sys, tomllib
with open(sys.argv[1], "rb") as file: found = tomllib.load(file)
json.dump(found.get("project", {}).get("dependencies", []), sys.stdout)
`

// projectDependencies are the dependencies of a pyproject.toml, without those of its groups and extras.
func (b *builder) projectDependencies(ctx context.Context, py interpreter, file string) ([]requirement, error) {
	ctx, cancel := context.WithTimeout(ctx, introduceTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, py.Executable, "-I", "-S", "-c", readProject, file)
	cmd.Env, cmd.WaitDelay = b.environ.installer(), time.Second
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var lines []string
	if err == nil {
		err = json.Unmarshal(out, &lines)
	}
	if err != nil {
		return nil, &Error{Problem: fmt.Sprintf("%s cannot be read: %s", file, lastLine(stderr.String(), err.Error())),
			Hint: "[project] dependencies must be a list of texts, such as [\"numpy>=2\"]", err: err}
	}
	var found []requirement
	for _, line := range lines {
		found = append(found, parseRequirement(strings.TrimSpace(line), filepath.Dir(file), filepath.Base(file)))
	}
	return found, nil
}

// requirementsOf finds what the modules in these directories need, and the files that report it.
func (b *builder) requirementsOf(ctx context.Context, py interpreter, dirs []string) (found []requirement, files []string, err error) {
	for _, dir := range dirs {
		if dir, err = filepath.Abs(dir); err != nil {
			return nil, nil, err
		}
		var more []requirement
		file := filepath.Join(dir, RequirementsFile)
		if _, missing := os.Stat(file); missing == nil {
			more, err = readRequirements(file, 0)
		} else if file = filepath.Join(dir, ProjectFile); exists(file) {
			more, err = b.projectDependencies(ctx, py, file)
		} else {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		if len(more) > 0 {
			found, files = append(found, more...), append(files, file)
		}
	}
	return found, files, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// beside leaves out what the product brings itself, and refuses other versions of it. An extra of such a package stands for what
// that package's metadata has: `dspy[deno]` for deno.
func beside(found []requirement, pins map[string]string, extra func(name, extra string) []string) ([]requirement, error) {
	var rest []requirement
	var wrong []string
	for _, r := range found {
		version, ours := pins[r.name]
		if !ours {
			rest = append(rest, r)
			continue
		}
		if !suits(version, r.spec) {
			wrong = append(wrong, fmt.Sprintf("%s: %s%s is required, dspex runs with %s %s", r.at, r.name, r.spec, r.name, version))
		}
		for _, name := range r.extras {
			for _, line := range extra(r.name, name) {
				rest = append(rest, parseRequirement(line, "", r.at))
			}
		}
	}
	if len(wrong) > 0 {
		return nil, &Error{Problem: "these packages are not available in the required versions:\n  " + strings.Join(wrong, "\n  "),
			Hint: "A worker has one version of each package. Leave the version open, or use a release of dspex with the one that you need."}
	}
	return rest, nil
}

// dependsOnExtra are the requirements of an installed package's extra, from its metadata.
func dependsOnExtra(site, name, extra string) []string {
	files, _ := filepath.Glob(filepath.Join(site, "*.dist-info", "METADATA")) // the pattern is well-formed
	for _, file := range files {
		dist, _, _ := strings.Cut(filepath.Base(filepath.Dir(file)), "-")
		if normal(dist) != name {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return nil
		}
		var found []string
		for line := range strings.Lines(string(text)) {
			rest, ok := strings.CutPrefix(strings.TrimSpace(line), "Requires-Dist: ")
			what, marker, _ := strings.Cut(rest, ";")
			if ok && slices.Contains(strings.FieldsFunc(marker, func(r rune) bool { return strings.ContainsRune(` "'()`, r) }), extra) {
				found = append(found, strings.TrimSpace(what))
			}
		}
		return found
	}
	return nil
}
