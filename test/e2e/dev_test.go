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
	"syscall"
)

// dev is a running `dspex dev`.
type dev struct {
	url string
	cmd *exec.Cmd
	log log
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

// startDev starts `dspex dev` with more arguments and variables and returns when it says that it is ready.
func startDev(env []string, dir string, args ...string) (*dev, error) {
	d := &dev{cmd: exec.Command(binary, append([]string{"dev", "--listen", "127.0.0.1:0", "--workers", "2"}, args...)...)}
	d.cmd.Env, d.cmd.Dir = append(os.Environ(), env...), dir
	d.cmd.Stderr = io.MultiWriter(&d.log)
	stdout, err := d.cmd.StdoutPipe()
	if err != nil {
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
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	_ = d.cmd.Wait()
}
