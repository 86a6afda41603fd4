package contract

// Categories of errors (contract/job.md, "Error categories").
const (
	Initialization = "initialization"
	Connection     = "connection"
	Communication  = "communication"
	Timeout        = "timeout"
	Resource       = "resource_error"
	HealthCheck    = "health_check"
	Session        = "session"
	Python         = "python"
	System         = "system_error"
)

// Codes of errors (contract/commands.md, "Codes"). A code is stable, a message is for people. Python raises more of them; those
// are not named here.
const (
	CodeBadRequest        = "bad_request"
	CodeBadOption         = "bad_option"
	CodeBadInput          = "bad_input" // arguments of a command
	CodeBadHeader         = "bad_header"
	CodeBadSession        = "bad_session_id"
	CodeBadJob            = "bad_job_id"
	CodeBadReply          = "bad_reply_subject"
	CodeBadBatch          = "bad_batch" // some of its jobs cannot be run
	CodeBatchUnknown      = "batch_unknown"
	CodeObjectUnknown     = "object_unknown" // never stored whole, expired or erased
	CodeRole              = "role_required"
	CodeTooLarge          = "too_large"
	CodeSecret            = "secret_in_request"
	CodeConflict          = "conflict"
	CodeJobUnknown        = "job_unknown"
	CodeDeadLetterUnknown = "dead_letter_unknown"
	CodeExpired           = "deadline_exceeded"
	CodePending           = "outcome_pending"
	CodeOperationTimeout  = "operation_timeout"
	CodeCheckoutTimeout   = "checkout_timeout"
	CodeOverloaded        = "overloaded"
	CodeQueueFull         = "session_queue_full"
	CodeQuota             = "tenant_quota"
	CodeStoreFull         = "store_full"
	CodePoolUnavailable   = "pool_not_available"
	CodeBroker            = "broker_unreachable"
	CodeBreakerOpen       = "breaker_open"
	CodeBreakerUnknown    = "breaker_unknown"
	CodeWorkerDied        = "worker_died"
	CodeWorkerHung        = "worker_hung"
	CodeCrashed           = "attempt_crashed"
	CodeWorkerStart       = "worker_start_failed"
	CodeBadFrame          = "bad_frame"
	CodeStateMissing      = "state_missing"
	CodeSessionUnknown    = "session_unknown"
	CodeSessionNotEmpty   = "session_not_empty"
	CodeNotJSON           = "not_json"
	CodeHostUnknown       = "host_unknown"
	CodeConsumerUnknown   = "consumer_unknown"
	CodeStateRequired     = "state_required"
	CodeStateTooLarge     = "state_too_large"
	CodeResultTooLarge    = "result_too_large"
	CodeRecordNewer       = "record_newer"
	CodeRecordUnreadable  = "record_unreadable"
	CodeLMUnknown         = "lm_unknown"
	CodeCancelled         = "cancelled"
	CodeShuttingDown      = "shutting_down"
	CodeBug               = "internal"
	CodeLMRateLimit       = "lm_rate_limit"
	CodeLMServer          = "lm_server_error"
	CodeUnknownCommand    = "unknown_command"
	CodeUserError         = "user_error"
)

// numbers are the HTTP-like numbers of codes; a code without one has its category's.
var numbers = map[string]int{
	CodeBadRequest: 400, CodeBadOption: 400, CodeBadInput: 400, CodeBadHeader: 400, CodeBadSession: 400, CodeBadJob: 400, CodeBadReply: 400, CodeBadBatch: 400,
	CodeSecret: 400, CodeRole: 403, CodeTooLarge: 413, CodeConflict: 409, CodeJobUnknown: 404, CodeBatchUnknown: 404, CodeObjectUnknown: 404, CodeDeadLetterUnknown: 404, CodeExpired: 408, CodeOperationTimeout: 504,
	CodeCheckoutTimeout: 503, CodeQueueFull: 429, CodeQuota: 429, CodeOverloaded: 429, CodeStoreFull: 507, CodePoolUnavailable: 503, CodeBroker: 503, CodePending: 503,
	CodeWorkerDied: 502, CodeWorkerHung: 503, CodeCrashed: 502, CodeWorkerStart: 503, CodeBadFrame: 502,
	CodeSessionUnknown: 404, CodeSessionNotEmpty: 409, CodeNotJSON: 422, CodeHostUnknown: 404, CodeConsumerUnknown: 404, CodeStateRequired: 412, CodeStateTooLarge: 413,
	CodeBreakerOpen: 503, CodeBreakerUnknown: 404,
	"bad_signature": 400, CodeUnknownCommand: 400, "unsupported_command": 400, "session_mismatch": 400, "session_required": 400, // Python's
	"program_unknown": 404, "program_exists": 409, "lm_timeout": 504, "lm_connection": 502,
	CodeResultTooLarge: 413, CodeLMUnknown: 400, CodeCancelled: 499, CodeShuttingDown: 503, CodeLMRateLimit: 429, CodeLMServer: 502,
}

var categoryNumbers = map[string]int{
	Initialization: 503, Connection: 502, Communication: 502, Timeout: 504, Resource: 503, HealthCheck: 503, Session: 409, Python: 422, System: 500,
}

// Number is the HTTP-like number of an error, in the header Nats-Service-Error-Code.
func Number(category, code string) int {
	if n, ok := numbers[code]; ok {
		return n
	}
	if n, ok := categoryNumbers[category]; ok {
		return n
	}
	return categoryNumbers[System]
}

// Requested reports whether the request itself is the reason of a code, or the client's own wish: no pool would have done better.
func Requested(code string) bool {
	switch numbers[code] {
	case 400, 403, 404, 409, 412, 413, 499:
		return true
	}
	return false
}
