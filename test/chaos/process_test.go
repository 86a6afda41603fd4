//go:build chaos

package chaos

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience bounds what takes a moment on an idle machine.
const patience = 2 * time.Minute

// process is one that is started again after each fault.
type process struct {
	t    *testing.T
	name string
	make func() *exec.Cmd
	log  string // file of what it wrote to stderr

	cmd   *exec.Cmd
	stdin io.Closer
	ready chan struct{} // closed by a line "ready ..."
	done  chan struct{} // closed when it has ended
	err   error         // after done
}

func (p *process) start() {
	p.cmd, p.ready, p.done = p.make(), make(chan struct{}), make(chan struct{})
	file, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	p.cmd.Stderr = file
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.stdin = stdin
	go func(cmd *exec.Cmd, ready, done chan struct{}) {
		told := false
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), "ready") && !told {
				told = true
				close(ready)
			}
		}
		p.err = cmd.Wait()
		close(done)
	}(p.cmd, p.ready, p.done)
}

// awaitReady reports what is wrong if the process does not get there.
func (p *process) awaitReady() error {
	select {
	case <-p.ready:
		return nil
	case <-p.done:
		return fmt.Errorf("%s ended by itself: %w (see %s)", p.name, p.err, p.log)
	case <-time.After(patience):
		return fmt.Errorf("%s is not ready after %v (see %s)", p.name, patience, p.log)
	}
}

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// kill ends it without a word; what it started is its own to end.
func (p *process) kill() {
	p.signal(syscall.SIGCONT)
	p.signal(syscall.SIGKILL)
	<-p.done
}

// stop ends it as an operator does.
func (p *process) stop() error {
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
		return fmt.Errorf("%s does not end after SIGTERM", p.name)
	}
	if p.err != nil {
		return fmt.Errorf("%s ended with %w", p.name, p.err)
	}
	return nil
}

// alive reports whether it still runs, as it must when nobody ended it.
func (p *process) alive() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s ended by itself: %w (see %s)", p.name, p.err, p.log)
	default:
		return nil
	}
}

// workers are the processes that descend from this one and run Python.
func (p *process) workers() (pids []int) {
	parents := map[int]bool{p.cmd.Process.Pid: true}
	entries, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		p.t.Fatal(err)
	}
	for range 4 { // generations
		for _, path := range entries {
			text, err := os.ReadFile(path)
			if err != nil {
				continue // it has ended
			}
			after := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			parent, err2 := strconv.Atoi(after[1])
			if err == nil && err2 == nil && parents[parent] && !parents[pid] {
				parents[pid] = true
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
