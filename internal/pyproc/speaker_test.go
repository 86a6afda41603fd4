package pyproc

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/pyproc/proc"
	"github.com/dspex/dspex/internal/wire"
)

// speaker is a worker in Go: in a process of its own (TestMain) or as a goroutine behind a fake child.
// The mode sets how it starts and stops, the command of each CALL what it does then.
type speaker struct {
	mode   string
	nonce  string
	in     io.Reader
	stdout io.Writer
	stderr io.Writer
	exit   func(code int)  // does not return
	gone   <-chan struct{} // closed when a fake process has ended; nil in a real one

	mu      sync.Mutex
	out     io.Writer
	cancels map[uint64]chan struct{}
	freed   chan struct{} // closed by the command "free": ends every "hold"
}

func (s *speaker) send(t frame.Type, id uint64, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out.Write(append(frame.AppendHeader(nil, t, id, len(body)), body...))
}

func (s *speaker) raw(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out.Write(b)
}

func (s *speaker) hello() frame.HelloBody {
	h := frame.HelloBody{ProtoMin: 1, ProtoMax: 1, RuntimeVersion: "0.1", RuntimeHash: "abc", Python: "3.12.1", PID: uint64(os.Getpid()), Nonce: s.nonce, Codec: "go"}
	switch s.mode {
	case "newer":
		h.ProtoMin, h.ProtoMax = 2, 3
	case "wrong nonce":
		h.Nonce = "another"
	}
	return h
}

func (s *speaker) run() {
	s.cancels, s.freed = map[uint64]chan struct{}{}, make(chan struct{})
	in := bufio.NewReader(s.in)
	switch s.mode {
	case "exit at once":
		fmt.Fprintln(s.stderr, "ModuleNotFoundError: No module named 'dspy'")
		s.exit(1)
	case "silent":
		io.Copy(io.Discard, in)
		s.exit(0)
	case "chatter":
		s.raw([]byte("Hello, I am a program that prints to the wrong place\n"))
		io.Copy(io.Discard, in)
		s.exit(0)
	}
	s.send(frame.Hello, 0, s.hello().AppendBody(nil))
	for {
		f, err := frame.Read(in, 0)
		if err != nil {
			s.exit(0)
		}
		s.on(f)
	}
}

func (s *speaker) on(f frame.Frame) {
	switch f.Type {
	case frame.Init:
		s.init()
	case frame.Ping:
		if s.mode != "no pong" {
			s.send(frame.Pong, 0, frame.PongBody{RSSBytes: 4711}.AppendBody(nil))
		}
	case frame.Shutdown:
		if s.mode != "stubborn" {
			s.send(frame.Bye, 0, frame.ByeBody{Reason: "told to"}.AppendBody(nil))
			s.exit(0)
		}
	case frame.Cancel:
		s.mu.Lock()
		c := s.cancels[f.ID]
		s.mu.Unlock()
		if c != nil {
			proc.Poke(c)
		}
	case frame.LM:
		s.send(frame.Log, 0, frame.LogBody{Level: "info", Logger: "speaker", Message: "got LM"}.AppendBody(nil))
	case frame.Call:
		c, err := frame.ParseCall(f.Body)
		if err != nil {
			fmt.Fprintln(s.stderr, err)
			s.exit(9)
		}
		s.call(f.ID, c)
	}
}

func (s *speaker) init() {
	switch s.mode {
	case "init error":
		s.send(frame.Error, 0, frame.ErrorBody{Category: "initialization", Code: "import_failed", Message: "no module named dspy"}.AppendBody(nil))
		s.exit(3)
	case "never ready":
		return
	case "die on init":
		fmt.Fprintln(s.stderr, "out of luck")
		s.exit(4)
	}
	slots := uint64(4)
	if n, ok := strings.CutPrefix(s.mode, "slots "); ok {
		fmt.Sscan(n, &slots)
	}
	s.send(frame.Ready, 0, frame.ReadyBody{Slots: slots, Commands: []string{"echo"}, Exclusive: []string{"evaluate"}, Engine: "stub", EngineVersion: "1.2", RSSBytes: 42}.AppendBody(nil))
}

func (s *speaker) call(id uint64, c frame.CallBody) {
	n := int(c.BudgetMS) // the number that some commands take
	switch c.Command {
	case "echo":
		s.result(id, c.Args)
	case "hold": // until it is cancelled or somebody calls "free"
		freed := s.freed
		s.background(id, func(cancelled <-chan struct{}) {
			select {
			case <-cancelled:
				s.send(frame.Error, id, frame.ErrorBody{Category: "python", Code: "cancelled"}.AppendBody(nil))
			case <-freed:
				s.result(id, nil)
			case <-s.gone:
			}
		})
	case "free":
		close(s.freed)
		s.freed = make(chan struct{})
		s.result(id, nil)
	case "deaf": // never ends, cancelled or not
	case "chunks":
		for i := range n {
			s.send(frame.Chunk, id, frame.ChunkBody{N: uint64(i), Chunk: "x"}.AppendBody(nil))
		}
		s.result(id, nil)
	case "bye":
		s.send(frame.Bye, 0, frame.ByeBody{Reason: "enough"}.AppendBody(nil))
		s.result(id, nil)
	default:
		s.misbehave(id, c, n)
	}
}

func (s *speaker) background(id uint64, do func(cancelled <-chan struct{})) {
	cancelled := make(chan struct{}, 1)
	s.mu.Lock()
	s.cancels[id] = cancelled
	s.mu.Unlock()
	go func() {
		do(cancelled)
		s.mu.Lock()
		delete(s.cancels, id)
		s.mu.Unlock()
	}()
}

func (s *speaker) result(id uint64, value []byte) {
	s.send(frame.Result, id, frame.ResultBody{Value: value}.AppendBody(nil))
}

func (s *speaker) misbehave(id uint64, c frame.CallBody, n int) {
	switch c.Command {
	case "exit":
		fmt.Fprintln(s.stderr, "Traceback: last words")
		s.exit(n)
	case "answer and exit":
		s.result(id, c.Args)
		s.exit(n)
	case "die of":
		syscall.Kill(os.Getpid(), syscall.Signal(n))
		select {}
	case "half frame":
		s.raw(frame.AppendHeader(nil, frame.Result, id, 1000))
		s.raw(make([]byte, 10))
		s.exit(5)
	case "garbage":
		s.raw(bytes.Repeat([]byte("garbage "), 100))
		s.block()
	case "bad value":
		s.send(frame.Result, id, []byte{0xdd, 0xff, 0xff, 0xff, 0xff})
		s.block()
	case "bad chunk":
		s.send(frame.Chunk, id, []byte{0xc1})
		s.block()
	case "unknown id":
		s.result(id+1000, nil)
		s.block()
	case "close pipe":
		s.raw(nil)
		if c, ok := s.out.(io.Closer); ok {
			c.Close()
		}
		s.block()
	case "end slowly": // its pipe is closed n ms before its end is known
		if c, ok := s.out.(io.Closer); ok {
			c.Close()
		}
		proc.ClosedWithin(s.gone, time.Duration(n)*time.Millisecond)
		s.exit(7)
	case "freeze": // reports it, then reads no input ever: like C code that holds the interpreter's lock
		s.send(frame.Chunk, id, frame.ChunkBody{Chunk: "frozen"}.AppendBody(nil))
		<-s.gone // never, in a real process
		s.exit(0)
	case "flood":
		line := bytes.Repeat([]byte("0123456789abcdef"), 4<<10)
		for range n {
			s.stderr.Write(line)
		}
		fmt.Fprintln(s.stderr, "\nend of flood")
		s.result(id, nil)
	case "lines":
		for i := range n {
			fmt.Fprintln(s.stdout, "line", i)
		}
		s.result(id, nil)
	case "grandchild": // holds the FIFO named by job open as long as it lives
		startHolder(c.Job, n == 1)
		s.result(id, nil)
	case "pid":
		s.result(id, wire.AppendInt(nil, int64(os.Getpid())))
	default:
		s.send(frame.Error, id, frame.ErrorBody{Category: "python", Code: "no_such_command", Message: c.Command}.AppendBody(nil))
	}
}

// stacks is what a speaker writes at the signal for its stacks: one thread that rests, one that does not.
const stacks = `Thread 0x00007f9a4291d6c0 (most recent call first):
  File "/opt/lib/runner.py", line 7 in dig
  File "/opt/lib/runner.py", line 9 in run

Current thread 0x00007f9a4367eb80 (most recent call first):
  File "/usr/lib/python3/selectors.py", line 468 in select
  File "<string>", line 1 in <module>
`

// block ignores everything until the input ends.
func (s *speaker) block() { io.Copy(io.Discard, s.in); s.exit(0) }

// startHolder starts a process that opens a FIFO for writing and sleeps. own puts it into a group of its own.
func startHolder(fifo string, own bool) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = []string{"DSPEX_TEST=holder", "FIFO=" + fifo}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: own}
	if err := cmd.Start(); err != nil {
		panic(err)
	}
}

// TestMain lets the test binary be a worker, a grandchild or a host.
func TestMain(m *testing.M) {
	switch os.Getenv("DSPEX_TEST") {
	case "worker":
		if os.Getenv("DSPEX_ZYGOTE") != "" {
			zygoteMain()
		}
		workerMain()
	case "holder":
		f := holdFIFO(os.Getenv("FIFO"))
		for range time.Tick(time.Second) {
			f.WriteString("\n") // without a reader, the end: no test leaves one behind
		}
	case "host":
		hostMain()
	case "cat": // the raw echo that the benchmarks compare with
		io.Copy(struct{ io.Writer }{os.NewFile(4, "out")}, struct{ io.Reader }{os.NewFile(3, "in")})
	default:
		os.Exit(m.Run())
	}
}

func workerMain() {
	s := &speaker{
		mode: os.Getenv("MODE"), nonce: os.Getenv("DSPEX_NONCE"), in: os.NewFile(3, "in"), out: os.NewFile(4, "out"),
		stdout: os.Stdout, stderr: os.Stderr, exit: os.Exit,
	}
	if fifo := os.Getenv("FIFO"); fifo != "" {
		holdFIFO(fifo)
	}
	if s.mode == "stubborn" {
		signal.Ignore(syscall.SIGTERM)
	}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR2)
	go func() {
		for range asked {
			fmt.Fprint(s.stderr, stacks)
		}
	}()
	s.run()
}

// holdFIFO keeps the write end open until the process ends: the reader's end of file is the proof that it has.
func holdFIFO(path string) *os.File {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		panic(err)
	}
	f.WriteString("here\n")
	held = append(held, f)
	return f
}

var held []*os.File // else the collector closes them
