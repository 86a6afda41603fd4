// Package contract holds the service to contract/job.md: what is sent and expected here was written from that page alone,
// with a plain NATS client, against `dspex dev` in a process of its own.
package contract

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
)

// service is a running `dspex dev`.
type service struct {
	url string
	nc  *nats.Conn
	cmd *exec.Cmd
	// stop ends the process when it is closed.
	stop io.Closer
}

var (
	binary string
	stub   *service // most tests: the wire is the same whatever the engine
	// dspy starts real DSPy when the first test asks for it.
	dspy = sync.OnceValues(func() (*service, error) { return start("dspy") })

	started   []*service
	startedMu sync.Mutex
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "dspex-contract-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "dspex")
	if err := build(binary); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer stopAll()
	if stub, err = start("stub"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// TestResultsAreFresh keeps `go test` from taking a cached result across changes of the program, which runs in another process: it
// notes the directories that a test (not TestMain) reads, and looks at them again.
func TestResultsAreFresh(t *testing.T) {
	for _, dir := range []string{"../../cmd", "../../internal", "../../python/dspex_worker"} {
		if err := filepath.WalkDir(dir, func(_ string, _ fs.DirEntry, err error) error { return err }); err != nil {
			t.Fatal(err)
		}
	}
}

func build(to string) error {
	if out, err := exec.Command("go", "build", "-o", to, "../../cmd/dspex").CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	return nil
}

// guard runs a program until its standard input ends: when a test is killed, nothing of what it started is left.
const guard = `"$0" "$@" </dev/null & exec >&- 2>&-; read -r _; kill -TERM $!; wait $!`

func start(engine string) (*service, error) {
	// Many of the jobs here are to fail: no share of failures is an alert.
	cmd := exec.Command("sh", "-c", guard, binary, "dev", "--engine", engine, "--listen", "127.0.0.1:0", "--error-rate-threshold", "1", "--workers", "2")
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &service{cmd: cmd, stop: stdin}
	startedMu.Lock()
	started = append(started, s)
	startedMu.Unlock()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	if !ok {
		return nil, fmt.Errorf("dspex dev said %q (%v), expected ready nats://...", line, err)
	}
	s.url = url
	s.nc, err = nats.Connect(url)
	return s, err
}

func stopAll() {
	startedMu.Lock()
	defer startedMu.Unlock()
	for _, s := range started {
		if s.nc != nil {
			s.nc.Close()
		}
		_ = s.stop.Close()
		_ = s.cmd.Wait()
	}
}
