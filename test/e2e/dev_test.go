package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
)

// dev is a running `dspex dev`.
type dev struct {
	url string
	cmd *exec.Cmd
	// stdin ends the process when it is closed.
	stdin io.Closer
	log   log
}

// log keeps what a process said.
type log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// guard runs a program until its standard input ends: when a test is killed, nothing of what it started is left.
const guard = `"$0" "$@" </dev/null & exec >&- 2>&-; read -r _; kill -TERM $!; wait $!`

// startDev starts `dspex dev` with more arguments and variables and returns when it says that it is ready.
func startDev(env []string, dir string, args ...string) (*dev, error) {
	d := &dev{cmd: exec.Command("sh", append([]string{"-c", guard, binary, "dev", "--listen", "127.0.0.1:0", "--workers", "2"}, args...)...)}
	d.cmd.Env, d.cmd.Dir = append(os.Environ(), env...), dir
	d.cmd.Stderr = io.MultiWriter(&d.log)
	stdout, err := d.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if d.stdin, err = d.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	if !ok {
		d.stop()
		return nil, fmt.Errorf("dspex dev said %q (%v), expected ready nats://...\n%s", line, err, d.log.String())
	}
	d.url = url
	return d, nil
}

func (d *dev) stop() {
	_ = d.stdin.Close()
	_ = d.cmd.Wait()
}
