package host

import (
	"context"
	"errors"
	"time"

	"github.com/dspex/dspex/internal/jobs"
)

// process brings one job to its outcome and acknowledges it. An error means that it has none yet.
func (s *session) process(ctx context.Context, j *job) error {
	h := s.p.h
	if !s.ref.Valid() {
		return h.refuseSession(ctx, j, s.ref)
	}
	if err := s.ready(ctx); err != nil {
		return err
	}
	if j.seq <= s.record.LastSequence {
		return s.completeAgain(ctx, j)
	}
	t := &task{job: j, session: s.ref}
	bad, err := t.parse(ctx, h)
	if err != nil {
		return err
	}
	if kind, ended := s.record.Ended[j.seq]; ended {
		if !j.answered {
			if err := s.finish(ctx, t, kind, h.insisting(ctx, snag{s: s, j: j, step: stepResult})); err != nil {
				return err
			}
		}
		return h.ack(j)
	}
	if t.env.Chosen || h.before(j, s.since) {
		if done, err := s.answerRepeat(ctx, t); done || err != nil {
			return err
		}
	}
	if bad != nil {
		return s.settle(ctx, t, bad, nil)
	}
	return s.attempts(ctx, t)
}

// answerRepeat answers a job whose id has a result already and removes its message. Nothing else is written.
func (s *session) answerRepeat(ctx context.Context, t *task) (bool, error) {
	if done, err := s.answerStored(ctx, t); !done || err != nil {
		return false, err
	}
	return true, s.p.h.ack(t.job)
}

// answerStored answers with the result that the job's id has already.
func (s *session) answerStored(ctx context.Context, t *task) (bool, error) {
	e, err := s.p.h.results.Get(ctx, s.ref.ResultKey(t.env.Job))
	if err != nil || !e.Exists {
		return false, err
	}
	err = s.p.h.answerWith(t, e)
	return err == nil, err
}

// attempts runs the job until it has an outcome.
func (s *session) attempts(ctx context.Context, t *task) error {
	if err := s.resume(ctx, t); err != nil {
		return err
	}
	for {
		if err := s.awaitRoom(ctx, t); err != nil {
			return err
		}
		if t.isCancelled() {
			return s.settle(ctx, t, cancelled(), nil)
		}
		if late, err := s.p.h.late(ctx, t); err != nil {
			return err
		} else if late {
			return s.settle(ctx, t, jobs.DeadlinePassed("its turn"), nil)
		}
		if t.crashedOut() {
			t.buried = true
			return s.settle(ctx, t, crashed(t.attempt), nil)
		}
		done, delay, err := s.attemptOnce(ctx, t)
		if errors.Is(err, errHeld) {
			continue
		}
		if done || err != nil {
			return err
		}
		if err := s.backOff(ctx, t, delay); err != nil {
			return err
		}
	}
}

// resume takes up the attempts that the head tells of: an attempt without an end is a crash and counts.
func (s *session) resume(ctx context.Context, t *task) error {
	hd := s.head
	if hd == nil || hd.Stream != s.p.life || hd.Sequence != t.seq {
		return nil
	}
	t.attempt, t.failures = hd.Attempt, hd.Failures
	if hd.NotBefore.IsZero() {
		s.p.h.note(t, crashed(hd.Attempt))
		return nil
	}
	if left := s.p.h.waits(hd); left > 0 {
		return s.pause(ctx, t, nil, left)
	}
	return nil
}

// pause waits with the session's gate closed; it holds neither a slot nor a turn. It ends early when the job is cancelled
// and, with errLeaving, when the epoch ends: the next owner waits for what is left.
func (s *session) pause(ctx context.Context, t *task, again <-chan struct{}, d time.Duration) error {
	s.yield()
	waiting, stop := s.startable(t)
	defer stop()
	_ = s.serve(waiting, again, time.Now().Add(d)) // however it ended, the next step looks
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if s.p.over() {
		return errLeaving
	}
	return nil
}

// startable ends with the epoch, and when the job is cancelled: what has not started by then does not start.
func (s *session) startable(t *task) (context.Context, func()) {
	waiting, cancel := context.WithCancelCause(s.p.starts)
	s.attempting(t, cancel)
	return waiting, func() { s.attempting(nil, nil); cancel(nil) }
}

// attempting says how to cancel what the session's job does at the moment.
func (s *session) attempting(t *task, cancel context.CancelCauseFunc) {
	s.mu.Lock()
	s.cancel = cancel
	s.mu.Unlock()
	if t != nil && t.isCancelled() {
		cancel(errCancelled)
	}
}

// attemptOnce runs the job once: done when it has an outcome, else the delay before the next attempt.
func (s *session) attemptOnce(ctx context.Context, t *task) (done bool, delay time.Duration, err error) {
	h := s.p.h
	h.resolve(t, s.record.LM)
	slot, e, err := s.checkout(ctx, t)
	defer t.pass.leave()
	if out, ok := errors.AsType[*held](err); ok {
		return s.hold(ctx, t, out)
	}
	if err != nil {
		return false, 0, err
	}
	if e != nil {
		return s.notStarted(ctx, t, e)
	}
	if late, err := h.late(ctx, t); late || err != nil {
		slot.Release()
		if err != nil {
			return false, 0, err
		}
		return true, 0, s.settle(ctx, t, jobs.DeadlinePassed("a worker"), nil)
	}
	t.attempt++
	t.base = s.base()
	t.confirmed = -lease // as long as it is not known
	if err := s.writeHead(ctx, t, 0); err != nil {
		slot.Release()
		return false, 0, err
	}
	if err := s.confirm(ctx, t); err != nil {
		slot.Release()
		return false, 0, err
	}
	if late, _ := h.late(ctx, t); late { // the broker has let it wait
		slot.Release()
		t.attempt--
		return true, 0, s.settle(ctx, t, jobs.DeadlinePassed("the broker"), nil)
	}
	out := s.run(ctx, t, slot)
	if out.stale != nil {
		slot.Release()
		return false, 0, out.stale
	}
	h.verdict(ctx, t, out)
	slot.Release()
	if ctx.Err() != nil {
		return false, 0, context.Cause(ctx)
	}
	if out.err == nil {
		return true, 0, s.settle(ctx, t, nil, out)
	}
	return s.failed(ctx, t, out.err, out.verdict, out)
}

// failed decides about a job whose attempt has failed.
func (s *session) failed(ctx context.Context, t *task, e *jobs.Error, v jobs.Verdict, out *output) (done bool, delay time.Duration, err error) {
	s.p.h.note(t, e)
	if v.Action != jobs.Retry {
		t.buried = v.Action == jobs.Bury
		return true, 0, s.settle(ctx, t, e, out)
	}
	s.p.h.log.Info("job_retries", "session", s.ref.String(), "job", t.env.Job, "attempt", t.attempt, "delay_ms", v.Delay.Milliseconds(),
		"error_category", e.Category, "code", e.Code)
	return false, v.Delay, nil
}

// notStarted decides about a job that got no slot. That no worker can be started counts as a failed attempt, unless somebody
// waits: then it is the answer.
func (s *session) notStarted(ctx context.Context, t *task, e *jobs.Error) (done bool, delay time.Duration, err error) {
	if e.Category == jobs.Initialization && t.env.Mode == jobs.ModeQueue {
		t.attempt++
		return s.failed(ctx, t, e, s.p.h.judge(t, e), nil)
	}
	t.buried = t.attempt > 0 && e.Retryable
	return true, 0, s.settle(ctx, t, e, nil)
}

// backOff makes the retry durable, asks for redelivery after the delay and waits for it. One that a reset brings before is no
// start, and none other follows it; one that is a second late is not waited for.
func (s *session) backOff(ctx context.Context, t *task, delay time.Duration) error {
	if err := s.writeHead(ctx, t, delay); err != nil {
		return err
	}
	select {
	case <-t.again:
	default:
	}
	if delay == 0 {
		return nil
	}
	due := time.Now().Add(delay)
	if err := s.p.h.nak(t.job, delay); err != nil {
		s.p.h.log.Warn("retry_from_memory", "session", s.ref.String(), "job", t.env.Job, "error", err)
	}
	if err := s.pause(ctx, t, t.again, delay+time.Second); err != nil {
		return err
	}
	if left := time.Until(due); left > 0 && !t.isCancelled() {
		return s.pause(ctx, t, nil, left)
	}
	return nil
}
