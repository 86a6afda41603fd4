package dspex_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// TestEachFunctionOfThePackageIsInAnExample: an example that uses it shows how, and the documentation has it.
func TestEachFunctionOfThePackageIsInAnExample(t *testing.T) {
	used := map[string]bool{}
	for _, f := range parsed(t, "example*_test.go", "lm_test.go") {
		ast.Inspect(f, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if s, ok := call.Fun.(*ast.SelectorExpr); ok {
					used[s.Sel.Name] = true
				}
			}
			return true
		})
	}
	for _, f := range parsed(t, "*.go") {
		for _, d := range f.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Name.IsExported() && !implied[f.Name.Name] && !used[f.Name.Name] {
				t.Errorf("%s is in no example with output: example_*_test.go", f.Name.Name)
			}
		}
	}
}

// implied are methods that users do not call by name: those of interfaces of other packages.
var implied = map[string]bool{"Error": true, "Is": true, "Dial": true, "Unwrap": true, "MarshalJSON": true, "UnmarshalJSON": true, "String": true}

// parsed are the files that match: of "*.go" those without tests.
func parsed(t *testing.T, patterns ...string) (files []*ast.File) {
	t.Helper()
	for _, pattern := range patterns {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if pattern == "*.go" && strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, f)
		}
	}
	return files
}
