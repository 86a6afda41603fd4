//go:build linux || darwin

package proc

import (
	"os"
	"os/exec"
	"syscall"
)

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
	c.RequestStacks = func() { _ = syscall.Kill(process.Pid, syscall.SIGUSR2) } // not to the group: it would kill processes without a handler for it
	c.OwnMemory = func(atLeast uint64) uint64 { return ownMemory(process.Pid, atLeast) }
	c.Wait, c.Reap = waitFuncs(process)
}

// Forked is a worker that a process of ours has forked, with its pipes. The caller reports how it is signalled and waited for; it has to do so
// also after an error, and the pipes are closed then.
func Forked(pid int, p *Pipes) (*Child, error) { return newChild(pid, p) }
