package proc

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// sysProcAttr: the kernel kills the worker when the Spawner's thread ends, that is when the host dies, even by SIGKILL. It does so even
// if the worker holds the GIL in C code and would never see the end of its input.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// waitFuncs: wait leaves the process unreaped.
func waitFuncs(process *os.Process) (wait func(), reap func() ExitStatus) {
	wait = func() {
		for {
			err := unix.Waitid(unix.P_PID, process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
			if !errors.Is(err, unix.EINTR) {
				return
			}
		}
	}
	return wait, func() ExitStatus { return statusOf(process.Wait()) }
}

func pipe(fds *[2]int) error { return unix.Pipe2(fds[:], unix.O_CLOEXEC) }

// enlarge gives a pipe 1 MiB, or what the user may have: a large body then crosses in few system calls. Whether it
// works changes the speed only.
func enlarge(fd int) {
	for _, size := range []int{1 << 20, 256 << 10} {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, size); err == nil {
			return
		}
	}
}
