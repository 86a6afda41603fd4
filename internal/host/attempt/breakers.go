package attempt

import (
	"github.com/dspex/dspex/internal/breaker"
	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/host/provision"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
)

// Circuit breakers protect what jobs rely on: the starts of this host's workers, its workers, and each language model. While
// one is open a call fails at once, and a queued job waits: no attempt is counted, no slot and no run token is held. What one host
// finds out holds on all (package breakers).

// resolve finds the language model of a task's next attempt.
func (r *Runner) resolve(t *Attempt, choice []byte) {
	switch {
	case t.Req.Command == "set_lm" || t.Req.Command == "configure_lm":
		t.model, t.noModel = r.Models.Chosen(t.Req.Args)
	case t.Req.LM != "":
		t.model, t.noModel = r.Models.Named(t.Req.LM)
	case choice != nil:
		t.model, t.noModel = r.Models.Chosen(choice)
	default:
		t.model, t.noModel = r.Models.Default()
	}
	t.model.Breaker = control.OwnBreaker(t.model, t.Session.Tenant)
}

// lmBreaker names the breaker of the language model that the task calls, "" if it is not known to call one. Commands of the
// operator do once they were seen to.
func (r *Runner) lmBreaker(t *Attempt) string {
	if t.noModel != nil || !jobs.CallsLM(t.Req.Command) {
		if _, speaks := r.speaks.Load(t.Req.Command); !speaks {
			return ""
		}
	}
	if _, silent := r.silent.Load(programOf(t)); silent {
		return ""
	}
	return t.model.Breaker
}

// verdict records with the breakers how an attempt has ended, before its slot lets another one start. A job is one failure of its language
// model, after its retries; a worker's end is one failure of the pool, whatever was in it.
func (r *Runner) verdict(t *Attempt, out *Output, retries bool) {
	r.attempted(t, out)
	p := t.pass
	if out.Err == nil {
		p.pool.End(breaker.Success, "")
		if r.called(t, out) {
			p.lm.End(breaker.Success, "")
		}
		return
	}
	signs := out.Err.Signs()
	r.called(t, out)
	lm := result(signs.LM)
	if lm == breaker.Failure && retries {
		lm = breaker.Retried
	}
	p.lm.End(lm, what(out.Err))
	switch {
	case signs.Pool == jobs.NoSign && out.answered:
		p.pool.End(breaker.Success, "")
	case t.Attempt > 1: // a job that ends its workers again and again is evidence of itself more than of them
	case out.answered || r.ends.first(out.Slot.WorkerID):
		p.pool.End(result(signs.Pool), what(out.Err))
	}
}

// called reports whether an attempt called the language model of its task, as its worker reports. It keeps the answer for the next
// attempt: commands of the operator that call the model, and programs of the operator that came to a result without it.
func (r *Runner) called(t *Attempt, out *Output) bool {
	builtin := jobs.CallsLM(t.Req.Command)
	called := out.called == used
	if out.called == unreported {
		called = out.Err == nil && (builtin || len(out.Usage) > 1) || out.Err != nil && out.Err.Signs().LM != jobs.NoSign
	}
	switch program := programOf(t); {
	case called && !builtin:
		r.speaks.Store(t.Req.Command, true)
	case called:
		r.silent.Delete(program)
	case program != "" && out.Err == nil && out.called == unused:
		r.silent.Store(program, true)
	}
	return called
}

// programOf is the id of the program that the task executes, "" if it executes none.
func programOf(t *Attempt) string {
	if t.Req.Command != "execute_program" {
		return ""
	}
	return provision.TextOf(t.Req.Args, "program_id")
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

// answer is what a call gets that a breaker keeps out.
func (r *Runner) answer(t *Attempt, by *breaker.Refusal) *jobs.Error {
	bad := jobs.Errorf(jobs.Resource, jobs.CodeBreakerOpen, "the circuit breaker %s is %s after %d failures in a row", by.Name, by.State, by.Failures).Again().
		WithHint("retry after retry_after_ms, or publish the job: a queued job waits; `dspex breakers` shows and resets breakers")
	if by.Last != nil {
		bad.Message += ", the last one " + by.Last.What
	}
	bad.RetryAfter = by.RetryAfter
	r.Telemetry.KeptOut(&t.Task, bad)
	return bad
}

// attempted records an attempt.
func (r *Runner) attempted(t *Attempt, out *Output) {
	r.Telemetry.Attempted(&t.Task, &out.Output, out.began, out.spans)
	if r.OnEnded != nil {
		r.OnEnded(Ended{Session: t.Session.ID, Job: t.Env.Job, Command: t.Req.Command, Program: provision.TextOf(t.Req.Args, "program_id"), Attempt: t.Attempt,
			Worker: out.Slot.Worker, Ran: out.Ran, Error: out.Err})
	}
}

// End gives the slot back, after the breakers have recorded how the attempt ended; out is nil if nothing ran.
func (a *Attempt) End(out *lifecycle.Output, retries bool) {
	if out != nil {
		a.r.verdict(a, out.Extra.(*Output), retries)
	}
	a.Release()
}
