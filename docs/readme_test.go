package docs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestTheGoProgramOfTheReadmeCompilesInAModuleOfItsUser: outside of this repository, where internal packages cannot be imported.
func TestTheGoProgramOfTheReadmeCompilesInAModuleOfItsUser(t *testing.T) {
	page, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, program, found := strings.Cut(string(page), "```go\n")
	program, _, ended := strings.Cut(program, "```")
	if !found || !ended {
		t.Fatal("the README has no Go program")
	}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	sums, err := os.ReadFile("../go.sum")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"main.go": program,
		"go.sum":  string(sums),
		"go.mod":  fmt.Sprintf("module example.org/user\n\ngo 1.26\n\nrequire github.com/dspex/dspex v0.0.0\n\nreplace github.com/dspex/dspex => %s\n", root),
		// What the package for tests needs is there too.
		"main_test.go": "package main\n\nimport (\n\t\"testing\"\n\n\t\"github.com/dspex/dspex/dspextest\"\n)\n\nfunc TestFake(t *testing.T) { dspextest.NewFake(t).Client() }\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"build", "-mod=mod", "-o", filepath.Join(dir, "program"), "."}, {"test", "-mod=mod", "."}} {
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("go %s: %v\n%s", args[0], err, out)
		}
	}
}
