package contract

import "time"

// MaxTogether is how many jobs one jobs.submit takes: as many messages as the broker stores all or none (nats-server 2.12 on).
const MaxTogether = 1000

// Bounds and defaults of a job's options (contract/job.md, "Request body" and "Retries").
const (
	DefaultTimeout  = 30 * time.Second // of one attempt
	MinTimeout      = time.Millisecond
	MaxTimeout      = 24 * time.Hour  // also of a deadline
	CheckoutTimeout = 5 * time.Second // how long a call waits for a slot by default
	QueueFullRetry  = time.Second     // after a full session queue: its first job may have ended by then

	MaxRetries  = 20                     // that a job may request
	BackoffBase = 100 * time.Millisecond // first delay of the strategies
	BackoffCap  = 30 * time.Second       // no delay is longer, jitter included; a job may request less
	MaxJitter   = 0.25
	// MostGrantedRetries is the most that any error category grants to a job that requests no number.
	MostGrantedRetries = 5
)
