package dspex

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/contract"
)

// ErrorCategory is one of the nine kinds of failure. It is an error itself, so that errors.Is(err, ErrTimeout) works.
type ErrorCategory string

// The categories, by what failed.
const (
	ErrInitialization ErrorCategory = contract.Initialization // a worker did not start
	ErrConnection     ErrorCategory = contract.Connection     // the broker, a worker or a language model cannot be reached
	ErrCommunication  ErrorCategory = contract.Communication  // an answer that cannot be read
	ErrTimeout        ErrorCategory = contract.Timeout        // an attempt, or the wait for a reply, took too long
	ErrResource       ErrorCategory = contract.Resource       // no slot, no pool, a full queue, an open breaker, a rate limit
	ErrHealthCheck    ErrorCategory = contract.HealthCheck    // a worker does not answer
	ErrSession        ErrorCategory = contract.Session        // session state, or an unknown id
	ErrPython         ErrorCategory = contract.Python         // the program raised, or the request was invalid
	ErrSystem         ErrorCategory = contract.System         // anything else
)

// Error returns the category's name.
func (c ErrorCategory) Error() string { return string(c) }

// ErrInvalid is the kind of an *Error whose call this client refused to send: an option out of range, an id of another form,
// arguments without a JSON form. Such an error has no category, because no job and no broker failed.
var ErrInvalid = errors.New("invalid call")

// Codes that this client itself gives to an error; contract/commands.md lists all others.
const (
	CodeClientTimeout   = "client_timeout"             // no reply within the context's deadline or the call's own bound
	CodeClientCancelled = "client_cancelled"           // the context was cancelled; the job may still run
	CodeBadReply        = "bad_reply"                  // an answer that is not of contract/job.md
	CodeWrongDomain     = "wrong_domain"               // stored in another JetStream domain than that of WithJetStreamDomain
	CodeBroker          = contract.CodeBroker          // no connection to NATS
	CodePoolUnavailable = contract.CodePoolUnavailable // NATS answers, dspex does not
	CodeBadRequest      = contract.CodeBadRequest      // arguments that have no JSON form
	CodeBadOption       = contract.CodeBadOption       // an option out of range
	CodeBadSession      = contract.CodeBadSession      // not [A-Za-z0-9_-]{1,64}
	CodeBadJob          = contract.CodeBadJob          // not [A-Za-z0-9_-]{1,48}, or of a reserved form
	CodeSecret          = contract.CodeSecret          // an API key instead of a reference to one
	CodeTooLarge        = contract.CodeTooLarge        // larger than the broker's limit
	CodeOverloaded      = contract.CodeOverloaded      // no worker would be free in time, or the burst is too large; retry after RetryAfter
	CodeQueueFull       = contract.CodeQueueFull       // the session has too many waiting jobs
	CodeStoreFull       = contract.CodeStoreFull       // the broker has no room
	CodeJobUnknown      = contract.CodeJobUnknown      // an id that was never seen, or whose lifetime is over
)

// Error is why a job failed, or why it could not be requested. Zero fields were not given.
type Error struct {
	Category         ErrorCategory // "" for ErrInvalid and for a cancelled context
	Code             string        // stable, for programs
	Message          string        // for people
	Hint             string        // what to do about it
	Retryable        bool          // the same request may succeed later
	RetryAfter       time.Duration
	Severity         string // minor, major or critical
	RecoveryStrategy string
	Recoverable      bool
	Expected         string // of bad input: what was expected
	Path             string // of bad input: where
	Job              JobRef // as far as it is known
	Attempt          int
	Worker           string
	PythonType       string // the exception's class
	Traceback        string

	cause error
}

func (e *Error) Error() string {
	text := e.Code + ": " + e.Message
	if e.Category != "" {
		text = fmt.Sprintf("%s (%s): %s", e.Category, e.Code, e.Message)
	}
	if e.Path != "" {
		text += ": " + e.Path
	}
	if e.Expected != "" && !strings.Contains(e.Message, e.Expected) {
		text += ": must be " + e.Expected
	}
	return text
}

// Is reports whether target is the error's category.
func (e *Error) Is(target error) bool {
	category, ok := target.(ErrorCategory)
	return ok && category == e.Category
}

// Unwrap returns the cause, such as ErrInvalid, context.Canceled or an error of nats.go; nil for failures of the job.
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

func (w *wireError) error(job JobRef, attempt int) *Error {
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

// MarshalJSON writes the error as it stands in replies on the wire. One without a category has no error_category.
func (e *Error) MarshalJSON() ([]byte, error) {
	out := map[string]any{"code": e.Code, "message": e.Message, "retryable": e.Retryable}
	for name, text := range map[string]string{
		"error_category": string(e.Category), "hint": e.Hint, "severity": e.Severity, "recovery_strategy": e.RecoveryStrategy,
		"expected": e.Expected, "path": e.Path, "worker": e.Worker, "python_type": e.PythonType, "traceback": e.Traceback,
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
		Hint: "check whether another service answers the dspex.rpc subjects, or one side is much older than the other"}
}

// invalid is the error of a call that is not sent.
func invalid(code, path, expected, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Path: path, Expected: expected, cause: ErrInvalid}
}

// cancelled is the error of a call whose context was cancelled. It matches context.Canceled and the context's cause.
func cancelled(ctx context.Context, err error, job JobRef) *Error {
	e := &Error{Code: CodeClientCancelled, Message: "the context was cancelled", Job: job, cause: err,
		Hint: "the job may still run; with a job id of your own (WithJobID) its outcome can be fetched"}
	if why := context.Cause(ctx); why != nil && !errors.Is(why, context.Canceled) {
		e.Message += ": " + why.Error()
		e.cause = fmt.Errorf("%w: %w", err, why)
	}
	return e
}

// transport turns an error of nats.go into an Error; job is the job, as far as it is known.
func transport(ctx context.Context, err error, job JobRef) *Error {
	if errors.Is(err, context.Canceled) {
		return cancelled(ctx, err, job)
	}
	e := &Error{Category: ErrConnection, Code: CodeBroker, Message: "the broker could not be reached: " + err.Error(), Retryable: true, Job: job, cause: err}
	switch {
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, jetstream.ErrNoStreamResponse):
		e.Category, e.Code = ErrResource, CodePoolUnavailable
		e.Message, e.Hint = "Pool not available: the broker answers, but no dispatcher serves", "start a dispatcher, or `dspex dev`"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout), errors.Is(err, jetstream.ErrAsyncPublishTimeout):
		e.Category, e.Code, e.Message = ErrTimeout, CodeClientTimeout, "no reply in time"
		e.Hint = "the job may still run; with a job id of your own (WithJobID) its outcome can be fetched, and a repeat is safe"
	case errors.Is(err, nats.ErrMaxPayload):
		e.Category, e.Code, e.Retryable = ErrSession, CodeTooLarge, false
		e.Message, e.Hint = "the request is larger than the broker's limit", "pass large inputs by reference"
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrPermissionViolation):
		e.Retryable, e.Message, e.Hint = false, "the broker refused the credentials: "+err.Error(), "check the user, or use a context with the right one"
	}
	return e
}

// JobRef names a job: its id is unique within its session.
type JobRef struct {
	Session string // "" for an anonymous job
	ID      string // chosen with WithJobID, else q<sequence>
}

// String is the session and the id, or the id alone.
func (r JobRef) String() string {
	if r.Session == "" {
		return r.ID
	}
	return r.Session + "/" + r.ID
}
