//go:build linux || darwin

package devserver

import "syscall"

// freeOn is the room on the disk of a directory, in bytes.
func freeOn(dir string) (int64, error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return 0, err
	}
	return int64(fs.Bavail * uint64(fs.Bsize)), nil
}
