package jobs

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Category is one of the nine error categories (docs/migration.md, "Error categories").
type Category string

// The categories, spelled as on the wire.
const (
	Initialization Category = "initialization"
	Connection     Category = "connection"
	Communication  Category = "communication"
	Timeout        Category = "timeout"
	Resource       Category = "resource_error"
	HealthCheck    Category = "health_check"
	Session        Category = "session"
	Python         Category = "python"
	System         Category = "system_error"
)

// Traits are what a category means to a reader and to the retry policy. Severity and strategy are constants of the
// category, carried for readers: they decide nothing.
type Traits struct {
	Severity string // minor, major, critical
	Strategy string // recovery_strategy on the wire
	Retries  int    // retries when the job sets none
	Backoff  Backoff
}

var traits = map[Category]Traits{
	Initialization: {"critical", "circuit_break", 3, Exponential()},
	Connection:     {"major", "backoff_retry", 5, Exponential()},
	Communication:  {"major", "immediate_retry", 3, Delays(0, 100*time.Millisecond, 200*time.Millisecond)},
	Timeout:        {"major", "backoff_retry", 2, Exponential()},
	Resource:       {"critical", "circuit_break", 0, Exponential()},
	HealthCheck:    {"minor", "backoff_retry", 3, Linear()},
	Session:        {"minor", "immediate_retry", 3, Linear()},
	Python:         {"major", "failover", 2, Exponential()},
	System:         {"critical", "abandon", 0, Exponential()},
}

var lmTraits = Traits{"major", "failover", 3, Exponential()}

// Categories lists the nine.
func Categories() []Category { return slices.Sorted(maps.Keys(traits)) }

// ParseCategory reads one of the nine, with or without the ending _error.
func ParseCategory(text string) (Category, bool) {
	bare := strings.TrimSuffix(text, "_error")
	for _, c := range []Category{Category(bare), Category(bare + "_error")} {
		if c.Known() {
			return c, true
		}
	}
	return "", false
}

// Known reports whether c is one of the nine.
func (c Category) Known() bool { _, ok := traits[c]; return ok }

// Codes that the Go side raises; Python's codes travel through. A code is stable, a message is for people.
const (
	CodeBadRequest       = "bad_request"
	CodeBadOption        = "bad_option"
	CodeBadInput         = "bad_input" // arguments of a command
	CodeBadHeader        = "bad_header"
	CodeBadSession       = "bad_session_id"
	CodeBadJob           = "bad_job_id"
	CodeBadReply         = "bad_reply_subject"
	CodeTooLarge         = "too_large"
	CodeSecret           = "secret_in_request"
	CodeConflict         = "conflict"
	CodeJobUnknown       = "job_unknown"
	CodeLetterUnknown    = "dead_letter_unknown"
	CodeExpired          = "deadline_exceeded"
	CodePending          = "outcome_pending"
	CodeOperationTimeout = "operation_timeout"
	CodeCheckoutTimeout  = "checkout_timeout"
	CodeQueueFull        = "session_queue_full"
	CodeStoreFull        = "store_full"
	CodePoolUnavailable  = "pool_not_available"
	CodeBroker           = "broker_unreachable"
	CodeBreakerOpen      = "breaker_open"
	CodeBreakerUnknown   = "breaker_unknown"
	CodeWorkerDied       = "worker_died"
	CodeWorkerHung       = "worker_hung"
	CodeCrashed          = "attempt_crashed"
	CodeWorkerStart      = "worker_start_failed"
	CodeBadFrame         = "bad_frame"
	CodeStateMissing     = "state_missing"
	CodeSessionUnknown   = "session_unknown"
	CodeSessionNotEmpty  = "session_not_empty"
	CodeNotJSON          = "not_json"
	CodeHostUnknown      = "host_unknown"
	CodeConsumerUnknown  = "consumer_unknown"
	CodeStateRequired    = "state_required"
	CodeStateTooLarge    = "state_too_large"
	CodeResultTooLarge   = "result_too_large"
	CodeRecordNewer      = "record_newer"
	CodeRecordUnreadable = "record_unreadable"
	CodeLMUnknown        = "lm_unknown"
	CodeCancelled        = "cancelled"
	CodeShuttingDown     = "shutting_down"
	CodeBug              = "internal"
	CodeLMRateLimit      = "lm_rate_limit"
	CodeLMServer         = "lm_server_error"
)

var numbers = map[string]int{
	CodeBadRequest: 400, CodeBadOption: 400, CodeBadInput: 400, CodeBadHeader: 400, CodeBadSession: 400, CodeBadJob: 400, CodeBadReply: 400,
	CodeSecret: 400, CodeTooLarge: 413, CodeConflict: 409, CodeJobUnknown: 404, CodeLetterUnknown: 404, CodeExpired: 408, CodeOperationTimeout: 504,
	CodeCheckoutTimeout: 503, CodeQueueFull: 429, CodeStoreFull: 507, CodePoolUnavailable: 503, CodeBroker: 503, CodePending: 503,
	CodeWorkerDied: 502, CodeWorkerHung: 503, CodeCrashed: 502, CodeWorkerStart: 503, CodeBadFrame: 502,
	CodeSessionUnknown: 404, CodeSessionNotEmpty: 409, CodeNotJSON: 422, CodeHostUnknown: 404, CodeConsumerUnknown: 404, CodeStateRequired: 412, CodeStateTooLarge: 413,
	CodeBreakerOpen: 503, CodeBreakerUnknown: 404,
	"bad_signature": 400, "unknown_command": 400, "unsupported_command": 400, "session_mismatch": 400, "session_required": 400, // Python's
	"program_unknown": 404, "program_exists": 409, "lm_timeout": 504, "lm_connection": 502,
	CodeResultTooLarge: 413, CodeLMUnknown: 400, CodeCancelled: 499, CodeShuttingDown: 503, CodeLMRateLimit: 429, CodeLMServer: 502,
}

var categoryNumbers = map[Category]int{
	Initialization: 503, Connection: 502, Communication: 502, Timeout: 504, Resource: 503, HealthCheck: 503, Session: 409, Python: 422, System: 500,
}

// Error is a failure in the form that clients see. Zero fields are left out of the reply.
type Error struct {
	Category   Category
	Code       string
	Message    string
	Hint       string
	Expected   string
	Path       string
	Retryable  bool
	RetryAfter time.Duration
	Worker     string
	PythonType string
	Traceback  string
}

func (e *Error) Error() string { return fmt.Sprintf("%s (%s): %s", e.Category, e.Code, e.Message) }

// Number is the HTTP-like number in the header Nats-Service-Error-Code.
func (e *Error) Number() int {
	if n, ok := numbers[e.Code]; ok {
		return n
	}
	if n, ok := categoryNumbers[e.Category]; ok {
		return n
	}
	return 500
}

// Requested reports whether the request itself is the reason, or the client's own wish: no pool would have done better.
func (e *Error) Requested() bool {
	switch numbers[e.Code] {
	case 400, 404, 409, 412, 413, 499:
		return true
	}
	return false
}

// Traits returns the constants of the error's category; a language model's own overload counts as major.
func (e *Error) Traits() Traits {
	if e.Category == Resource && (e.Code == CodeLMRateLimit || e.Code == CodeLMServer) {
		return lmTraits
	}
	return traits[e.Category]
}

// Errorf makes an error that no retry can cure.
func Errorf(category Category, code, format string, args ...any) *Error {
	return &Error{Category: category, Code: code, Message: fmt.Sprintf(format, args...)}
}

// WithHint adds what the reader can do about it.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// Again marks the error as one that a retry may cure.
func (e *Error) Again() *Error {
	e.Retryable = true
	return e
}
