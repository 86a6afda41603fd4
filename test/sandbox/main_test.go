package sandbox

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
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

func TestResultsAreFresh(t *testing.T) { programtest.Fresh(t, "../..", "test/sandbox") }

const secret = "s3cret-of-the-host"

// crime is a deployment with one host, whose workers import a thief, and what there is to steal.
type crime struct {
	t       *testing.T
	url     string
	dir     string // of everything
	modules string
	keyFile string
	socket  string // a file on which somebody listens
}

func plan(t *testing.T) *crime {
	t.Helper()
	dir, err := os.MkdirTemp("", "dspex-crime-") //nolint:usetesting // names of socket files must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := &crime{t: t, dir: dir, modules: filepath.Join(dir, "modules"), keyFile: filepath.Join(dir, "key"), socket: filepath.Join(dir, "socket")}
	c.url = natstest.Run(t, func(o *server.Options) { o.JetStreamMaxStore = 64 << 30 }).ClientURL()
	if err := os.CopyFS(c.modules, os.DirFS("modules")); err != nil {
		t.Fatal(err)
	}
	c.write("key", secret)
	l, err := net.Listen("unix", c.socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	c.start("dispatcher", "--name", "d1")
	return c
}

func (c *crime) write(name, text string) string {
	c.t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return path
}

// process is a program that runs.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	said chan struct{} // closed by its line "ready ..."
	done chan struct{}

	mu  sync.Mutex
	log strings.Builder
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

func (c *crime) start(program string, args ...string) *process {
	c.t.Helper()
	p := &process{t: c.t, cmd: exec.Command(filepath.Join(bin, program), append([]string{"--server", c.url}, args...)...), said: make(chan struct{}), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), "NATS_PASSWORD="+secret, "OPENAI_API_KEY="+secret)
	p.cmd.Stderr = p
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		c.t.Fatal(err)
	}
	go p.read(out)
	c.t.Cleanup(func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.done:
		case <-time.After(20 * time.Second):
			_ = p.cmd.Process.Kill()
			<-p.done
		}
		if c.t.Failed() {
			c.t.Logf("%s:\n%s", program, p.text())
		}
	})
	return p
}

func (p *process) read(out io.Reader) {
	lines := bufio.NewScanner(out)
	if lines.Scan() && strings.HasPrefix(lines.Text(), "ready") {
		close(p.said)
	}
	_, _ = io.Copy(io.Discard, out)
	_ = p.cmd.Wait()
	close(p.done)
}

func (p *process) ready() {
	p.t.Helper()
	select {
	case <-p.said:
	case <-p.done:
		p.t.Fatalf("it ended:\n%s", p.text())
	case <-time.After(time.Minute):
		p.t.Fatal("it is not ready")
	}
}

// refuses checks that the program ends with these words.
func (p *process) refuses(words ...string) {
	p.t.Helper()
	select {
	case <-p.said:
		p.t.Fatal("it serves")
	case <-p.done:
	case <-time.After(time.Minute):
		p.t.Fatal("it neither serves nor ends")
	}
	for _, word := range words {
		if !strings.Contains(p.text(), word) {
			p.t.Errorf("it ended with %q, want %q", p.text(), word)
		}
	}
	if p.cmd.ProcessState.ExitCode() == 0 {
		p.t.Error("it ended with status 0")
	}
}

func (c *crime) host(args ...string) *process {
	c.t.Helper()
	python := os.Getenv("DSPEX_TEST_PYTHON")
	if python == "" {
		python = "python3"
	}
	return c.start("worker-host", append([]string{"--name", "h1", "--engine", "stub", "--workers", "2", "--python", python, "--import", "thief", "--path", c.modules}, args...)...)
}

func (c *crime) client() *dspex.Client {
	c.t.Helper()
	client, err := dspex.Connect(c.t.Context(), c.url)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { client.Close() })
	return client
}

// call runs a command in a worker and returns its result.
func (c *crime) call(command string, args dspex.Args) map[string]any {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	reply, err := c.client().ExecuteAnonymous(ctx, command, args)
	var found map[string]any
	if err == nil {
		err = json.Unmarshal(reply.Result, &found)
	}
	if err != nil {
		c.t.Fatalf("%s: %v", command, err)
	}
	return found
}

// loot checks that a theft brought nothing.
func (c *crime) loot(found map[string]any, least int) {
	c.t.Helper()
	if len(found) < least {
		c.t.Errorf("only %d thefts were tried: %v", len(found), found)
	}
	for name, got := range found {
		if text, _ := got.(string); !strings.HasPrefix(text, "kept: ") {
			c.t.Errorf("%s: %v", name, got)
		}
	}
}

// level is what health and statistics report of the workers, once a heartbeat of their host has come.
func (c *crime) level() string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	client := c.client()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		stats, err := client.Stats(ctx)
		if err == nil && stats.PoolSize > 0 {
			health, err := client.Health(ctx)
			if err != nil || health.Stats.Sandbox != stats.Sandbox {
				c.t.Errorf("health tells %+v, %v; statistics %+v", health, err, stats)
			}
			return stats.Sandbox
		}
		select {
		case <-ctx.Done():
			c.t.Fatalf("no heartbeat of the host has come: %+v, %v", stats, err)
		case <-tick.C:
		}
	}
}
