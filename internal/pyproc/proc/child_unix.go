//go:build linux || darwin

package proc

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// Pipes are the four pipes of a worker: [0] is the read end, [1] the write end.
type Pipes struct {
	toWorker, fromWorker, stdout, stderr [2]*os.File
}

// Start starts a worker in its own process group. The calling thread must live as long as the process.
func Start(sp Spec) (*Child, error) {
	p, err := OpenPipes()
	defer p.CloseWorkerEnds()
	if err != nil {
		p.CloseHostEnds()
		return nil, err
	}
	files := []*os.File{p.toWorker[0], p.fromWorker[1]}
	if sp.Channel != nil {
		files = append(files, sp.Channel)
	}
	process, err := run(sp, p, files)
	if err != nil {
		p.CloseHostEnds()
		return nil, err
	}
	c, err := newChild(process.Pid, p)
	control(c, process)
	if err != nil { // cannot be: the file is a pipe and open
		c.Signal(syscall.SIGKILL)
		c.Wait()
		c.Reap()
		return nil, err
	}
	return c, nil
}

// run starts the program, with the files as descriptors from 3 on.
func run(sp Spec, p *Pipes, files []*os.File) (*os.Process, error) {
	path, err := exec.LookPath(sp.Command[0])
	if err != nil {
		return nil, err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	files = append([]*os.File{null, p.stdout[1], p.stderr[1]}, files...)
	return os.StartProcess(path, sp.Command, &os.ProcAttr{Dir: sp.Dir, Env: sp.Env, Files: files, Sys: sysProcAttr()})
}

// newChild is a process with its pipes. How it is signalled and waited for is up to the one who has started it; also if it fails, and the pipes
// are closed.
func newChild(pid int, p *Pipes) (*Child, error) {
	offerToTheKernel(pid)
	c := &Child{PID: pid, FromWorker: p.fromWorker[0], Stdout: p.stdout[0], Stderr: p.stderr[0],
		OwnMemory: func(atLeast uint64) uint64 { return ownMemory(pid, atLeast) }}
	out, err := newPipeSink(p.toWorker[1])
	if err != nil {
		p.CloseHostEnds()
		return c, err
	}
	c.ToWorker = out
	return c, nil
}

// control has the child signalled and waited for as a child of this process.
func control(c *Child, process *os.Process) {
	c.Signal = func(s syscall.Signal) { _ = syscall.Kill(-process.Pid, s) }
	c.AskStacks = func() { _ = syscall.Kill(process.Pid, syscall.SIGUSR2) } // not to the group: it would kill processes without a handler for it
	c.OwnMemory = func(atLeast uint64) uint64 { return ownMemory(process.Pid, atLeast) }
	c.Wait, c.Reap = waitFuncs(process)
}

// SignalName is the name of a signal as people write it: SIGKILL.
func SignalName(s syscall.Signal) string { return unix.SignalName(s) }

func statusOf(state *os.ProcessState, err error) ExitStatus {
	if err != nil {
		return ExitStatus{Code: -1}
	}
	ws, ok := state.Sys().(syscall.WaitStatus)
	if ok && ws.Signaled() {
		return ExitStatus{Code: -1, Signal: ws.Signal()}
	}
	return ExitStatus{Code: state.ExitCode()}
}

// onePipe reports where a pipe goes and how it is used.
type onePipe struct {
	pipe    *[2]*os.File
	name    string
	hostEnd int
	frames  bool
}

// OpenPipes makes the pipes of a worker. After a failure those that were made are to be closed.
func OpenPipes() (*Pipes, error) {
	p, err := openLogPipes()
	if err != nil {
		return p, err
	}
	return p, open(onePipe{&p.toWorker, "frames to worker", 1, true}, onePipe{&p.fromWorker, "frames from worker", 0, true})
}

func openLogPipes() (*Pipes, error) {
	p := &Pipes{}
	return p, open(onePipe{&p.stdout, "stdout of worker", 0, false}, onePipe{&p.stderr, "stderr of worker", 0, false})
}

func open(all ...onePipe) error {
	for _, one := range all {
		var fds [2]int
		if err := pipe(&fds); err != nil {
			return fmt.Errorf("pipe for %s: %w", one.name, err)
		}
		if one.frames {
			enlarge(fds[0])
		}
		// The worker's end blocks; the two ends are two open files, so the host's setting does not reach it.
		err := unix.SetNonblock(fds[one.hostEnd], true)
		for i, fd := range fds {
			one.pipe[i] = os.NewFile(uintptr(fd), one.name)
		}
		if err != nil {
			return fmt.Errorf("pipe for %s: %w", one.name, err)
		}
	}
	return nil
}

// WorkerEnds are the ends that go to a worker: for its descriptors 3, 4, 1 and 2.
func (p *Pipes) WorkerEnds() []*os.File {
	return []*os.File{p.toWorker[0], p.fromWorker[1], p.stdout[1], p.stderr[1]}
}

// CloseWorkerEnds closes the ends that a worker has by now.
func (p *Pipes) CloseWorkerEnds() {
	closeAll(p.toWorker[0], p.fromWorker[1], p.stdout[1], p.stderr[1])
}

// CloseHostEnds closes the ends that nobody will use.
func (p *Pipes) CloseHostEnds() {
	closeAll(p.toWorker[1], p.fromWorker[0], p.stdout[0], p.stderr[0])
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		f.Close() // nil is fine: it answers os.ErrInvalid
	}
}

// pipeSink writes to a non-blocking pipe.
type pipeSink struct {
	*os.File
	raw     syscall.RawConn
	attempt func(fd uintptr) bool // try, bound once: a closure for each write would be an allocation

	// Arguments and results of attempt. The writer's lock guards them.
	scratch []byte
	iov     [2][]byte
	n       int
	err     error
}

func newPipeSink(f *os.File) (*pipeSink, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &pipeSink{File: f, raw: raw}
	s.attempt = s.try
	return s, nil
}

// Try implements Sink.
func (s *pipeSink) Try(head, body []byte) (int, error) {
	if len(body) <= SmallFrame {
		s.scratch = append(append(s.scratch[:0], head...), body...)
		s.iov[0], s.iov[1] = s.scratch, nil
	} else {
		s.iov[0], s.iov[1] = head, body
	}
	err := s.raw.Write(s.attempt)
	s.iov[0], s.iov[1] = nil, nil
	if err != nil {
		return s.n, err
	}
	return s.n, s.err
}

// try writes until everything is in the pipe or the pipe is full. It returns true always: waiting is not its business.
func (s *pipeSink) try(fd uintptr) bool {
	s.n, s.err = 0, nil
	for len(s.iov[0]) > 0 || len(s.iov[1]) > 0 {
		n, err := s.write(int(fd))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if errors.Is(err, unix.EAGAIN) {
			return true
		}
		if err != nil {
			s.err = os.NewSyscallError("write", err)
			return true
		}
		s.n += n
		first := min(n, len(s.iov[0]))
		s.iov[0], s.iov[1] = s.iov[0][first:], s.iov[1][n-first:]
	}
	return true
}

func (s *pipeSink) write(fd int) (int, error) {
	switch {
	case len(s.iov[1]) == 0:
		return unix.Write(fd, s.iov[0])
	case len(s.iov[0]) == 0:
		return unix.Write(fd, s.iov[1])
	}
	return unix.Writev(fd, s.iov[:])
}

// Forked is a worker that a process of ours has forked, with its pipes. The caller reports how it is signalled and waited for; it has to do so
// also after an error, and the pipes are closed then.
func Forked(pid int, p *Pipes) (*Child, error) { return newChild(pid, p) }
