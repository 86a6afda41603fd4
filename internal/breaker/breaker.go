// Package breaker keeps circuit breakers: after a number of failures in a row a breaker opens and lets nothing through, after a
// while it lets a bounded trial through, and closes when that succeeds. sony/gobreaker carries the state machine; this package
// adds what is shared between hosts (a state received from another host, a reset), what is shown of it, and whom to wake.
//
// It does no I/O and is independent of what it protects. Its clock is the process's monotonic one.
package breaker

import (
	"errors"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/dspex/dspex/internal/control"
)

// Trials is the most that a half-open breaker lets through at once.
const Trials = 3

// State is what a breaker does with what comes.
type State string

// The states, spelled as in docs/migration.md, "Circuit breakers".
const (
	Closed   State = "closed"    // lets everything through
	Open     State = "open"      // lets nothing through
	HalfOpen State = "half_open" // lets a bounded trial through
)

// Result is what became of something that was let through.
type Result int

// The results.
const (
	Silent  Result = iota // it is no evidence of what the breaker protects: cancelled, refused, failed for another reason
	Success               //
	Failure               //
	Retried               // it failed and will be tried again: a trial has failed, else nothing is decided yet
)

func (r Result) String() string { return [...]string{"silent", "success", "failure", "retried"}[r] }

// Change is what happened to a breaker.
type Change string

// The changes.
const (
	Opened   Change = "opened"
	Reopened Change = "reopened" // a trial failed
	Shut     Change = "closed"   // the trial succeeded
	Reset    Change = "reset"    // by an operator

	// A closed one stays closed, and its count of failures has changed.
	Counted Change = "counted" // by one more
	Cleared Change = "cleared" // back to none, by a success
)

// Breaker is one circuit breaker. It is safe for concurrent use.
type Breaker struct {
	name string
	cfg  Config

	mu       sync.Mutex
	machine  *gobreaker.TwoStepCircuitBreaker[struct{}]
	trials   int           // of machine: successes that close it
	timeout  time.Duration // of machine: shorter than cfg.Timeout when the report that the breaker is open came late
	retryAt  time.Time     // when an open breaker becomes half-open
	failures int           // that opened it
	state    State         // as last seen
	since    time.Time     // of state
	age      uint64        // counts the changes of state: what was let through before the last one is no evidence any more
	passing  int           // let through since then, and not ended
	last     *control.LastFailure
	changed  chan struct{} // closed when who waits should retry
}

var (
	errFailed = errors.New("failed")
	errSilent = errors.New("no evidence")
)

func newBreaker(name string, cfg Config) *Breaker {
	b := &Breaker{name: name, cfg: cfg, changed: make(chan struct{})}
	b.machine, b.timeout = b.build(cfg.Timeout), cfg.Timeout
	b.state, b.since = Closed, time.Now()
	return b
}

func (b *Breaker) build(timeout time.Duration) *gobreaker.TwoStepCircuitBreaker[struct{}] {
	b.trials = b.cfg.SuccessThreshold
	return gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name: b.name, MaxRequests: uint32(b.trials), Timeout: timeout,
		ReadyToTrip:  func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= uint32(b.cfg.FailureThreshold) },
		IsSuccessful: func(err error) bool { return err == nil },
		IsExcluded:   func(err error) bool { return errors.Is(err, errSilent) },
	})
}

// Refusal reports why something was not let through.
type Refusal struct {
	Name       string
	State      State
	RetryAfter time.Duration   // when another try is useful
	Changed    <-chan struct{} // closes when an earlier try is useful
	Failures   int             // that opened the breaker
	Last       *control.LastFailure
}

// trialPause is when to retry while others make the trial and nothing changes.
const trialPause = time.Second

// look returns the Refusal that enter would return at the moment, nil if it would let something through.
func (b *Breaker) look() *Refusal {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lookLocked()
}

func (b *Breaker) lookLocked() *Refusal {
	switch b.seeLocked() {
	case Open:
		return b.refusalLocked(max(time.Until(b.retryAt), time.Millisecond))
	case HalfOpen:
		c := b.machine.Counts()
		if b.passing >= Trials || int(c.Requests-c.TotalExclusions) >= b.trials {
			return b.refusalLocked(trialPause)
		}
	}
	return nil
}

func (b *Breaker) refusalLocked(after time.Duration) *Refusal {
	return &Refusal{Name: b.name, State: b.state, RetryAfter: after, Changed: b.changed, Failures: b.failures, Last: b.last}
}

// enter lets one thing through, or reports why not. end must be called exactly once, whatever becomes of it: a trial that never
// ends would keep others out.
func (b *Breaker) enter() (end func(r Result, what string) Change, refused *Refusal) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if refused := b.lookLocked(); refused != nil {
		return nil, refused
	}
	report, err := b.machine.Allow()
	if err != nil {
		return nil, b.refusalLocked(time.Millisecond)
	}
	b.passing++
	age := b.age
	return func(r Result, what string) Change { return b.end(age, report, r, what) }, nil
}

func (b *Breaker) end(age uint64, report func(error), r Result, what string) Change {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.seeLocked()
	switch {
	case r == Retried && was == HalfOpen:
		r = Failure
	case r == Retried:
		r = Silent
	}
	if r == Failure {
		b.last = &control.LastFailure{What: what, At: time.Now()}
	}
	if b.age != age {
		return ""
	}
	b.passing--
	before := int(b.machine.Counts().ConsecutiveFailures)
	switch r {
	case Success:
		report(nil)
	case Failure:
		if was == Closed {
			b.failures = before + 1
		}
		report(errFailed)
	default:
		report(errSilent)
	}
	now := b.seeLocked()
	switch {
	case was == Closed && now == Closed && r == Failure:
		return Counted
	case was == Closed && now == Closed && r == Success && before > 0:
		return Cleared
	case was == now:
		if now == HalfOpen {
			b.wakeLocked() // a permit is free
		}
		return ""
	case now == Closed:
		return Shut
	case was == HalfOpen:
		return Reopened
	}
	return Opened
}

// seeLocked notes the state that the machine is in by now.
func (b *Breaker) seeLocked() State {
	now := stateOf(b.machine.State())
	if now == b.state {
		return now
	}
	if now == Open {
		b.openLocked(b.cfg.Timeout)
		return Open
	}
	if now == Closed {
		b.failures = 0
	}
	b.noteLocked(now)
	return now
}

func stateOf(s gobreaker.State) State {
	switch s {
	case gobreaker.StateOpen:
		return Open
	case gobreaker.StateHalfOpen:
		return HalfOpen
	}
	return Closed
}

// configure sets other thresholds. An open breaker stays so for the time that it has, and closes as it would have; the next failure counts
// against the new threshold.
func (b *Breaker) configure(cfg Config) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cfg = cfg
}

func (b *Breaker) noteLocked(s State) {
	b.state, b.since = s, time.Now()
	b.passing = 0
	b.age++
	b.wakeLocked()
}

func (b *Breaker) wakeLocked() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// openLocked starts the time of an open breaker. A machine that is open by itself is kept if it has that time to go.
func (b *Breaker) openLocked(left time.Duration) {
	if b.timeout != left || b.trials != b.cfg.SuccessThreshold || b.machine.State() == gobreaker.StateClosed {
		b.machine, b.timeout = b.build(left), left
		for range b.cfg.FailureThreshold {
			if report, err := b.machine.Allow(); err == nil {
				report(errFailed)
			}
		}
	}
	b.retryAt = time.Now().Add(left)
	b.noteLocked(Open)
}

// setOpen applies what another host found out: the breaker is open for the time that is left.
func (b *Breaker) setOpen(left time.Duration, failures int, last *control.LastFailure) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures, b.last = failures, last
	b.machine = b.build(b.cfg.Timeout)
	b.openLocked(min(max(left, time.Nanosecond), b.cfg.Timeout))
}

// setClosed starts over: no failures, no trials.
func (b *Breaker) setClosed() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.machine, b.timeout, b.failures = b.build(b.cfg.Timeout), b.cfg.Timeout, 0
	b.noteLocked(Closed)
}

// setFailures makes the failures in a row of a closed breaker those of all processes together. What is under way still counts.
func (b *Breaker) setFailures(failures int, last *control.LastFailure) Change {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.seeLocked() != Closed {
		return ""
	}
	if failures < int(b.machine.Counts().ConsecutiveFailures) {
		b.reportLocked(nil)
	}
	for n := int(b.machine.Counts().ConsecutiveFailures); n < failures && b.machine.State() == gobreaker.StateClosed; n++ {
		b.reportLocked(errFailed)
	}
	if last != nil && (b.last == nil || last.At.After(b.last.At)) {
		b.last = last
	}
	b.failures = failures
	if b.seeLocked() == Open {
		return Opened
	}
	return ""
}

func (b *Breaker) reportLocked(err error) {
	if report, refused := b.machine.Allow(); refused == nil {
		report(err)
	}
}
