//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspex/dspex/test/bench/agent"
)

// process is one that the bench started. It dies with the bench at the latest.
type process struct {
	name  string
	role  string // for the table of who used the processor
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string // of stdout
	errs  chan string // of stderr, also kept in log
	log   string
	ended chan struct{}
	at    string // URL that it serves
}

// Bounds of the waits for what the bench started.
const (
	startTimeout = 5 * time.Minute // the first start of all makes the Python environment
	orderTimeout = 3 * time.Minute
	stopTimeout  = 20 * time.Second
)

// pendingLines bounds the lines that nobody has read: older ones stay, later ones are only in the log.
const pendingLines = 1024

// start runs a command; pinned >= 0 binds it and all its threads to one processor.
func start(o *options, pinned int, name string, argv ...string) (*process, error) {
	_, role, found := strings.Cut(name, "-")
	if !found {
		role = name
	}
	p := &process{name: name, role: role, cmd: exec.Command(argv[0], argv[1:]...), lines: make(chan string, pendingLines), errs: make(chan string, pendingLines),
		log: filepath.Join(o.dir, name+".log"), ended: make(chan struct{})}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	errOut, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if pinned >= 0 {
		p.cmd.Env = append(p.cmd.Environ(), "GOMAXPROCS=1")
		release, err := pin(pinned)
		if err != nil {
			return nil, err
		}
		defer release()
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	read := make(chan struct{}, 2)
	go func() { pump(out, p.lines, nil); read <- struct{}{} }()
	go func() {
		file, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err == nil {
			defer file.Close()
		}
		pump(errOut, p.errs, file)
		read <- struct{}{}
	}()
	go func() { <-read; <-read; _ = p.cmd.Wait(); close(p.ended) }()
	return p, nil
}

func pump(r io.Reader, to chan<- string, keep io.Writer) {
	defer close(to)
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		if keep != nil {
			fmt.Fprintln(keep, s.Text())
		}
		select {
		case to <- s.Text():
		default:
		}
	}
}

// pin binds this thread, and so what it starts, to a processor until release.
func pin(cpu int) (release func(), err error) {
	var old, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &old); err != nil {
		return nil, err
	}
	one.Set(cpu)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return nil, fmt.Errorf("bind to processor %d: %w", cpu, err)
	}
	return func() { _ = unix.SchedSetaffinity(0, &old) }, nil
}

// await returns what follows prefix in the first line that has it.
func (p *process) await(ctx context.Context, from <-chan string, prefix string) (string, error) {
	timeout := time.NewTimer(startTimeout)
	defer timeout.Stop()
	for {
		select {
		case line, ok := <-from:
			if !ok {
				return "", fmt.Errorf("%s ended before it said %q: %s", p.name, prefix, p.tail())
			}
			if rest, found := strings.CutPrefix(line, prefix); found {
				return strings.TrimSpace(rest), nil
			}
		case <-timeout.C:
			return "", fmt.Errorf("%s did not say %q within %v: %s", p.name, prefix, startTimeout, p.tail())
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// tail is the end of what a process wrote to stderr.
func (p *process) tail() string {
	b, _ := os.ReadFile(p.log)
	return strings.TrimSpace(string(b[max(0, len(b)-2000):]))
}

// stop ends the process, with force if it does not end by itself.
func (p *process) stop() {
	if p == nil {
		return
	}
	_ = p.stdin.Close()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// What agents and the bench exchange.
type (
	order  = agent.Order
	answer = agent.Answer
)

// ask has an agent carry out an order.
func (p *process) ask(ctx context.Context, o order) (answer, error) {
	b, err := json.Marshal(o)
	if err != nil {
		return answer{}, err
	}
	if _, err := p.stdin.Write(append(b, '\n')); err != nil {
		return answer{}, fmt.Errorf("%s: %w: %s", p.name, err, p.tail())
	}
	timeout := time.NewTimer(orderTimeout)
	defer timeout.Stop()
	select {
	case line, ok := <-p.lines:
		var a answer
		if !ok {
			return a, fmt.Errorf("%s ended: %s", p.name, p.tail())
		}
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			return a, fmt.Errorf("%s said %q: %w", p.name, line, err)
		}
		if a.Error != "" {
			return a, fmt.Errorf("%s: %s: %s", p.name, o.Do, a.Error)
		}
		return a, nil
	case <-timeout.C:
		return answer{}, fmt.Errorf("%s: %s took longer than %v: %s", p.name, o.Do, orderTimeout, p.tail())
	case <-ctx.Done():
		return answer{}, ctx.Err()
	}
}

// options report what to measure and with what.
type options struct {
	part, bin, python, json string
	config                  string // the shipped configuration of a broker with accounts
	runtime                 string // directory of another runtime, to compare with
	rounds, faults, bulk    int
	slice                   time.Duration // of one measurement
	syncAlways              bool
	memory                  int    // MiB that brokers keep to
	dir                     string // of this run, removed at its end
	self                    string // path of this binary
}
