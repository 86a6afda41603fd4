package sandbox

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Names of the directories in which workers have theirs. One is renamed when its lock is held, so that nobody takes it for left over.
const (
	scratchPrefix = "dspex-workers-"
	unlocked      = "dspex-starting-"
)

// makeScratch makes the directory of the workers' directories, which is locked as long as lock is open, and removes those that hosts which
// were killed have left.
func makeScratch() (dir string, lock *os.File, err error) {
	removeLeft()
	made, err := os.MkdirTemp("", unlocked)
	if err != nil {
		return "", nil, err
	}
	dir = filepath.Join(filepath.Dir(made), scratchPrefix+strings.TrimPrefix(filepath.Base(made), unlocked))
	if lock, err = lockDir(made); err == nil {
		err = os.Rename(made, dir)
	}
	if err != nil {
		os.Remove(made)
	}
	return dir, lock, err
}

func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, os.NewSyscallError("flock", err)
	}
	return f, nil
}

// removeLeft removes what this user's hosts have left. What cannot be removed stays.
func removeLeft() {
	left, _ := filepath.Glob(filepath.Join(os.TempDir(), scratchPrefix+"*"))
	for _, dir := range left {
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() || int(info.Sys().(*syscall.Stat_t).Uid) != os.Geteuid() {
			continue
		}
		if lock, err := lockDir(dir); err == nil {
			_ = os.RemoveAll(dir)
			lock.Close()
		}
	}
}
