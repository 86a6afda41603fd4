package jobs

import "time"

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

// OutcomePending tells who waits, at the deadline, that the job has no outcome yet.
func OutcomePending(why string) *Error {
	return Errorf(Connection, CodePending, "the job's deadline has passed and its outcome is not known yet: %s", why).
		WithHint("no host starts the job any more; fetch its outcome by its id (%s)", RPCJobsGet)
}
