package mutants

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// edit changes one function of internal/, wherever it stands in its package: "lifecycle.record.fences" is the method fences of the
// type record. If old is empty new is its whole body: a mutant that decides something else. Else old stands in it exactly once.
type edit struct{ function, old, new string }

// decides is the edit after which a function decides something else.
func decides(function, body string) edit { return edit{function, "", body} }

// split returns the directory of the function's package, and its name there.
func (e edit) split() (dir, name string) {
	at := strings.LastIndex(e.function, "/") + 1
	pkg, name, _ := strings.Cut(e.function[at:], ".")
	return filepath.Join(root, "internal", e.function[:at]+pkg), name
}

// apply returns the files that the mutant changes, by their paths.
func (m mutant) apply() (changed map[string][]byte, err error) {
	changed = map[string][]byte{}
	for _, e := range m.edits {
		if err := e.apply(changed); err != nil {
			return nil, fmt.Errorf("%s: %w", e.function, err)
		}
	}
	return changed, nil
}

func (e edit) apply(changed map[string][]byte) error {
	dir, name := e.split()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return err
	}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		text, edited := changed[path]
		if !edited {
			if text, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		from, to, found, err := body(path, text, name)
		if err != nil {
			return err
		}
		if !found {
			continue
		}
		now := []byte("\n" + e.new + "\n")
		if e.old != "" {
			if n := bytes.Count(text[from:to], []byte(e.old)); n != 1 {
				return fmt.Errorf("the text to replace stands in it %d times, want once:\n%s", n, e.old)
			}
			now = bytes.Replace(text[from:to], []byte(e.old), []byte(e.new), 1)
		}
		changed[path] = slices.Concat(text[:from], now, text[to:])
		return nil
	}
	return errors.New("there is no such function")
}

// body is where the function's body stands in the text, without its braces.
func body(path string, text []byte, name string) (from, to int, found bool, err error) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, text, parser.SkipObjectResolution)
	if err != nil {
		return 0, 0, false, err
	}
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil && receiver(f)+f.Name.Name == name {
			return set.Position(f.Body.Lbrace).Offset + 1, set.Position(f.Body.Rbrace).Offset, true, nil
		}
	}
	return 0, 0, false, nil
}

// receiver is the method's type and a dot, "" of a function.
func receiver(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return ""
	}
	of := f.Recv.List[0].Type
	if star, ok := of.(*ast.StarExpr); ok {
		of = star.X
	}
	if name, ok := of.(*ast.Ident); ok {
		return name.Name + "."
	}
	return ""
}

// packages are those that mutants change.
func packages() []string {
	dirs := map[string]bool{}
	for _, m := range mutants {
		for _, e := range m.edits {
			dir, _ := e.split()
			dirs[dir] = true
		}
	}
	return slices.Sorted(maps.Keys(dirs))
}

// source is what the type checker needs to read a package again.
type source struct {
	files  map[string][]string // directory -> the files that are built
	paths  map[string]string   // directory -> import path
	others types.Importer
}

// load reads from go list what there is.
func load(t *testing.T) *source {
	t.Helper()
	s, exports := &source{files: map[string][]string{}, paths: map[string]string{}}, map[string]string{}
	where, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	list := exec.Command("go", append([]string{"list", "-export", "-deps", "-f", "{{.ImportPath}}\t{{.Export}}\t{{.Dir}}\t{{join .GoFiles \" \"}}"}, packages()...)...)
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		exports[f[0]] = f[1]
		if dir, ok := strings.CutPrefix(f[2], where); ok {
			s.files[root+dir], s.paths[root+dir] = strings.Fields(f[3]), f[0]
		}
	}
	s.others = importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	return s
}

// check reads the packages with the changed files in them.
func (s *source) check(changed map[string][]byte) error {
	dirs := map[string]bool{}
	for path := range changed {
		dirs[filepath.Dir(path)] = true
	}
	for dir := range dirs {
		set := token.NewFileSet()
		var files []*ast.File
		for _, name := range s.files[dir] {
			var text any
			if now, ok := changed[filepath.Join(dir, name)]; ok {
				text = now
			}
			f, err := parser.ParseFile(set, filepath.Join(dir, name), text, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			files = append(files, f)
		}
		if _, err := (&types.Config{Importer: s.others}).Check(s.paths[dir], set, files, nil); err != nil {
			return err
		}
	}
	return nil
}

// ofCore reports whether the mutant changes something that the core is made of.
func (m mutant) ofCore(t *testing.T) bool {
	t.Helper()
	out, err := exec.Command("go", "list", "-deps", "-f", "{{.Dir}}", core).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range m.edits {
		dir, _ := e.split()
		whole, err := filepath.Abs(dir)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(strings.Split(string(out), "\n"), whole) {
			return true
		}
	}
	return len(m.edits) == 0
}
