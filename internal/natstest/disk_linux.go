package natstest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// inNamespace reports to a test's process that it may mount.
const inNamespace = "DSPEX_TEST_NAMESPACE"

// SmallDisk mounts a disk of this many bytes for the test. Who may not mount runs the test again in a namespace where it may; then here
// is false, and the test has been run.
func SmallDisk(t *testing.T, size int64) (dir string, here bool) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "disk")
	check(t, os.Mkdir(dir, 0o700))
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size))
	if err == nil {
		t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
		return dir, true
	}
	if !errors.Is(err, syscall.EPERM) || os.Getenv(inNamespace) != "" {
		t.Fatalf("mounting a small disk: %v", err)
	}
	again := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	again.Env = append(os.Environ(), inNamespace+"=1")
	again.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := again.CombinedOutput()
	if err != nil {
		t.Fatalf("a small disk needs root, or user namespaces (sysctl kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns): %v\n%s", err, bytes.TrimSpace(out))
	}
	return "", false
}

// Fill takes all room on a disk, until free is called.
func Fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	check(t, err)
	t.Cleanup(func() { _ = f.Close() })
	for chunk, at := int64(16<<20), int64(0); chunk >= 4096; {
		err := syscall.Fallocate(int(f.Fd()), 0, at, chunk)
		switch {
		case err == nil:
			at += chunk
		case errors.Is(err, syscall.ENOSPC):
			chunk /= 2
		case !errors.Is(err, syscall.EINTR):
			t.Fatal(err)
		}
	}
	return func() { check(t, f.Truncate(0)) }
}
