package dspex_test

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// mostBackUp is how many references between the files of a package may run back up, of a hundred (ADR 68): the files have an order, and
// one refers to those below it.
const mostBackUp = 10

// reference is that a file uses what another one of its package declares, however often.
type reference struct{ from, to string }

func TestFilesOfAPackageReferDownwards(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}:{{.Dir}}:{{join .GoFiles ","}}`, "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		pkg := strings.TrimPrefix(strings.TrimPrefix(f[0], module), "/")
		all := references(t, f[1], strings.Split(f[2], ","))
		back := backUp(all)
		if most := (len(all)*mostBackUp - 1) / 100; len(back) > most {
			t.Errorf("%s: %d of %d references between its files run back up, at most %d may: %v", pkg, len(back), len(all), most, back)
		}
	}
}

// references reads which file of a package uses what another one declares. What comes from other packages is not looked up.
func references(t *testing.T, dir string, names []string) map[reference]bool {
	t.Helper()
	set := token.NewFileSet()
	var files []*ast.File
	for _, name := range names {
		if name == "" {
			continue
		}
		f, err := parser.ParseFile(set, filepath.Join(dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	check := types.Config{Importer: noImports{}, Error: func(error) {}}
	pkg, _ := check.Check(dir, set, files, info) // with errors: no import is there
	found := map[reference]bool{}
	for id, used := range info.Uses {
		if used.Pkg() != pkg || !used.Pos().IsValid() {
			continue
		}
		if r := (reference{set.File(id.Pos()).Name(), set.File(used.Pos()).Name()}); r.from != r.to {
			found[reference{filepath.Base(r.from), filepath.Base(r.to)}] = true
		}
	}
	return found
}

type noImports struct{}

func (noImports) Import(string) (*types.Package, error) { return nil, errors.New("not looked up") }

// backUp finds an order of the files in which few references run back up, and returns those. It moves one file after the other to where
// the fewest do, until no move is a gain, from each file's name in turn as the first; the least of all tries counts.
func backUp(all map[reference]bool) []reference {
	names := map[string]bool{}
	for r := range all {
		names[r.from], names[r.to] = true, true
	}
	sorted := slices.Sorted(maps.Keys(names))
	least := slices.Collect(maps.Keys(all))
	for i := range sorted {
		for _, reversed := range []bool{false, true} {
			order := slices.Concat(sorted[i:], sorted[:i])
			if reversed {
				slices.Reverse(order)
			}
			for moved := true; moved; {
				moved = false
				for _, name := range sorted {
					moved = place(order, name, all) || moved
				}
			}
			if back := against(order, all); len(back) < len(least) {
				least = back
			}
		}
	}
	slices.SortFunc(least, func(a, b reference) int { return strings.Compare(a.from+a.to, b.from+b.to) })
	return least
}

// place moves a file of an order, the highest first, to where the fewest references run back up. It reports whether that was a gain.
func place(order []string, name string, all map[reference]bool) bool {
	at := slices.Index(order, name)
	rest := slices.Delete(slices.Clone(order), at, at+1)
	number := 0 // of those that run back up with the file on top
	for _, other := range rest {
		number += one(all[reference{other, name}])
	}
	best, least, here := 0, number, number
	for i, other := range rest {
		number += one(all[reference{name, other}]) - one(all[reference{other, name}])
		if number < least {
			best, least = i+1, number
		}
		if i+1 == at {
			here = number
		}
	}
	copy(order, slices.Insert(rest, best, name))
	return least < here
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

func against(order []string, all map[reference]bool) []reference {
	var back []reference
	for r := range all {
		if slices.Index(order, r.from) > slices.Index(order, r.to) {
			back = append(back, r)
		}
	}
	return back
}
