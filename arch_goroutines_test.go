package dspex_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// goroutines are the functions of the product with a go statement, and who waits for what it starts. All others are started with the Go
// of a sync.WaitGroup, whose Wait somebody calls.
var goroutines = map[string]string{
	"dspextest/deployment.go: start":                  "the cleanup of the test takes its error",
	"cmd/dspex/internal/demo/demo_host.go: startHost": "stop and kill take the end of the process",
	"cmd/worker-host/main.go: run":                    "a deferred function of the same one takes the pool's error",
	"internal/backup/restore.go: restore":             "takes its error before it goes on",
	"internal/daemon/gather.go: gather":               "Close waits for ended",
	"internal/daemon/metrics.go: Serve":               "stop takes the server's error",
	"internal/echolm/server.go: Run":                  "takes the server's error before it returns",
	"internal/gateway/events.go: getEvents":           "the body of the answer waits for done",
	"internal/gateway/serve.go: Serve":                "takes the server's error before it returns",
	"internal/pyenv/command.go: run":                  "takes the lines before it returns",
	"internal/pyproc/zygote_linux.go: openZygote":     "close waits for ended",
	"internal/quorum/quorum.go: step":                 "takes what was found before it returns",
	"internal/stream/writer.go: NewWriter":            "Close waits for done",
}

// helpers of tests are no part of the product.
var helpersOfTests = []string{"internal/natstest/", "internal/programtest/", "internal/echolm/echolmtest/"}

func TestForEachGoroutineSomebodyWaits(t *testing.T) {
	found := map[string]bool{}
	for _, root := range []string{".", "cmd", "internal", "dspextest"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && root == "." && path != ".":
				return filepath.SkipDir
			case d.IsDir(), !strings.HasSuffix(path, ".go"), strings.HasSuffix(path, "_test.go"):
				return nil
			}
			path = filepath.ToSlash(path)
			if slices.ContainsFunc(helpersOfTests, func(dir string) bool { return strings.HasPrefix(path, dir) }) {
				return nil
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			for _, name := range starters(file) {
				found[path+": "+name] = true
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, at := range slices.Sorted(maps.Keys(found)) {
		if goroutines[at] == "" {
			t.Errorf("%s has a go statement: who waits for it? Use the Go of a sync.WaitGroup, or name it in the table", at)
		}
	}
	for at := range goroutines {
		if !found[at] {
			t.Errorf("%s has no go statement any more: take it from the table", at)
		}
	}
}

// starters are the functions of the file with a go statement in them.
func starters(file *ast.File) (names []string) {
	for _, d := range file.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		ast.Inspect(fn, func(n ast.Node) bool {
			if _, ok := n.(*ast.GoStmt); ok {
				names = append(names, fn.Name.Name)
			}
			return true
		})
	}
	return names
}
