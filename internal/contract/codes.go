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

// Codes of errors (contract/commands.md, "Codes"). A code is stable, a message is for people.
const (
	CodeBadRequest        = "bad_request"
	CodeBadOption         = "bad_option"
	CodeBadSession        = "bad_session_id"
	CodeBadJob            = "bad_job_id"
	CodeTooLarge          = "too_large"
	CodeSecret            = "secret_in_request"
	CodeQueueFull         = "session_queue_full"
	CodeStoreFull         = "store_full"
	CodePoolUnavailable   = "pool_not_available"
	CodeBroker            = "broker_unreachable"
	CodeCheckoutTimeout   = "checkout_timeout"
	CodeJobUnknown        = "job_unknown"
	CodeSessionUnknown    = "session_unknown"
	CodeSessionNotEmpty   = "session_not_empty"
	CodeHostUnknown       = "host_unknown"
	CodeBreakerUnknown    = "breaker_unknown"
	CodeDeadLetterUnknown = "dead_letter_unknown"
	CodeCancelled         = "cancelled"
	CodeUnknownCommand    = "unknown_command"
	CodeUserError         = "user_error"
)
