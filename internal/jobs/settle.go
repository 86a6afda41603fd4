package jobs

import (
	"math"
	"time"

	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/wire"
)

// Retry arithmetic (docs/migration.md, "Options").
const (
	MaxRetries = contract.MaxRetries
	MaxJitter  = contract.MaxJitter
	// RetryAfterCap bounds what a provider's Retry-After can make a session wait.
	RetryAfterCap = 10 * time.Minute
)

// Lifetimes of results by mode.
const (
	CallResultTTL  = 15 * time.Minute
	QueueResultTTL = 24 * time.Hour
)

// ResultTTL is how long an outcome is kept.
func ResultTTL(m Mode) time.Duration {
	if m == ModeCall {
		return CallResultTTL
	}
	return QueueResultTTL
}

// Policy is a job's own retry policy. The zero Policy leaves everything to the error's category.
type Policy struct {
	MaxRetries *int          // nil: by category
	Backoff    Backoff       // Kind "": by category
	Jitter     float64       // 0..MaxJitter: each delay is drawn from d*(1±Jitter)
	Cap        time.Duration // of each delay, jitter included; 0: BackoffCap
}

// Longest is the most that the job waits before the given retry, unless a provider requests more.
func (p Policy) Longest(retry int) time.Duration {
	return p.capped(time.Duration(float64(p.Backoff.Delay(retry)) * (1 + p.Jitter)))
}

func (p Policy) capped(d time.Duration) time.Duration {
	if p.Cap > 0 {
		return min(d, p.Cap)
	}
	return min(d, BackoffCap)
}

// Retries is the number of retries that the policy grants to a failure, and whether the job itself set it.
func (p Policy) Retries(e *Error) int {
	if p.MaxRetries != nil {
		return *p.MaxRetries
	}
	return e.Traits().Retries
}

// Action is what becomes of a job after an attempt.
type Action int

// The actions of a Verdict.
const (
	Retry        Action = iota + 1
	Fail                // answered, not worth keeping: bad input, unknown ids
	ToDeadLetter        // answered and kept among the dead letters
	Expire
)

func (a Action) String() string {
	return [...]string{"?", "retry", "fail", "dead-letter", "expire"}[a]
}

// Verdict is the decision on a failed attempt.
type Verdict struct {
	Action Action
	Delay  time.Duration // Retry: the wait before the next attempt
}

// Settle decides what a failed attempt leads to. attempt is the number of the attempt that failed (1 is the first), left is
// the time until the job's deadline, if it has one. chance, from 0 to 1, is only called when the policy has jitter.
func Settle(e *Error, attempt int, p Policy, left time.Duration, hasDeadline bool, chance func() float64) Verdict {
	if !e.Retryable {
		return Verdict{Action: Fail}
	}
	if attempt > p.Retries(e) {
		return Verdict{Action: ToDeadLetter}
	}
	d := p.delay(e, attempt, chance)
	if hasDeadline && d >= left {
		return Verdict{Action: ToDeadLetter}
	}
	return Verdict{Action: Retry, Delay: d}
}

func (p Policy) delay(e *Error, attempt int, chance func() float64) time.Duration {
	b := p.Backoff
	if b.Kind == "" && p.MaxRetries == nil {
		b = e.Traits().Backoff
	}
	d := b.Delay(attempt)
	if p.Jitter > 0 {
		d = time.Duration(float64(d) * (1 + p.Jitter*(2*chance()-1)))
	}
	return max(p.capped(d), min(e.RetryAfter, RetryAfterCap))
}

// readOption reads one of the options about retries.
func (p *Policy) readOption(key, path string, in *wire.Reader) *Error {
	switch key {
	case "max_retries":
		v, err := in.Int()
		if err != nil || v < 0 || v > MaxRetries {
			return Refused(CodeBadOption, path, "an integer from 0 to 20", "max_retries is out of range")
		}
		p.MaxRetries = new(int(v))
	case "backoff":
		b, ok := backoff(in)
		if !ok {
			return Refused(CodeBadOption, path, `"linear", "exponential" or a list of 1 to 20 delays in ms (0 to 30000)`, "unknown backoff")
		}
		p.Backoff = b
	case "backoff_cap":
		d, ok := duration(in)
		if !ok || d < time.Millisecond || d > BackoffCap {
			return Refused(CodeBadOption, path, `milliseconds as an integer, or text with a unit such as "5s"; 1 ms to 30 s`, "backoff_cap is not a duration in range")
		}
		p.Cap = d
	case "jitter":
		v, err := in.Float()
		if err != nil || math.IsNaN(v) || v < 0 || v > MaxJitter {
			return Refused(CodeBadOption, path, "a number from 0 to 0.25", "jitter is out of range")
		}
		p.Jitter = v
	}
	return nil
}

func backoff(in *wire.Reader) (Backoff, bool) {
	switch in.Kind() {
	case wire.Str:
		switch s, _ := in.Str(); s {
		case "linear":
			return Linear(), true
		case "exponential":
			return Exponential(), true
		}
	case wire.Array:
		n, err := in.Array()
		if err != nil || n < 1 || n > MaxRetries {
			return Backoff{}, false
		}
		delays := make([]time.Duration, 0, n)
		for range n {
			v, err := in.Int()
			if err != nil || v < 0 || v > int64(BackoffCap/time.Millisecond) {
				return Backoff{}, false
			}
			delays = append(delays, time.Duration(v)*time.Millisecond)
		}
		return Delays(delays...), true
	}
	return Backoff{}, false
}

// duration reads milliseconds or text with a unit.
func duration(in *wire.Reader) (time.Duration, bool) {
	switch in.Kind() {
	case wire.Int:
		v, err := in.Int()
		if err != nil || v > int64(contract.MaxTimeout/time.Millisecond) || v < 0 {
			return 0, false
		}
		return time.Duration(v) * time.Millisecond, true
	case wire.Str:
		s, err := in.Str()
		if err != nil || len(s) > 32 {
			return 0, false
		}
		d, err := time.ParseDuration(s)
		return d, err == nil
	}
	return 0, false
}
