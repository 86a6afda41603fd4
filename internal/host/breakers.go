package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dspex/dspex/internal/breaker"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/wire"
)

// Circuit breakers protect what jobs rely on: the starts of this host's workers, its workers, and each language model. While
// one is open a call fails at once, and a queued job waits: no attempt is counted, no slot and no turn is held. What one host
// finds out holds on all (outages.go).

// errHeld says that a queued job has waited for a breaker, and is to be looked at again.
var errHeld = errors.New("a circuit breaker is open")

// errParked says that the session's loop has ended and its job is in the queue again, until the breaker lets it through.
var errParked = errors.New("parked before an open circuit breaker")

// resolve finds the language model of a task's next attempt.
func (h *Host) resolve(t *task, choice []byte) {
	switch {
	case t.req.Command == "set_lm" || t.req.Command == "configure_lm":
		t.model, t.noModel = h.cfg.Models.Chosen(t.req.Args)
	case t.req.LM != "":
		t.model, t.noModel = h.cfg.Models.Named(t.req.LM)
	case choice != nil:
		t.model, t.noModel = h.cfg.Models.Chosen(choice)
	default:
		t.model, t.noModel = h.cfg.Models.Default()
	}
	t.model.Breaker = t.model.Own(t.session.Tenant)
}

// lmBreaker names the breaker of the language model that the task calls, "" if it is not known to call one. Commands of the
// operator do once they were seen to.
func (h *Host) lmBreaker(t *task) string {
	if t.noModel != nil || !jobs.CallsLM(t.req.Command) {
		if _, speaks := h.speaks.Load(t.req.Command); !speaks {
			return ""
		}
	}
	if _, silent := h.silent.Load(programOf(t)); silent {
		return ""
	}
	return t.model.Breaker
}

// passage is what the breakers let through: one attempt that has its slot.
type passage struct{ pool, lm *breaker.Permit }

func (p *passage) enter(set *breaker.Set, pool, lm string) (refused *breaker.Refusal) {
	if p.lm, refused = set.Enter(lm); refused != nil {
		return refused
	}
	if p.pool, refused = set.Enter(pool); refused != nil {
		p.leave()
	}
	return refused
}

// leave gives the permits back; what no verdict was given on says nothing.
func (p *passage) leave() {
	p.pool.End(breaker.Silent, "")
	p.lm.End(breaker.Silent, "")
	*p = passage{}
}

// verdict decides what a failed attempt leads to, and tells the breakers how it ended, before its slot lets another one start. One
// that ended with ctx was cut off. A job is one failure of its language model, after its retries; a worker's end is one failure of
// the pool, whatever was in it.
func (h *Host) verdict(ctx context.Context, t *task, out *output) {
	if ctx.Err() != nil {
		return
	}
	h.ran(t, out)
	p := t.pass
	if out.err == nil {
		p.pool.End(breaker.Success, "")
		if h.called(t, out) {
			p.lm.End(breaker.Success, "")
		}
		return
	}
	out.verdict = h.judge(t, out.err)
	signs := out.err.Signs()
	h.called(t, out)
	lm := result(signs.LM)
	if lm == breaker.Failure && out.verdict.Action == jobs.Retry {
		lm = breaker.Retried
	}
	p.lm.End(lm, what(out.err))
	switch {
	case signs.Pool == jobs.NoSign && out.answered:
		p.pool.End(breaker.Success, "")
	case t.attempt > 1: // a job that ends its workers again and again says more of itself than of them
	case out.answered || h.ends.first(out.slot):
		p.pool.End(result(signs.Pool), what(out.err))
	}
}

// called reports whether an attempt called the language model of its task, as the worker says, and remembers it for the next: of
// the operator's commands those that call it, of the operator's programs those that have come to a result without it.
func (h *Host) called(t *task, out *output) bool {
	builtin := jobs.CallsLM(t.req.Command)
	called := out.calledLM == used
	if out.calledLM == notSaid {
		called = out.err == nil && (builtin || len(out.usage) > 1) || out.err != nil && out.err.Signs().LM != jobs.NoSign
	}
	switch program := programOf(t); {
	case called && !builtin:
		h.speaks.Store(t.req.Command, true)
	case called:
		h.silent.Delete(program)
	case program != "" && out.err == nil && out.calledLM == unused:
		h.silent.Store(program, true)
	}
	return called
}

// programOf is the id of the program that the task executes, "" if it executes none.
func programOf(t *task) string {
	if t.req.Command != "execute_program" {
		return ""
	}
	in := wire.NewReader(t.req.Args)
	n, _ := in.Map()
	for range n {
		key, _ := in.Str()
		if key == "program_id" && in.Kind() == wire.Str {
			id, _ := in.Str()
			return id
		}
		if in.Skip() != nil {
			break
		}
	}
	return ""
}

func what(e *jobs.Error) string { return string(e.Category) + "/" + e.Code }

func result(s jobs.Sign) breaker.Result {
	switch s {
	case jobs.Works:
		return breaker.Success
	case jobs.Fails:
		return breaker.Failure
	}
	return breaker.Silent
}

// checkout waits for a slot and a passage. That no worker can be started counts on the breaker of starts; a *held is the error
// of a task that a breaker keeps out.
func (h *Host) checkout(t *task, prefer uint64, waited time.Duration, wait waitUntil) (Slot, *jobs.Error, error) {
	pool, lm := jobs.PoolBreaker(h.cfg.Name), h.lmBreaker(t)
	if refused := h.breakers.Look(pool, lm); refused != nil {
		return nil, nil, &held{refused}
	}
	start, refused := h.breakers.Enter(jobs.StartBreaker(h.cfg.Name))
	if refused != nil {
		if h.cfg.Pool.Workers().Active == 0 { // nobody is kept from the workers that are there
			return nil, nil, &held{refused}
		}
	}
	defer start.End(breaker.Silent, "")
	began := time.Now()
	slot, e, err := h.checkoutSlot(t, prefer, waited, wait)
	h.waited(t, began, slot, e)
	if e != nil && (e.Signs().Start != jobs.Fails || h.ends.firstStart(t.unstarted)) {
		start.End(result(e.Signs().Start), what(e))
	}
	if slot == nil {
		return nil, e, err
	}
	start.End(breaker.Success, "")
	if refused := t.pass.enter(h.breakers, pool, lm); refused != nil { // opened meanwhile
		slot.Release()
		return nil, nil, &held{refused}
	}
	return slot, nil, nil
}

// held is the error of a task that a breaker keeps out.
type held struct{ *breaker.Refusal }

func (e *held) Error() string {
	return fmt.Sprintf("the circuit breaker %s is %s after %d failures in a row", e.Name, e.State, e.Failures)
}

// answer is what a call gets.
func (h *Host) answer(t *task, e *held) *jobs.Error {
	bad := jobs.Errorf(jobs.Resource, jobs.CodeBreakerOpen, "%v", e).Again().
		WithHint("ask again after retry_after_ms, or publish the job: a queued job waits; `dspex breakers` shows and resets breakers")
	if e.Last != nil {
		bad.Message += ", the last one " + e.Last.What
	}
	bad.RetryAfter = e.RetryAfter
	h.metrics.failed(bad)
	h.telemetry.emit(tellError, t, "", 0, bad)
	return bad
}

// hold has a queued job wait for the breaker, and lets a call fail.
func (s *session) hold(ctx context.Context, t *task, e *held) (done bool, delay time.Duration, err error) {
	if t.env.Mode == jobs.ModeCall {
		return s.notStarted(ctx, t, s.p.h.answer(t, e))
	}
	d := e.RetryAfter
	if left, has := t.left(s.p.h); has {
		d = min(d, left)
	}
	h := s.p.h
	s.resultsTaken() // a session that is parked tries nothing
	if h.turns.park(s, e.Name) {
		return false, 0, errParked
	}
	defer h.turns.unhold()
	if err := s.pause(ctx, t, e.Changed, d); err != nil {
		return false, 0, err
	}
	return false, 0, errHeld
}

// holdAnonymous gives a queued job back to the broker until the breaker may let it through, and lets a call fail.
func (h *Host) holdAnonymous(t *task, e *held) {
	if t.env.Mode == jobs.ModeCall && h.standsAside() { // it was asked for before the breaker opened
		h.handBack(t, 0)
		return
	}
	if t.env.Mode == jobs.ModeCall {
		t.buried = t.attempt > 0
		h.settleAnonymous(t, h.answer(t, e), &output{})
		return
	}
	d := max(e.RetryAfter, anonymousHold)
	if left, has := t.left(h); has {
		d = min(d, max(left, 0))
	}
	h.handBack(t, d)
}

// anonymousHold is the shortest time for which an anonymous job is given back: with 10,000 of them waiting for a trial's end,
// the host has 2,000 a second to look at, for as long as the trial lasts.
const anonymousHold = 5 * time.Second
