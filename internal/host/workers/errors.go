package workers

import (
	"errors"
	"fmt"
	"strings"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/pyproc"
)

// CallError is the error of a call whose worker did not answer it.
func CallError(err error, worker string) *jobs.Error {
	e := jobs.Errorf(jobs.Connection, jobs.CodeWorkerDied, "%s", spoken(err)).Again()
	e.Worker = worker
	if _, ok := errors.AsType[*pyproc.TooLargeError](err); ok {
		e.Category, e.Code, e.Retryable = jobs.Session, jobs.CodeTooLarge, false
	} else if hung, ok := errors.AsType[*pyproc.HungError](err); ok {
		e.Traceback = hung.Stack
		if hung.For == "PONG" { // else the hang was another call's
			e.Category, e.Code = jobs.HealthCheck, jobs.CodeWorkerHung
		}
	} else if _, ok := errors.AsType[*pyproc.ProtocolError](err); ok {
		e.Category, e.Code = jobs.Communication, jobs.CodeBadFrame
	}
	return e
}

// spoken is what a client may see of a worker's end: all but its last line on stderr, which another job may have written.
func spoken(err error) string {
	if exit, ok := errors.AsType[*pyproc.ExitError](err); ok {
		own := *exit
		own.StderrTail = ""
		err = &own
	}
	return strings.TrimPrefix(err.Error(), "pyproc: ")
}

// StartError is the error of a job that no worker can be started for.
func StartError(err error) *jobs.Error {
	e := jobs.Errorf(jobs.Initialization, jobs.CodeWorkerStart, "no worker can be started: %s", spoken(err)).Again().
		WithHint("the host's log has the worker's own error; worker-host prepare checks the Python environment")
	if start, ok := errors.AsType[*pyproc.StartError](err); ok && start.Message != "" {
		e.Message = fmt.Sprintf("no worker can be started: %s (%s)", start.Message, start.Code)
		e.Traceback = start.Traceback
		if start.Hint != "" {
			e.Hint = start.Hint
		}
	}
	if unavailable, ok := errors.AsType[*pyproc.UnavailableError](err); ok {
		e.RetryAfter = unavailable.RetryAfter
	}
	return e
}
