// Package production runs dspex as an operator does: a broker with the shipped nats.conf, a dispatcher and two worker-hosts as
// processes, each with its own user, and a client with a user of its own.
package production

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/dspex/dspex/internal/natstest"
	"github.com/dspex/dspex/internal/programtest"
)

const config = "../../nats.conf"

var (
	bin    string
	broker *server.Server
	// what the processes wrote to their logs
	logs transcript
)

func TestMain(m *testing.M) {
	os.Exit(programtest.Run(m, func(built, dir string) (func(), error) {
		bin = built
		if err := startBroker(dir); err != nil {
			return nil, err
		}
		return func() { broker.Shutdown(); broker.WaitForShutdown() }, nil
	}, "../../cmd/..."))
}

func fresh(t *testing.T) {
	t.Helper()
	programtest.Fresh(t, "../..", "nats.conf", "tenants", "deploy")
}

func password(user string) string { return "pw-of-" + user + "-long-enough" }

// startBroker runs the shipped configuration, on a free port and with its data in dir.
func startBroker(dir string) error {
	for _, user := range []string{"dispatcher", "host", "client", "operator", "backup"} {
		if err := os.Setenv("DSPEX_"+strings.ToUpper(user)+"_PASSWORD", password(user)); err != nil {
			return err
		}
	}
	o, err := server.ProcessConfigFile(config)
	if err != nil {
		return err
	}
	broker, err = natstest.Start(dir, shipped(o))
	return err
}

// shipped makes a test's broker one with the options of a configuration file.
func shipped(o *server.Options) func(*server.Options) {
	return func(into *server.Options) {
		o.Host, o.Port, o.HTTPPort, o.StoreDir, o.NoLog, o.NoSigs = into.Host, into.Port, 0, filepath.Join(into.StoreDir, "data"), true, true
		*into = *o
	}
}

// transcript keeps the lines that are about permissions, whoever writes them.
type transcript struct {
	mu     sync.Mutex
	denied []string
}

func (t *transcript) read(name string, r io.Reader) {
	for in := bufio.NewScanner(r); in.Scan(); {
		if line := in.Text(); strings.Contains(strings.ToLower(line), "permissions violation") {
			t.mu.Lock()
			t.denied = append(t.denied, name+": "+line)
			t.mu.Unlock()
		}
	}
}

// environ is what a program finds around it.
func environ(user string) []string {
	return append(os.Environ(), "NATS_URL="+broker.ClientURL(), "NATS_USER="+user, "NATS_PASSWORD="+password(user), "NATS_INBOX_PREFIX=_INBOX."+user, "DSPEX_ACCOUNTS=true")
}

// process is a running program.
type process struct {
	cmd   *exec.Cmd   // the guard
	alive io.Closer   // closing it ends the program in order
	ready chan string // the line "ready ...", or what came instead
	read  sync.WaitGroup
}

// start runs a program as user; it ends with the test at the latest.
func start(t *testing.T, user, program string, args ...string) *process {
	t.Helper()
	return startIn(t, environ(user), program, args...)
}

// located is a program of this tree, or the one that a path names.
func located(program string) string {
	if filepath.IsAbs(program) {
		return program
	}
	return filepath.Join(bin, program)
}

func startIn(t *testing.T, env []string, program string, args ...string) *process {
	t.Helper()
	p := &process{cmd: programtest.Guarded(located(program), args...), ready: make(chan string, 1)}
	p.cmd.Env, p.cmd.SysProcAttr = env, &syscall.SysProcAttr{Setpgid: true}
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.alive = stdin
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.read.Go(func() { logs.read(program, io.TeeReader(stderr, t.Output())) })
	p.read.Go(func() {
		line, _ := bufio.NewReader(stdout).ReadString('\n')
		p.ready <- strings.TrimSpace(line)
		_, _ = io.Copy(io.Discard, stdout)
	})
	t.Cleanup(func() { _ = p.kill() })
	return p
}

// end ends the program and waits; the error is how it ended.
func (p *process) end() error {
	p.alive.Close()
	p.read.Wait()
	return p.cmd.Wait()
}

func (p *process) kill() error {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // it may have ended
	p.read.Wait()
	return p.cmd.Wait()
}

func startHost(t *testing.T, name string) *process {
	t.Helper()
	return start(t, "host", "worker-host", "--name", name, "--engine", "stub", "--workers", "1", "--slots", "4")
}
