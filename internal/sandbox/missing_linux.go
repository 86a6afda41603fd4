package sandbox

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// leastLandlock is the first version of Landlock that keeps signals in.
const leastLandlock = 6

// missing reports what this machine lacks for a level. Both levels above none need the same.
func missing(l Level) error {
	if l == None {
		return nil
	}
	return machine()
}

var machine = sync.OnceValue(func() error {
	var all []error
	if !filters {
		all = append(all, fmt.Errorf("no filter of system calls is known for %s", runtime.GOARCH))
	}
	if version, err := landlock(); err != nil {
		all = append(all, fmt.Errorf("the kernel must have Landlock %d (Linux 6.12) and let this process use it, got %w", leastLandlock, err))
	} else if version < leastLandlock {
		all = append(all, fmt.Errorf("the kernel must have Landlock %d (Linux 6.12), got %d", leastLandlock, version))
	}
	action := uint32(unix.SECCOMP_RET_ERRNO)
	if _, _, err := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&action))); err != 0 {
		all = append(all, fmt.Errorf("the kernel must have seccomp filters and let this process use them, got %w", err))
	}
	return errors.Join(all...)
})

// landlock queries the kernel for the version of its interface.
func landlock() (int, error) {
	version, _, err := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if err != 0 {
		return 0, err
	}
	return int(version), nil
}
