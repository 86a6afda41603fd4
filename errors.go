package dspex

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrorCategory is one of the nine kinds of failure. It is an error itself, so that errors.Is(err, ErrTimeout) works.
type ErrorCategory string

// The categories, by what failed.
const (
	ErrInitialization ErrorCategory = "initialization" // a worker did not start
	ErrConnection     ErrorCategory = "connection"     // broker, pipe or language model not reached
	ErrCommunication  ErrorCategory = "communication"  // an answer that cannot be read
	ErrTimeout        ErrorCategory = "timeout"        // an attempt, or the wait for a reply, took too long
	ErrResource       ErrorCategory = "resource_error" // no slot, pool off or full, breaker open, rate limit
	ErrHealthCheck    ErrorCategory = "health_check"   // a worker does not answer
	ErrSession        ErrorCategory = "session"        // session state, or an unknown id
	ErrPython         ErrorCategory = "python"         // the program raised, or what was asked of it makes no sense
	ErrSystem         ErrorCategory = "system_error"   // anything else
)

// Error returns the category's name.
func (c ErrorCategory) Error() string { return string(c) }

// Codes that this client itself gives to an error; all others come from the other side.
const (
	CodeClientTimeout   = "client_timeout"     // no reply within the context's deadline or the call's own bound
	CodeBroker          = "broker_unreachable" // no connection to NATS
	CodePoolUnavailable = "pool_not_available" // NATS is there, dspex is not
	CodeBadReply        = "bad_reply"          // an answer that is not of contract/job.md
	CodeBadRequest      = "bad_request"        // arguments that have no JSON form
	CodeBadOption       = "bad_option"         // an option out of range, or one without effect
	CodeBadSession      = "bad_session_id"     // not [A-Za-z0-9_-]{1,64}
	CodeBadJob          = "bad_job_id"         // not [A-Za-z0-9_-]{1,48}, or of a reserved form
	CodeSecret          = "secret_in_request"  // an API key instead of a reference to one
	CodeTooLarge        = "too_large"          // more than the broker takes
	CodeQueueFull       = "session_queue_full" // the session has too many waiting jobs
	CodeStoreFull       = "store_full"         // the broker has no room
)

// Error is why a job failed, or why it could not be asked for. Zero fields were not given.
type Error struct {
	Category         ErrorCategory
	Code             string // stable, for programs
	Message          string // for people
	Hint             string // what to do about it
	Retryable        bool   // the same request may succeed later
	RetryAfter       time.Duration
	Severity         string // minor, major or critical
	RecoveryStrategy string
	Recoverable      bool
	Expected         string // of bad input: what was expected
	Path             string // of bad input: where
	Job              string
	Attempt          int
	Worker           string
	PythonType       string // the exception's class
	Traceback        string

	cause error
}

func (e *Error) Error() string {
	text := fmt.Sprintf("%s (%s): %s", e.Category, e.Code, e.Message)
	if e.Path != "" {
		text += ": " + e.Path
	}
	if e.Expected != "" {
		text += ": expected " + e.Expected
	}
	return text
}

// Is reports whether target is the error's category.
func (e *Error) Is(target error) bool {
	category, ok := target.(ErrorCategory)
	return ok && category == e.Category
}

// Unwrap returns what the client met, such as context.DeadlineExceeded or an error of nats.go; nil for failures of the job.
func (e *Error) Unwrap() error { return e.cause }

// wireError is the error of a reply.
type wireError struct {
	Category         string `json:"error_category"`
	Code             string `json:"code"`
	Message          string `json:"message"`
	Hint             string `json:"hint"`
	Retryable        bool   `json:"retryable"`
	RetryAfterMS     int64  `json:"retry_after_ms"`
	Severity         string `json:"severity"`
	RecoveryStrategy string `json:"recovery_strategy"`
	Recoverable      bool   `json:"recoverable"`
	Expected         string `json:"expected"`
	Path             string `json:"path"`
	Attempt          int    `json:"attempt"`
	Worker           string `json:"worker"`
	PythonType       string `json:"python_type"`
	Traceback        string `json:"traceback"`
}

func (w *wireError) error(job string, attempt int) *Error {
	if w.Attempt == 0 {
		w.Attempt = attempt
	}
	return &Error{
		Category: ErrorCategory(w.Category), Code: w.Code, Message: w.Message, Hint: w.Hint, Retryable: w.Retryable,
		RetryAfter: time.Duration(w.RetryAfterMS) * time.Millisecond, Severity: w.Severity, RecoveryStrategy: w.RecoveryStrategy,
		Recoverable: w.Recoverable, Expected: w.Expected, Path: w.Path, Job: job, Attempt: w.Attempt, Worker: w.Worker,
		PythonType: w.PythonType, Traceback: w.Traceback,
	}
}

// MarshalJSON writes the error as it stands in replies on the wire.
func (e *Error) MarshalJSON() ([]byte, error) {
	out := map[string]any{"error_category": e.Category, "code": e.Code, "message": e.Message, "retryable": e.Retryable}
	for name, text := range map[string]string{
		"hint": e.Hint, "severity": e.Severity, "recovery_strategy": e.RecoveryStrategy, "expected": e.Expected, "path": e.Path,
		"worker": e.Worker, "python_type": e.PythonType, "traceback": e.Traceback,
	} {
		if text != "" {
			out[name] = text
		}
	}
	if e.Severity != "" {
		out["recoverable"] = e.Recoverable
	}
	if e.RetryAfter > 0 {
		out["retry_after_ms"] = e.RetryAfter.Milliseconds()
	}
	if e.Attempt > 0 {
		out["attempt"] = e.Attempt
	}
	return json.Marshal(out)
}

func badReply(format string, args ...any) *Error {
	return &Error{Category: ErrCommunication, Code: CodeBadReply, Message: fmt.Sprintf(format, args...),
		Hint: "is something else serving the dspex.rpc subjects, or is one side much older than the other?"}
}

func badOption(path, expected, format string, args ...any) *Error {
	return &Error{Category: ErrPython, Code: CodeBadOption, Message: fmt.Sprintf(format, args...), Path: path, Expected: expected}
}

// transport turns what nats.go met into an Error; job is the job's id if it is known.
func transport(ctx context.Context, err error, job string) error {
	e := &Error{Category: ErrConnection, Code: CodeBroker, Message: "the broker was not reached: " + err.Error(), Retryable: true, Job: job, cause: err}
	switch {
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, jetstream.ErrNoStreamResponse):
		e.Category, e.Code = ErrResource, CodePoolUnavailable
		e.Message, e.Hint = "Pool not available: the broker is there, but no dispatcher serves it", "start a dispatcher, or `dspex dev`"
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("waiting for the reply: %w", context.Cause(ctx))
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout), errors.Is(err, jetstream.ErrAsyncPublishTimeout):
		e.Category, e.Code, e.Message = ErrTimeout, CodeClientTimeout, "no reply in time"
		e.Hint = "the job may still run; with a job id of your own (WithJob) its outcome can be fetched, and asking again is safe"
	case errors.Is(err, nats.ErrMaxPayload):
		e.Category, e.Code, e.Retryable = ErrSession, CodeTooLarge, false
		e.Message, e.Hint = "the request is larger than the broker takes", "pass large inputs by reference"
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrPermissionViolation):
		e.Retryable, e.Message, e.Hint = false, "the broker refused the credentials: "+err.Error(), "check the user, or name a context that has the right one"
	}
	return e
}
