//go:build linux || darwin

package proc

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// SignalName is the name of a signal as people write it: SIGKILL.
func SignalName(s syscall.Signal) string { return unix.SignalName(s) }

func statusOf(state *os.ProcessState, err error) ExitStatus {
	if err != nil {
		return ExitStatus{Code: -1}
	}
	ws, ok := state.Sys().(syscall.WaitStatus)
	if ok && ws.Signaled() {
		return ExitStatus{Code: -1, Signal: ws.Signal()}
	}
	return ExitStatus{Code: state.ExitCode()}
}
