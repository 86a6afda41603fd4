package proc

import (
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// sysProcAttr: macOS has no parent-death signal; a worker ends when its input does.
func sysProcAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// waitFuncs: wait reaps at once. The group is signalled right after that, which is a race with the reuse of the number, lost only
// if all others of the group have ended and the number comes round within microseconds.
func waitFuncs(process *os.Process) (wait func(), reap func() ExitStatus) {
	reap = sync.OnceValue(func() ExitStatus { return statusOf(process.Wait()) })
	return func() { reap() }, reap
}

func pipe(fds *[2]int) error {
	syscall.ForkLock.RLock() // no fork between the pipe and its close-on-exec flags
	defer syscall.ForkLock.RUnlock()
	if err := unix.Pipe(fds[:]); err != nil {
		return err
	}
	unix.CloseOnExec(fds[0])
	unix.CloseOnExec(fds[1])
	return nil
}

// ownMemory cannot be measured cheaply.
func ownMemory(int, uint64) uint64 { return 0 }

// enlarge does nothing: macOS grows pipes by itself.
func enlarge(int) {}

// offerToTheKernel does nothing: macOS has no such order.
func offerToTheKernel(int) {}
