//go:build linux || darwin

package proc

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

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
