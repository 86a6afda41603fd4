//go:build !unix

package devserver

import "os"

// claim makes the directory of the broker's data.
func claim(dir string) (release func(), err error) {
	return func() {}, os.MkdirAll(dir, 0o700)
}
