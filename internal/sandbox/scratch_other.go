//go:build !linux

package sandbox

import (
	"errors"
	"os"
)

func makeScratch() (string, *os.File, error) { return "", nil, errors.ErrUnsupported }
