package dspex

import (
	"cmp"
	"time"
)

// Bounds and defaults of contract/job.md.
const (
	defaultTimeout = 30 * time.Second
	longest        = 24 * time.Hour
	mostRetries    = 20
	mostDelay      = 30 * time.Second
	mostJitter     = 0.25
	checkoutWait   = 5 * time.Second // how long a call may wait for a slot
	// grantedRetries is the most that any error category grants to a job that asks for no number.
	grantedRetries = 5
	backoffBase    = 100 * time.Millisecond
)

// Option is a wish for one job.
type Option func(*request)

// WithTimeout bounds one attempt: 1 ms to 24 h, 30 s by default.
func WithTimeout(d time.Duration) Option {
	return func(r *request) {
		r.timeout = d
		r.setDuration("timeout", d)
	}
}

// WithMaxRetries sets how often a failed attempt is repeated: 0 to 20 times, by default as the error's category says.
func WithMaxRetries(n int) Option {
	return func(r *request) {
		if n < 0 || n > mostRetries {
			r.fail(badOption("options.max_retries", "0 to 20", "max_retries is out of range"))
			return
		}
		r.retries = &n
		r.options["max_retries"] = n
	}
}

// Backoff is a strategy for the delays between attempts.
type Backoff struct {
	name   string
	delays []time.Duration
	delay  func(attempt int) time.Duration
}

// Linear waits 100, 200, 300 ms and so on.
func Linear() Backoff { return Backoff{name: "linear"} }

// Exponential waits 100, 200, 400, 800 ms and so on. It is the default.
func Exponential() Backoff { return Backoff{name: "exponential"} }

// Delays waits as listed, 1 to 20 delays of 30 s at most; the last one repeats.
func Delays(delays ...time.Duration) Backoff { return Backoff{delays: delays} }

// BackoffFunc asks f for the delay before each retry; attempt counts from 1. The client evaluates it when the job is asked
// for, once for each retry that the job may have: what travels is the list.
func BackoffFunc(f func(attempt int) time.Duration) Backoff { return Backoff{delay: f} }

// WithBackoff sets the delays between attempts.
func WithBackoff(b Backoff) Option { return func(r *request) { r.backoff = &b } }

// WithBackoffCap bounds each delay between attempts, jitter included: 1 ms to 30 s, 30 s by default.
func WithBackoffCap(d time.Duration) Option {
	return func(r *request) {
		if d < time.Millisecond || d > mostDelay {
			r.fail(badOption("options.backoff_cap", "1 ms to 30 s", "backoff_cap is out of range"))
			return
		}
		r.delayCap = d
		r.options["backoff_cap"] = milliseconds(d)
	}
}

// WithJitter spreads the delays between attempts, so that jobs which failed together do not come again together: each is drawn
// from d*(1-share) to d*(1+share). The share is 0 to 0.25; by default there is none.
func WithJitter(share float64) Option {
	return func(r *request) {
		if !(share >= 0 && share <= mostJitter) {
			r.fail(badOption("options.jitter", "0 to 0.25", "jitter is out of range"))
			return
		}
		r.jitter = share
		r.options["jitter"] = share
	}
}

// WithJob names the job: [A-Za-z0-9_-]{1,48}, not of the forms q<digits> or ...-r<digits>. The name is the idempotency key
// inside its session: asking again under the same name gives the first outcome instead of a second run.
func WithJob(id string) Option { return func(r *request) { r.job, r.jobGiven = id, true } }

// WithDeadline bounds the whole job, counted from its acceptance; after that it is expired and never run.
func WithDeadline(d time.Duration) Option {
	return func(r *request) {
		r.deadline = d
		r.setDuration("deadline", d)
	}
}

// WithSignature gives predict its program: text such as "question -> answer: int", or the map form.
func WithSignature(signature any) Option {
	return func(r *request) { r.options["signature"] = signature }
}

// WithOutputs names the outputs of a predict without signature; by default there is one, answer.
func WithOutputs(names ...string) Option { return func(r *request) { r.options["outputs"] = names } }

// WithModule selects the DSPy module of a predict: predict, chain_of_thought or react.
func WithModule(name string) Option { return func(r *request) { r.options["module"] = name } }

// WithLM selects a language-model profile of the host for this job only.
func WithLM(profile string) Option { return func(r *request) { r.options["lm"] = profile } }

// WithTemperature sets the sampling temperature, 0 to 2, for this job only.
func WithTemperature(t float64) Option { return func(r *request) { r.options["temperature"] = t } }

// WithRequireState refuses to run on a session of which nothing is known.
func WithRequireState() Option { return func(r *request) { r.options["require_state"] = true } }

// WithReplyTo sends the reply of a submitted job to a subject: without wildcards, under _INBOX. or dspex.reply.
func WithReplyTo(subject string) Option {
	return func(r *request) {
		if r.replyTo = subject; subject == "" {
			r.fail(badOption("", "a subject without wildcards under _INBOX. or dspex.reply.", "the reply subject is empty"))
		}
	}
}

func (r *request) setDuration(name string, d time.Duration) {
	if d < time.Millisecond || d > longest {
		r.fail(badOption("options."+name, "1 ms to 24 h", "%s is out of range", name))
		return
	}
	r.options[name] = milliseconds(d)
}

// milliseconds rounds up: a wait is never shorter than asked for.
func milliseconds(d time.Duration) int64 { return int64((d + time.Millisecond - 1) / time.Millisecond) }

// mayRetry is the number of retries that the job can have at most.
func (r *request) mayRetry() int {
	if r.retries != nil {
		return *r.retries
	}
	return grantedRetries
}

// setBackoff evaluates the strategy; it comes after all options because a function needs the number of retries.
func (r *request) setBackoff() {
	b := r.backoff
	switch {
	case b == nil:
		return
	case b.name != "":
		r.options["backoff"] = b.name
		return
	case b.delay != nil:
		for attempt := 1; attempt <= r.mayRetry(); attempt++ {
			b.delays = append(b.delays, b.delay(attempt))
		}
		if len(b.delays) == 0 { // no retries: nothing to wait for
			return
		}
	}
	if len(b.delays) < 1 || len(b.delays) > mostRetries {
		r.fail(badOption("options.backoff", "1 to 20 delays", "backoff has %d delays", len(b.delays)))
		return
	}
	list := make([]int64, len(b.delays))
	for i, d := range b.delays {
		if d < 0 || d > mostDelay {
			r.fail(badOption("options.backoff", "0 to 30 s", "a delay is out of range"))
			return
		}
		list[i] = milliseconds(d)
	}
	r.options["backoff"] = list
}

func (b *Backoff) before(retry int) time.Duration {
	switch {
	case b != nil && len(b.delays) > 0:
		return b.delays[min(retry, len(b.delays))-1]
	case b != nil && b.name == "linear":
		return min(time.Duration(retry)*backoffBase, mostDelay)
	}
	return min(backoffBase<<(retry-1), mostDelay)
}

// total is how long the job can take by its own options, without the wait for earlier jobs of its session.
func (r *request) total() time.Duration {
	if r.deadline > 0 {
		return r.deadline
	}
	total := time.Duration(r.mayRetry()+1)*r.timeout + checkoutWait
	for retry := 1; retry <= r.mayRetry(); retry++ {
		delay := time.Duration(float64(r.backoff.before(retry)) * (1 + r.jitter))
		total += min(delay, cmp.Or(r.delayCap, mostDelay))
	}
	return min(total, longest)
}
