package sim

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/natstest"
	"github.com/dspex/dspex/internal/stream"
	"github.com/dspex/dspex/internal/wire"
)

func fromJSON(body []byte) ([]byte, error) { return wire.FromJSON(body, wire.Pass) }

// proc is a process of the fleet.
type proc struct {
	t     *testing.T
	name  string
	cmd   *exec.Cmd
	ready chan struct{} // a line "ready" on stdout, or for the broker on stderr
	ended chan struct{}

	mu  sync.Mutex
	log bytes.Buffer
}

func (p *proc) signal(s syscall.Signal) {
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Errorf("%s: %v", p.name, err)
	}
}

func (p *proc) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// fleet are a broker, dispatchers and hosts.
type fleet struct {
	t           *testing.T
	bin, dir    string
	url         string
	broker      *proc
	dispatchers []*proc
	hosts       []*proc
	started     int
}

func newFleet(t *testing.T) *fleet {
	f := &fleet{t: t, bin: t.TempDir(), dir: t.TempDir()}
	for _, program := range []string{"github.com/nats-io/nats-server/v2", "github.com/dspex/dspex/cmd/dispatcher", "github.com/dspex/dspex/cmd/worker-host"} {
		if out, err := exec.Command("go", "build", "-o", f.bin+"/", program).CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", program, err, out)
		}
	}
	f.url = "nats://" + natstest.FreeAddress(t)
	f.startBroker()
	t.Cleanup(func() {
		for _, p := range slices.Concat(f.hosts, f.dispatchers, []*proc{f.broker}) {
			_ = p.cmd.Process.Signal(syscall.SIGCONT)
			p.kill()
			if t.Failed() {
				t.Logf("%s:\n%s", p.name, tail(p.log.String()))
			}
		}
	})
	return f
}

func tail(s string) string { return s[max(0, len(s)-4000):] }

func (f *fleet) startBroker() {
	_, port, _ := strings.Cut(strings.TrimPrefix(f.url, "nats://"), ":")
	conf := filepath.Join(f.dir, "nats.conf")
	text := fmt.Sprintf("listen: 127.0.0.1:%s\nping_interval: 2s\nping_max: 2\njetstream { store_dir: %q, sync_interval: always }\n", port, filepath.Join(f.dir, "data"))
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
	f.broker = f.start("broker", "Server is ready", filepath.Join(f.bin, "nats-server"), "-c", conf)
}

func (f *fleet) startDispatcher() {
	f.started++
	f.dispatchers = slices.DeleteFunc(f.dispatchers, (*proc).gone)
	f.dispatchers = append(f.dispatchers, f.start(fmt.Sprintf("d%d", f.started), "", filepath.Join(f.bin, "dispatcher"), "--server", f.url, "--name", fmt.Sprintf("d%d", f.started)))
}

func (f *fleet) startHost() {
	f.started++
	name := fmt.Sprintf("h%d", f.started)
	f.hosts = slices.DeleteFunc(f.hosts, (*proc).gone)
	f.hosts = append(f.hosts, f.start(name, "ready", filepath.Join(f.bin, "worker-host"), "--server", f.url, "--name", name,
		"--engine", "stub", "--workers", "2", "--slots", "8"))
}

func (p *proc) gone() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// start waits for a line that has the word; "" waits for nothing.
func (f *fleet) start(name, word string, argv ...string) *proc {
	f.t.Helper()
	p := &proc{t: f.t, name: name, cmd: exec.Command(argv[0], argv[1:]...), ready: make(chan struct{}), ended: make(chan struct{})}
	r, w, err := os.Pipe()
	if err != nil {
		f.t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = w, w
	if err := p.cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	_ = w.Close()
	go func() { _ = p.cmd.Wait(); close(p.ended) }()
	go p.read(r, word)
	if word == "" {
		return p
	}
	select {
	case <-p.ready:
	case <-p.ended:
		f.t.Fatalf("%s ended:\n%s", name, p.said())
	case <-time.After(realPatience):
		f.t.Fatalf("%s is not ready:\n%s", name, p.said())
	}
	return p
}

func (p *proc) read(r *os.File, word string) {
	defer func() { _ = r.Close() }()
	lines := bufio.NewScanner(r)
	told := false
	for lines.Scan() {
		p.mu.Lock()
		p.log.WriteString(lines.Text() + "\n")
		p.mu.Unlock()
		if !told && word != "" && strings.Contains(lines.Text(), word) {
			told = true
			close(p.ready)
		}
	}
}

func (p *proc) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return tail(p.log.String())
}

func (f *fleet) host(rnd *rand.Rand) *proc       { return f.hosts[rnd.IntN(len(f.hosts))] }
func (f *fleet) dispatcher(rnd *rand.Rand) *proc { return f.dispatchers[rnd.IntN(len(f.dispatchers))] }

// signalWorker picks a Python process without children below a host.
func (f *fleet) signalWorker(rnd *rand.Rand, s syscall.Signal) {
	f.t.Helper()
	workers := leaves(f.host(rnd).cmd.Process.Pid)
	if len(workers) == 0 {
		f.t.Fatal("a host without workers")
	}
	if err := syscall.Kill(workers[rnd.IntN(len(workers))], s); err != nil {
		f.t.Logf("the worker is gone: %v", err)
	}
}

// leaves are the descendants of a process that have no children.
func leaves(pid int) []int {
	var below []int
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		b, _ := os.ReadFile(list)
		for word := range strings.FieldsSeq(string(b)) {
			if child, err := strconv.Atoi(word); err == nil {
				if deeper := leaves(child); deeper != nil {
					below = append(below, deeper...)
				} else {
					below = append(below, child)
				}
			}
		}
	}
	return below
}

func (f *fleet) connect() *nats.Conn {
	f.t.Helper()
	nc, err := nats.Connect(f.url, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.ReconnectBufSize(-1), nats.RetryOnFailedConnect(true))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(nc.Close)
	return nc
}

// drained waits until the work queues are empty.
func (f *fleet) drained(within time.Duration) error {
	js, err := jetstream.New(f.connect())
	if err != nil {
		return err
	}
	left := "no answer"
	for end := time.Now().Add(within); time.Now().Before(end); <-time.After(100 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		s, err := js.Stream(ctx, stream.Jobs)
		cancel()
		if err != nil {
			left = err.Error()
			continue
		}
		n := s.CachedInfo().State.Msgs
		if left = fmt.Sprintf("%d messages", n); n <= 1 { // the anchor
			return nil
		}
	}
	return fmt.Errorf("the queue is not empty at the end: %s", left)
}
