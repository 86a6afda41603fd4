//go:build linux

package main

import (
	"bufio"
	"context"
	_ "embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/pyenv"
	"github.com/dspex/dspex/internal/pyproc"
	"github.com/dspex/dspex/internal/wire"
	"github.com/dspex/dspex/test/bench/agent"
)

//go:embed raw_echo.py
var rawEcho string

// pipes carries out calls into Python: through the pool, or raw.
type pipes struct {
	pool *pyproc.Pool
	raw  *rawChild
}

func playPipe(ctx context.Context, python string, workers int) error {
	debug.SetGCPercent(hostGC)
	env, err := pyenv.System(ctx, pyenv.Config{Python: python})
	if err != nil {
		return err
	}
	init, err := wire.Encode(map[string]any{"engine": "stub", "slots": slots, "worker": "bench"})
	if err != nil {
		return err
	}
	p := &pipes{pool: pyproc.New(pyproc.Config{Command: env.Command(), Env: env.Environ(), Name: "bench", Size: workers,
		Init: func(string) []byte { return init }})}
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- p.pool.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			fmt.Fprintln(os.Stderr, "pool:", err)
		}
	}()
	if err := p.pool.Ready(ctx); err != nil {
		return err
	}
	if err := p.allReady(ctx, slots*workers); err != nil {
		return err
	}
	if p.raw, err = startRaw(env); err != nil {
		return err
	}
	fmt.Println("ready")
	return agent.Obey(func(o order) (answer, error) { return p.do(ctx, o) })
}

// hostGC is the GOGC that worker-host gives itself (internal/daemon).
const hostGC = 400

// slots of each worker, as a host has them by default.
const slots = 64

// allReady waits for every worker: the pool itself is ready with the first one.
func (p *pipes) allReady(ctx context.Context, all int) error {
	for range all {
		s, err := p.pool.Checkout(ctx, 0)
		if err != nil {
			return err
		}
		defer s.Release()
	}
	return nil
}

func (p *pipes) do(ctx context.Context, o order) (answer, error) {
	args := wire.AppendStr(wire.AppendStr(wire.AppendMap(nil, 1), "text"), agent.Argument(max(o.Size-34, 1)))
	body := frame.CallBody{Command: "echo", Args: args, Session: "user_1", Job: "q123456", Attempt: 1, BudgetMS: 30_000}.AppendBody(nil)
	switch o.Do {
	case "call":
		if o.Window == 1 {
			return alone(o, func() error { return p.call(ctx, body) })
		}
		return agent.Window(o, func(_, _ int, done func(error)) { go func() { done(p.call(ctx, body)) }() })
	case "raw":
		return alone(o, func() error { return p.raw.echo(body) })
	}
	return answer{}, fmt.Errorf("unknown order %q", o.Do)
}

func (p *pipes) call(ctx context.Context, body []byte) error {
	s, err := p.pool.Checkout(ctx, 0)
	if err != nil {
		return err
	}
	defer s.Release()
	f, err := s.Call(ctx, body, nil)
	if err == nil && f.Type != frame.Result {
		err = fmt.Errorf("the worker answered %s", f.Type)
	}
	return err
}

// alone runs one operation after the other.
func alone(o order, f func() error) (answer, error) {
	var latencies []float64
	began := time.Now()
	for time.Since(began).Seconds() < o.Seconds {
		at := time.Now()
		if err := f(); err != nil {
			return answer{}, err
		}
		latencies = append(latencies, float64(time.Since(at).Nanoseconds())/1000)
	}
	return agent.Summary(time.Since(began), latencies), nil
}

// rawChild is a process that does nothing but decode, encode and write back.
type rawChild struct {
	to, from *os.File
	in       *bufio.Reader
	body     []byte
}

// pipeBytes is the size that the pool sets for its pipes.
const pipeBytes = 1 << 20

func startRaw(env pyenv.Env) (*rawChild, error) {
	childIn, to, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	from, childOut, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	for _, f := range []*os.File{to, from} { // Fd makes them blocking: the shortest way through the Go runtime
		if _, err := unix.FcntlInt(f.Fd(), unix.F_SETPIPE_SZ, pipeBytes); err != nil {
			return nil, fmt.Errorf("size of a pipe: %w", err)
		}
	}
	code := "import sys; sys.path += sys.argv[1:]\n" + rawEcho
	cmd := exec.Command(env.Python, "-I", "-S", "-X", "utf8", "-c", code, env.SitePackages)
	cmd.Env = env.Environ() // as a worker's
	cmd.ExtraFiles = []*os.File{childIn, childOut}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	_, _ = childIn.Close(), childOut.Close()
	return &rawChild{to: to, from: from, in: bufio.NewReaderSize(from, 64<<10)}, nil
}

// echo sends a frame and reads the one that comes back.
func (r *rawChild) echo(body []byte) error {
	head := frame.AppendHeader(make([]byte, 0, frame.HeaderSize+len(body)), frame.Call, 1, len(body))
	if _, err := r.to.Write(append(head, body...)); err != nil {
		return err
	}
	back, err := r.in.Peek(frame.HeaderSize)
	if err != nil {
		return err
	}
	length := int(back[4]) | int(back[5])<<8 | int(back[6])<<16 | int(back[7])<<24
	if _, err := r.in.Discard(frame.HeaderSize); err != nil {
		return err
	}
	if cap(r.body) < length {
		r.body = make([]byte, length)
	}
	_, err = io.ReadFull(r.in, r.body[:length])
	return err
}

// pipeSizes are the sizes of a call, and the share of the raw echo's rate that the pool must reach.
var pipeSizes = []struct {
	name  string
	bytes int
	asked float64
}{{"100 B", 100, 0.42}, {"10 KB", 10 << 10, 0.6}, {"1 MB", 1 << 20, 0.70}}

// measurePipe compares one call at a time through the pool with the raw echo, all on one processor: with two, the time to
// wake the other one is all that shows.
func measurePipe(ctx context.Context, o *options, r *report) error {
	p, err := start(o, 0, "pipe", o.self, "role", "pipe", "-python", o.python, "-workers", "1")
	if err != nil {
		return err
	}
	defer p.stop()
	if _, err := p.await(ctx, p.lines, "ready"); err != nil {
		return err
	}
	r.head("pipe: a call through the pool against a raw echo with the same codec, pinned to one processor, 1 in flight",
		"size", "raw/s", "call/s", "raw CPU us", "call CPU us", "raw / call CPU asked", "median", "spread", "")
	slice := o.slice.Seconds() / 3 // short ones, many times in turn: a disturbance hits both
	for _, size := range pipeSizes {
		var raws, calls []sample
		var ratios []float64
		for turn := range 1 + 3*o.rounds {
			raw, err := measure(ctx, p, order{Do: "raw", Window: 1, Seconds: slice, Size: size.bytes})
			if err != nil {
				return err
			}
			call, err := measure(ctx, p, order{Do: "call", Window: 1, Seconds: slice, Size: size.bytes})
			if err != nil {
				return err
			}
			if turn > 0 { // the first warms up
				raws, calls, ratios = append(raws, raw), append(calls, call), append(ratios, raw.cpu/call.cpu)
			}
		}
		cells := []string{size.name, number(r.keep("pipe", size.name+" raw", "1/s", column(raws, sample.Rate))),
			number(r.keep("pipe", size.name+" call", "1/s", column(calls, sample.Rate))),
			number(r.keep("pipe", size.name+" raw CPU", "us", column(raws, sample.cost))),
			number(r.keep("pipe", size.name+" call CPU", "us", column(calls, sample.cost)))}
		r.line(append(cells, r.judge("pipe", size.name+", raw echo / call", "", ">=", size.asked, ratios)...)...)
	}
	r.tail()
	return nil
}
