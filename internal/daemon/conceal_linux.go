package daemon

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

func conceal() error {
	if number := os.Getenv(concealedIn); number != "" { //nolint:forbidigo // it is about the process's own environment
		if err := recall(number); err != nil {
			return err
		}
		// exec has made the process traceable again.
		return os.NewSyscallError("prctl", unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0))
	}
	all := surroundings{Environ: os.Environ(), Args: os.Args} //nolint:forbidigo // the same
	seen := all.visible()
	if len(seen.Environ) == len(all.Environ) && slices.Equal(seen.Args, all.Args) {
		return os.NewSyscallError("prctl", unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0))
	}
	fd, err := all.keep()
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return os.NewSyscallError("exec", syscall.Exec(self, seen.Args, append(seen.Environ, concealedIn+"="+strconv.Itoa(fd))))
}

// keep writes them into memory that only the descriptor leads to. It outlives an exec.
func (s surroundings) keep() (int, error) {
	text, err := s.encode()
	if err != nil {
		return 0, err
	}
	fd, err := unix.MemfdCreate("dspex", 0)
	if err != nil {
		return 0, os.NewSyscallError("memfd_create", err)
	}
	for len(text) > 0 {
		n, err := unix.Write(fd, text)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return 0, os.NewSyscallError("write", err)
		}
		text = text[max(n, 0):]
	}
	_, err = unix.Seek(fd, 0, io.SeekStart)
	return fd, os.NewSyscallError("seek", err)
}

// recall takes what keep has written, and closes the descriptor.
func recall(number string) error {
	fd, err := strconv.Atoi(number)
	if err != nil || fd < 3 {
		return fmt.Errorf("$%s is reserved for the program, got %q: unset it", concealedIn, number)
	}
	file := os.NewFile(uintptr(fd), "surroundings")
	defer file.Close()
	text, err := io.ReadAll(file)
	if err != nil {
		return err
	}
	s, err := decodeSurroundings(text)
	if err != nil {
		return err
	}
	return s.adopt()
}
