package jobs

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/dspex/dspex/internal/contract"
)

// Category is one of the nine error categories (docs/migration.md, "Error categories").
type Category string

// The categories, spelled as on the wire.
const (
	Initialization Category = contract.Initialization
	Connection     Category = contract.Connection
	Communication  Category = contract.Communication
	Timeout        Category = contract.Timeout
	Resource       Category = contract.Resource
	HealthCheck    Category = contract.HealthCheck
	Session        Category = contract.Session
	Python         Category = contract.Python
	System         Category = contract.System
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

// The codes of package contract under short names, for code that makes an Error.
const (
	CodeBadRequest        = contract.CodeBadRequest
	CodeBadOption         = contract.CodeBadOption
	CodeBadInput          = contract.CodeBadInput
	CodeBadHeader         = contract.CodeBadHeader
	CodeBadSession        = contract.CodeBadSession
	CodeBadJob            = contract.CodeBadJob
	CodeBadReply          = contract.CodeBadReply
	CodeBadBatch          = contract.CodeBadBatch
	CodeBatchUnknown      = contract.CodeBatchUnknown
	CodeRole              = contract.CodeRole
	CodeTooLarge          = contract.CodeTooLarge
	CodeSecret            = contract.CodeSecret
	CodeConflict          = contract.CodeConflict
	CodeJobUnknown        = contract.CodeJobUnknown
	CodeDeadLetterUnknown = contract.CodeDeadLetterUnknown
	CodeExpired           = contract.CodeExpired
	CodePending           = contract.CodePending
	CodeOperationTimeout  = contract.CodeOperationTimeout
	CodeCheckoutTimeout   = contract.CodeCheckoutTimeout
	CodeOverloaded        = contract.CodeOverloaded
	CodeQueueFull         = contract.CodeQueueFull
	CodeQuota             = contract.CodeQuota
	CodeStoreFull         = contract.CodeStoreFull
	CodePoolUnavailable   = contract.CodePoolUnavailable
	CodeBroker            = contract.CodeBroker
	CodeBreakerOpen       = contract.CodeBreakerOpen
	CodeBreakerUnknown    = contract.CodeBreakerUnknown
	CodeWorkerDied        = contract.CodeWorkerDied
	CodeWorkerHung        = contract.CodeWorkerHung
	CodeCrashed           = contract.CodeCrashed
	CodeWorkerStart       = contract.CodeWorkerStart
	CodeBadFrame          = contract.CodeBadFrame
	CodeStateMissing      = contract.CodeStateMissing
	CodeSessionUnknown    = contract.CodeSessionUnknown
	CodeSessionNotEmpty   = contract.CodeSessionNotEmpty
	CodeNotJSON           = contract.CodeNotJSON
	CodeHostUnknown       = contract.CodeHostUnknown
	CodeConsumerUnknown   = contract.CodeConsumerUnknown
	CodeStateRequired     = contract.CodeStateRequired
	CodeStateTooLarge     = contract.CodeStateTooLarge
	CodeResultTooLarge    = contract.CodeResultTooLarge
	CodeObjectUnknown     = contract.CodeObjectUnknown
	CodeRecordNewer       = contract.CodeRecordNewer
	CodeRecordUnreadable  = contract.CodeRecordUnreadable
	CodeLMUnknown         = contract.CodeLMUnknown
	CodeCancelled         = contract.CodeCancelled
	CodeShuttingDown      = contract.CodeShuttingDown
	CodeBug               = contract.CodeBug
	CodeLMRateLimit       = contract.CodeLMRateLimit
	CodeLMServer          = contract.CodeLMServer
)

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
	OtherLM    bool // the language model that failed is none of the host's: it is not shown, and is no evidence of the task's own
}

func (e *Error) Error() string { return fmt.Sprintf("%s (%s): %s", e.Category, e.Code, e.Message) }

// Number is the HTTP-like number in the header Nats-Service-Error-Code.
func (e *Error) Number() int { return contract.Number(string(e.Category), e.Code) }

// Requested reports whether the request itself is the reason, or the client's own wish: no pool would have done better.
func (e *Error) Requested() bool { return contract.Requested(e.Code) }

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

// DeadlinePassed is the error of a job whose deadline came while it waited for what is named.
func DeadlinePassed(awaited string) *Error {
	return Errorf(Timeout, CodeExpired, "the job's deadline passed while it waited for %s", awaited).
		WithHint("give it more time (options.deadline, %s) or more workers", HeaderDeadline)
}

// NoWorkerFree is the error of a call that got no worker within the checkout timeout.
func NoWorkerFree(timeout time.Duration) *Error {
	e := Errorf(Resource, CodeCheckoutTimeout, "no worker was free within %v", timeout).Again().
		WithHint("raise pool_size (--workers), overflow, slots or checkout_timeout, or publish the job to dspex.session.<id> or dspex.anonymous.<lane>: a queued job waits")
	e.RetryAfter = timeout
	return e
}

// OutcomePending is the answer to a caller at the deadline of a job without an outcome.
func OutcomePending(why string) *Error {
	return Errorf(Connection, CodePending, "the job's deadline has passed and its outcome is not known yet: %s", why).
		WithHint("no host starts the job any more; fetch its outcome by its id (%s)", RPCJobsGet)
}

// Refused makes the error for bad input: where, and what would have been right.
func Refused(code, path, expected, format string, args ...any) *Error {
	e := Errorf(Python, code, format, args...)
	e.Path, e.Expected = path, expected
	return e
}

// Clip bounds what an error repeats of a client's text, and keeps it printable.
func Clip(s string) string {
	if len(s) > 64 {
		s = strings.ToValidUTF8(s[:64], "") + "..."
	}
	quoted, _ := json.Marshal(s)
	return string(quoted[1 : len(quoted)-1])
}

// oneLine makes text fit for a header of at most this many bytes.
func oneLine(s string, most int) string {
	b := []byte(s)
	for i, c := range b {
		if c < ' ' || c == 0x7f {
			b[i] = ' '
		}
	}
	if len(b) > most {
		b = b[:most]
	}
	return string(b)
}

// The first delay between attempts, and the longest (docs/migration.md, "Options").
const (
	BackoffBase = contract.BackoffBase
	BackoffCap  = contract.BackoffCap
)

// Backoff is a strategy for the delays between attempts.
type Backoff struct {
	Kind   string          // "exponential", "linear" or "list"
	Delays []time.Duration // Kind list: the delay before retry n is Delays[n-1], the last one repeats
}

// Exponential waits 100, 200, 400, 800 ms...
func Exponential() Backoff { return Backoff{Kind: "exponential"} }

// Linear waits 100, 200, 300 ms...
func Linear() Backoff { return Backoff{Kind: "linear"} }

// Delays waits as listed; it is the wire form of the original's backoff function.
func Delays(d ...time.Duration) Backoff { return Backoff{Kind: "list", Delays: d} }

// Delay is the wait before the given retry (1 is the first).
func (b Backoff) Delay(retry int) time.Duration {
	var d time.Duration
	switch b.Kind {
	case "linear":
		d = time.Duration(retry) * BackoffBase
	case "list":
		if len(b.Delays) == 0 {
			return 0
		}
		d = b.Delays[min(retry, len(b.Delays))-1]
	default:
		d = time.Duration(float64(BackoffBase) * math.Pow(2, float64(min(retry-1, 20))))
	}
	return min(d, BackoffCap)
}
