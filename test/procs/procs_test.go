package procs

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/natstest"
	"github.com/dspex/dspex/internal/programtest"
)

var bin string // directory of the programs

func TestMain(m *testing.M) {
	os.Exit(programtest.Run(m, func(built, _ string) (func(), error) { bin = built; return nil, nil }, "../../cmd/..."))
}

func TestResultsAreFresh(t *testing.T) { programtest.Fresh(t, "../..") }

// patience bounds what takes a moment on an idle machine.
const patience = time.Minute

// process is one that was started here. What it writes to stderr is shown if the test fails.
type process struct {
	t     *testing.T
	name  string
	cmd   *exec.Cmd
	ready chan struct{} // closed by its first line "ready ..."
	done  chan struct{}
	err   error // after done

	mu  sync.Mutex
	log bytes.Buffer
}

// deployment is a broker, dispatchers and worker-hosts.
type deployment struct {
	t      *testing.T
	broker *server.Server
	url    string
}

func deploy(t *testing.T) *deployment {
	t.Helper()
	s := natstest.Run(t, func(o *server.Options) { o.JetStreamMaxStore = 64 << 30 })
	return &deployment{t: t, broker: s, url: s.ClientURL()}
}

func (d *deployment) start(program, name string, args ...string) *process {
	d.t.Helper()
	return d.startFrom(bin, program, name, args...)
}

func (d *deployment) startFrom(dir, program, name string, args ...string) *process {
	d.t.Helper()
	return launch(d.t, program+" "+name, exec.Command(filepath.Join(dir, program), append([]string{"--server", d.url, "--name", name}, args...)...))
}

// launch starts a program that ends with the test.
func launch(t *testing.T, name string, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, name: name, cmd: cmd, ready: make(chan struct{}), done: make(chan struct{})}
	p.cmd.Stderr = p
	stdout, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	go p.read(stdout)
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		if t.Failed() {
			t.Logf("%s:\n%s", p.name, p.said())
		}
	})
	return p
}

// read takes the program's lines until its end.
func (p *process) read(stdout io.Reader) {
	lines := bufio.NewScanner(stdout)
	told := false
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "ready") && !told {
			told = true
			close(p.ready)
		}
	}
	p.err = p.cmd.Wait()
	close(p.done)
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

func (p *process) awaitReady() *process {
	p.t.Helper()
	select {
	case <-p.ready:
	case <-p.done:
		p.t.Fatalf("%s ended: %v\n%s", p.name, p.err, p.said())
	case <-time.After(patience):
		p.t.Fatalf("%s is not ready", p.name)
	}
	return p
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("%s: %v", p.name, err)
	}
}

// awaitEnd returns how the process ended.
func (p *process) awaitEnd() error {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("%s does not end", p.name)
	}
	return p.err
}

// stop ends the process as an operator does and insists that it ends well.
func (p *process) stop() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	if err := p.awaitEnd(); err != nil {
		p.t.Errorf("%s ended: %v", p.name, err)
	}
}

// host starts one that refuses no call because the machine is slow.
func (d *deployment) host(name string, args ...string) *process {
	d.t.Helper()
	return d.start("worker-host", name, append([]string{"--engine", "stub", "--workers", "2", "--slots", "8", "--checkout-timeout", "1m"}, args...)...)
}

func (d *deployment) client() *dspex.Client {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), patience)
	defer cancel()
	c, err := dspex.Connect(ctx, d.url)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(c.Close)
	return c
}
