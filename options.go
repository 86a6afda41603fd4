package dspex

import (
	"cmp"
	"time"

	"github.com/dspex/dspex/internal/contract"
)

// CallOption changes one call: Execute, ExecuteAnonymous, Stream, StreamAnonymous.
type CallOption interface{ applyCall(*request) }

// SubmitOption changes one submitted job.
type SubmitOption interface{ applySubmit(*request) }

// SessionOption changes a job that concerns a session as a whole: CleanupSession, EraseSession, ImportSession.
type SessionOption interface{ applySession(*request) }

// JobOption is taken by calls and by submitted jobs.
type JobOption interface {
	CallOption
	SubmitOption
}

// IDOption is taken by every job.
type IDOption interface {
	JobOption
	SessionOption
}

// option implements all of them; the type that a function returns reports where it may be used.
type option func(*request)

func (o option) applyCall(r *request)    { o(r) }
func (o option) applySubmit(r *request)  { o(r) }
func (o option) applySession(r *request) { o(r) }

// WithTraceparent sets the span that the job belongs to, as W3C Trace Context has it: 00-<trace id>-<span id>-<flags>. With OpenTelemetry:
//
//	carrier := propagation.MapCarrier{}
//	propagation.TraceContext{}.Inject(ctx, carrier)
//	c.Execute(ctx, session, command, args, dspex.WithTraceparent(carrier["traceparent"]))
//
// WithPropagator does that for all jobs of a client. An empty text is no span.
func WithTraceparent(traceparent string) JobOption {
	return option(func(r *request) {
		if _, _, _, ok := contract.ParseTraceparent(traceparent); !ok && traceparent != "" {
			r.refuse("traceparent", "00-<trace id>-<span id>-<flags>", traceparent)
			return
		}
		r.traceparent = traceparent
	})
}

// WithTimeout bounds one attempt: 1 ms to 24 h, 30 s by default.
func WithTimeout(d time.Duration) JobOption {
	return option(func(r *request) {
		r.timeout = d
		r.setDuration("timeout", d)
	})
}

// WithMaxRetries sets how often a failed attempt is repeated: 0 to 20 times, by default as the error's category defines.
func WithMaxRetries(n int) JobOption {
	return option(func(r *request) {
		if n < 0 || n > contract.MaxRetries {
			r.refuse("max_retries", "0 to 20", n)
			return
		}
		r.retries = &n
		r.options["max_retries"] = n
	})
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

// BackoffFunc calls f for the delay before each retry; attempt counts from 1. The client evaluates it when the job is
// requested, once for each retry that the job may have: what travels is the list.
func BackoffFunc(f func(attempt int) time.Duration) Backoff { return Backoff{delay: f} }

// WithBackoff sets the delays between attempts.
func WithBackoff(b Backoff) JobOption { return option(func(r *request) { r.backoff = &b }) }

// WithBackoffCap bounds each delay between attempts, jitter included: 1 ms to 30 s, 30 s by default.
func WithBackoffCap(d time.Duration) JobOption {
	return option(func(r *request) {
		if d < contract.MinTimeout || d > contract.BackoffCap {
			r.refuse("backoff_cap", "1ms to 30s", d)
			return
		}
		r.delayCap = d
		r.options["backoff_cap"] = milliseconds(d)
	})
}

// WithJitter spreads the delays between attempts, so that jobs which failed together do not come again together: each is drawn
// from d*(1-share) to d*(1+share). The share is 0 to 0.25; by default there is none.
func WithJitter(share float64) JobOption {
	return option(func(r *request) {
		if !(share >= 0 && share <= contract.MaxJitter) {
			r.refuse("jitter", "0 to 0.25", share)
			return
		}
		r.jitter = share
		r.options["jitter"] = share
	})
}

// WithJobID chooses the job's id: [A-Za-z0-9_-]{1,48}, not of the forms q<digits> or ...-r<digits>. The id is the idempotency key
// inside its session: the same job under the same id gets the first outcome instead of a second run.
func WithJobID(id string) IDOption {
	return option(func(r *request) { r.job.ID, r.idGiven = id, true })
}

// WithDeadline bounds the whole job, counted from its acceptance; after that it is expired and never run.
func WithDeadline(d time.Duration) JobOption {
	return option(func(r *request) {
		r.deadline = d
		r.setDuration("deadline", d)
	})
}

// WithSignature gives predict its program: text such as "question -> answer: int", or the map form.
func WithSignature(signature any) JobOption {
	return option(func(r *request) { r.options["signature"] = signature })
}

// WithOutputs names the outputs of a predict without signature; by default there is one, answer.
func WithOutputs(names ...string) JobOption {
	return option(func(r *request) { r.options["outputs"] = names })
}

// WithModule selects the DSPy module of a predict: predict, chain_of_thought or react.
func WithModule(name string) JobOption {
	return option(func(r *request) { r.options["module"] = name })
}

// WithLM selects a language-model profile of the host for this job only.
func WithLM(profile string) JobOption { return option(func(r *request) { r.options["lm"] = profile }) }

// TemperatureOption is taken by jobs and by SetLM.
type TemperatureOption interface {
	JobOption
	LMOption
}

type temperature float64

func (t temperature) applyCall(r *request)   { r.options["temperature"] = float64(t) }
func (t temperature) applySubmit(r *request) { r.options["temperature"] = float64(t) }
func (t temperature) applyLM(c *lmChoice)    { c.args["temperature"] = float64(t) }

// WithTemperature sets the sampling temperature, 0 to 2: of a job for this job only, of SetLM for all that use the choice.
func WithTemperature(t float64) TemperatureOption { return temperature(t) }

// WithRequireState refuses to run on a session without state.
func WithRequireState() JobOption {
	return option(func(r *request) { r.options["require_state"] = true })
}

// WithReplyTo sends the reply of a submitted job to a subject: without wildcards, under _INBOX. or dspex.reply.
func WithReplyTo(subject string) SubmitOption {
	return option(func(r *request) {
		if r.replyTo = subject; !contract.ValidReply(subject) {
			r.fail(invalid(CodeBadOption, "", contract.ExpectedReply, "the reply subject is not allowed"))
		}
	})
}

// refuse reports what an option must be.
func (r *request) refuse(name, expected string, got any) {
	r.fail(invalid(CodeBadOption, "options."+name, expected, "%s must be %s, got %v", name, expected, got))
}

func (r *request) setDuration(name string, d time.Duration) {
	if d < contract.MinTimeout || d > contract.MaxTimeout {
		r.refuse(name, "1ms to 24h", d)
		return
	}
	r.options[name] = milliseconds(d)
}

// milliseconds rounds up: a wait is never shorter than requested.
func milliseconds(d time.Duration) int64 { return int64((d + time.Millisecond - 1) / time.Millisecond) }

// mayRetry is the number of retries that the job can have at most.
func (r *request) mayRetry() int {
	if r.retries != nil {
		return *r.retries
	}
	return contract.MostGrantedRetries
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
	if len(b.delays) < 1 || len(b.delays) > contract.MaxRetries {
		r.refuse("backoff", "1 to 20 delays", len(b.delays))
		return
	}
	list := make([]int64, len(b.delays))
	for i, d := range b.delays {
		if d < 0 || d > contract.BackoffCap {
			r.refuse("backoff", "delays of 0s to 30s", d)
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
		return min(time.Duration(retry)*contract.BackoffBase, contract.BackoffCap)
	}
	return min(contract.BackoffBase<<(retry-1), contract.BackoffCap)
}

// total is how long the job can take by its own options, without the wait for earlier jobs of its session.
func (r *request) total() time.Duration {
	if r.deadline > 0 {
		return r.deadline
	}
	total := time.Duration(r.mayRetry()+1)*r.timeout + contract.CheckoutTimeout
	for retry := 1; retry <= r.mayRetry(); retry++ {
		delay := time.Duration(float64(r.backoff.before(retry)) * (1 + r.jitter))
		total += min(delay, cmp.Or(r.delayCap, contract.BackoffCap))
	}
	return min(total, contract.MaxTimeout)
}
