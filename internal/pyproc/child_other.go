//go:build !linux && !darwin

package pyproc

import (
	"errors"
	"syscall"
)

func signalName(s syscall.Signal) string { return s.String() }

func startProcess(spec) (*child, error) {
	return nil, errors.New("workers run on Linux and macOS only: " + errors.ErrUnsupported.Error())
}
