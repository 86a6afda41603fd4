//go:build linux || darwin

package proc

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Pipes are the four pipes of a worker: [0] is the read end, [1] the write end.
type Pipes struct {
	toWorker, fromWorker, stdout, stderr [2]*os.File
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
