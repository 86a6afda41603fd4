//go:build linux || darwin

package doctor

import "golang.org/x/sys/unix"

// limits checks how many files a process may open: each worker has some, and each connection one.
func (d *doctor) limits() {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return
	}
	if files.Cur < fewestFiles {
		d.add("limits", Warning, "ulimit -n, or LimitNOFILE= of the unit", "a process may open %d files", files.Cur)
		return
	}
	d.fine("limits", "a process may open %d files", files.Cur)
}

// roomOf is the room on the disk of a directory, in bytes.
func roomOf(dir string) (int64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, err
	}
	return int64(fs.Bavail) * int64(fs.Bsize), nil //nolint:gosec,unconvert // their types differ between systems
}
