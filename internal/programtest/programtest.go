// Package programtest is what tests of whole programs share: how they are built, started and ended, and what scripts and tests request
// of them. It is for tests only.
package programtest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// Build makes the programs of packages in the directory dir.
func Build(dir string, packages ...string) error {
	argv := append([]string{"build", "-o", dir + string(filepath.Separator)}, packages...)
	if out, err := exec.Command("go", argv...).CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	return nil
}

// Run builds the programs of packages into bin, below a directory dir that is removed at the end, prepares what all tests of a package
// share, and runs the tests. stop, unless it is nil, is called in the end, also when prepare has failed.
func Run(m *testing.M, prepare func(bin, dir string) (stop func(), err error), packages ...string) int {
	dir, err := os.MkdirTemp("", "dspex-test-")
	if err == nil {
		defer os.RemoveAll(dir)
		bin := filepath.Join(dir, "bin")
		var stop func()
		if err = Build(bin, packages...); err == nil {
			stop, err = prepare(bin, dir)
		}
		if stop != nil {
			defer stop()
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// Fresh keeps `go test` from taking a cached result across changes of what runs in other processes: it notes the paths that a
// test (not TestMain) reads, and looks at them again. root is the way to the repository from the test's directory.
func Fresh(t *testing.T, root string, more ...string) {
	t.Helper()
	for _, path := range append([]string{"cmd", "internal", "python/dspex_worker"}, more...) {
		if err := filepath.WalkDir(filepath.Join(root, path), func(_ string, _ fs.DirEntry, err error) error { return err }); err != nil {
			t.Fatal(err)
		}
	}
}

// Sources reads the files of the repository with one of these endings, by path from its root. root is the way there from the test's
// directory. What is generated or fetched is left out.
func Sources(t testing.TB, root string, endings ...string) map[string]string {
	t.Helper()
	texts := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		if d.IsDir() || !slices.ContainsFunc(endings, func(ending string) bool { return strings.HasSuffix(path, ending) }) {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		texts[name] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(texts) == 0 {
		t.Fatalf("no file of the repository ends in %s", strings.Join(endings, ", "))
	}
	return texts
}

// guard runs a program until its standard input ends: when a test is killed, nothing of what it started is left.
const guard = `"$0" "$@" </dev/null & exec >&- 2>&-; read -r _; kill -TERM $!; wait $!`

// Guarded is a command that ends the program when its own standard input does, and ends as the program does.
func Guarded(program string, args ...string) *exec.Cmd {
	return exec.Command("sh", append([]string{"-c", guard, program}, args...)...)
}

// Running is a program that was started.
type Running struct {
	Ready string    // what stood behind `ready `
	Cmd   *exec.Cmd // the guard, the parent of the program
	stdin io.Closer
}

// Start starts a guarded program and returns when it has reported that it is ready.
func Start(guarded *exec.Cmd) (*Running, error) {
	stdout, err := guarded.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p := &Running{Cmd: guarded}
	if p.stdin, err = guarded.StdinPipe(); err != nil {
		return nil, err
	}
	if err := guarded.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	ready, ok := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	if !ok {
		p.Stop()
		return nil, fmt.Errorf("the first line of the program must be `ready ...`, got %q (%w)", line, err)
	}
	p.Ready = ready
	return p, nil
}

// Stop ends the program by its standard input and waits for that.
func (p *Running) Stop() {
	p.stdin.Close()
	_ = p.Cmd.Wait() // how it ends is another test's business
}

// Fails is a command of scripts: it runs a program that must end with the given status.
func Fails(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: fails status program [args...]")
	}
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); !errors.As(err, &exit) || strconv.Itoa(exit.ExitCode()) != args[0] {
		ts.Fatalf("ended with %v, want status %s", err, args[0])
	}
}

// Scrape reads a page of metrics.
func Scrape(t *testing.T, url string) string {
	t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	page, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("status %d, %v", answer.StatusCode, err)
	}
	http.DefaultClient.CloseIdleConnections()
	return string(page)
}
