//go:build !linux && !darwin

package proc

import (
	"errors"
	"syscall"
)

// SignalName is the name of a signal.
func SignalName(s syscall.Signal) string { return s.String() }

// Start fails here.
func Start(Spec) (*Child, error) {
	return nil, errors.New("workers run on Linux and macOS only: " + errors.ErrUnsupported.Error())
}
