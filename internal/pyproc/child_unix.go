//go:build linux || darwin

package pyproc

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// pipes are the four pipes of a worker: [0] is the read end, [1] the write end.
type pipes struct {
	toWorker, fromWorker, stdout, stderr [2]*os.File
}

// startProcess starts a worker in its own process group. The calling thread must live as long as the process.
func startProcess(sp spec) (*child, error) {
	path, err := exec.LookPath(sp.command[0])
	if err != nil {
		return nil, err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	p, err := openPipes()
	defer p.closeWorkerEnds()
	if err != nil {
		p.closeHostEnds()
		return nil, err
	}
	files := []*os.File{null, p.stdout[1], p.stderr[1], p.toWorker[0], p.fromWorker[1]}
	if sp.channel != nil {
		files = append(files, sp.channel)
	}
	process, err := os.StartProcess(path, sp.command, &os.ProcAttr{Dir: sp.dir, Env: sp.env, Files: files, Sys: sysProcAttr()})
	if err != nil {
		p.closeHostEnds()
		return nil, err
	}
	return newChild(process, p)
}

func newChild(process *os.Process, p *pipes) (*child, error) {
	c := bareChild(process, p)
	offerToTheKernel(process.Pid)
	out, err := newPipeSink(p.toWorker[1])
	c.toWorker, c.fromWorker = out, p.fromWorker[0]
	if err != nil { // cannot be: the file is a pipe and open
		c.signal(syscall.SIGKILL)
		c.wait()
		c.reap()
		p.closeHostEnds()
		return nil, err
	}
	return c, nil
}

// bareChild is a process without pipes for frames.
func bareChild(process *os.Process, p *pipes) *child {
	c := &child{
		pid: process.Pid, stdout: p.stdout[0], stderr: p.stderr[0],
		signal:    func(s syscall.Signal) { _ = syscall.Kill(-process.Pid, s) },
		askStacks: func() { _ = syscall.Kill(process.Pid, syscall.SIGUSR2) }, // not to the group: it would kill what does not know it
		ownMemory: func(atLeast uint64) uint64 { return ownMemory(process.Pid, atLeast) },
	}
	c.wait, c.reap = waitFuncs(process)
	return c
}

func signalName(s syscall.Signal) string { return unix.SignalName(s) }

func statusOf(state *os.ProcessState, err error) exitStatus {
	if err != nil {
		return exitStatus{code: -1}
	}
	ws, ok := state.Sys().(syscall.WaitStatus)
	if ok && ws.Signaled() {
		return exitStatus{code: -1, signal: ws.Signal()}
	}
	return exitStatus{code: state.ExitCode()}
}

// onePipe says where a pipe goes and how it is used.
type onePipe struct {
	pipe    *[2]*os.File
	name    string
	hostEnd int
	frames  bool
}

func openPipes() (*pipes, error) {
	p, err := openLogPipes()
	if err != nil {
		return p, err
	}
	return p, open(onePipe{&p.toWorker, "frames to worker", 1, true}, onePipe{&p.fromWorker, "frames from worker", 0, true})
}

func openLogPipes() (*pipes, error) {
	p := &pipes{}
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

func (p *pipes) closeWorkerEnds() {
	closeAll(p.toWorker[0], p.fromWorker[1], p.stdout[1], p.stderr[1])
}

func (p *pipes) closeHostEnds() {
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

// Try implements sink.
func (s *pipeSink) Try(head, body []byte) (int, error) {
	if len(body) <= smallFrame {
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
