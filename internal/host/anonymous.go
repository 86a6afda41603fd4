package host

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/jobs"
)

// runAnonymous brings one delivery to its outcome, or to its next attempt. since tells which jobs can have no earlier attempts
// if they come for the first time, began when the delivery was asked for.
func (h *Host) runAnonymous(m jetstream.Msg, began clock.Mono, since moment, place *arrival) {
	meta, err := m.Metadata()
	if err != nil {
		return
	}
	ctx, cancel := context.WithCancelCause(h.work)
	defer cancel(nil)
	j := &job{seq: meta.Sequence.Stream, stored: meta.Timestamp, came: h.clock.Mono(), reply: m.Reply(), data: m.Data(), size: len(m.Data())}
	j.from, j.env, j.bad = jobs.ParseStored(m.Subject(), m.Headers(), j.seq, h.accounts.Load())
	t := &task{job: j, session: j.from.Session, delivered: int(meta.NumDelivered), lane: j.from.Lane, grip: grip{at: began}}
	bad := t.read(h, j.data)
	j.bound, j.weighed = t.total, true
	old := t.delivered > 1 || h.before(j, since)
	if t.env.Chosen || old {
		if done, err := h.answerAnonymous(ctx, t); done || err != nil {
			return // after an error AckWait brings it again
		}
	}
	go h.keepAlive(ctx, t, m)
	if old {
		if err := h.resumeAnonymous(ctx, t); err != nil {
			return
		}
	}
	late, err := h.late(ctx, t)
	switch {
	case err != nil:
		return // AckWait brings it again
	case bad != nil:
		h.settleAnonymous(t, bad, &output{})
		return
	case late:
		h.settleAnonymous(t, jobs.DeadlinePassed("its turn"), &output{})
		return
	case t.crashedOut():
		t.buried = true
		h.settleAnonymous(t, crashed(t.attempt), &output{})
		return
	}
	defer h.runs.enter(anonymousJob{t.session.Tenant, t.env.Job}, cancel)()
	if !h.admit(t, place) { // it came for room that somebody else has taken: another host may have some
		h.handBack(t, 0)
		return
	}
	h.attemptAnonymous(ctx, t, place)
}

// answerAnonymous answers a job that has its outcome already.
func (h *Host) answerAnonymous(ctx context.Context, t *task) (bool, error) {
	e, err := h.results.Get(ctx, t.session.ResultKey(t.env.Job))
	if err != nil || !e.Exists {
		return false, err
	}
	if err := h.answerWith(t, e); err != nil {
		return false, err
	}
	return true, h.ack(t.job)
}

// keepAlive tells the broker that the job is in hand.
func (h *Host) keepAlive(ctx context.Context, t *task, m jetstream.Msg) {
	tick := time.NewTicker(anonymousAlive)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if now := h.clock.Mono(); m.InProgress() == nil {
				t.gripping.Lock()
				t.grip.renew(now)
				t.gripping.Unlock()
			}
		}
	}
}

// isMine reports whether no other host can have been given the anonymous job.
func (t *task) isMine(now clock.Mono) bool {
	t.gripping.Lock()
	defer t.gripping.Unlock()
	return t.grip.holds(now)
}

func (h *Host) attemptAnonymous(ctx context.Context, t *task, place *arrival) {
	h.resolve(t, nil)
	waited := time.Duration(0)
	if t.attempt == 0 {
		waited = h.age(t.job) // in the stream, too, a call waits for a slot
	}
	slot, e, err := h.checkout(t, 0, waited, place.waitIn(ctx))
	defer t.pass.leave()
	if out, ok := errors.AsType[*held](err); ok {
		h.holdAnonymous(t, out)
		return
	}
	if errors.Is(err, errCancelled) {
		e, err = cancelled(), nil
	}
	switch {
	case err != nil: // the host stops: another one takes it
		h.handBack(t, 0)
		return
	case e != nil && e.Category == jobs.Initialization && t.env.Mode == jobs.ModeQueue:
		t.attempt++
		h.failedAnonymous(t, e, h.judge(t, e), &output{})
		return
	case e != nil:
		t.buried = t.attempt > 0 && e.Retryable
		h.settleAnonymous(t, e, &output{})
		return
	}
	place.start()
	t.attempt++
	out := &output{worker: slot.WorkerName(), slot: slot.WorkerID(), engine: slot.Engine()}
	call := frame.CallBody{}
	out.err = t.needsState(0)
	made := "" // the id of a program that the job makes
	if out.err == nil {
		made, out.err = h.withProgram(ctx, t, &call)
	}
	if out.err == nil {
		out.err = h.equip(t, slot, &call)
	}
	if !t.isMine(h.clock.Mono()) {
		slot.Release()
		h.log.Warn("attempt_not_started", "job", t.env.Job, "attempt", t.attempt)
		return // AckWait has brought it to another host, or will
	}
	if out.err == nil {
		h.call(t, slot, call, out, waitIn(ctx))
	}
	h.verdict(h.work, t, out)
	slot.Release()
	if h.work.Err() != nil {
		return
	}
	if out.err != nil {
		h.failedAnonymous(t, out.err, out.verdict, out)
		return
	}
	if out.choseLM && out.lm != nil {
		out.err = h.publishDefaultLM(ctx, out.lm)
	}
	if out.err == nil && out.program != nil && t.req.Needs(t.session) == jobs.RoleOperator { // whoever asked had the role
		out.err = h.publishProgram(ctx, out.program)
	}
	if out.err == nil && made != "" {
		out.err = h.keepProgram(t.session, made, out.state)
	}
	if out.err != nil {
		h.failedAnonymous(t, out.err, h.judge(t, out.err), out)
		return
	}
	h.settleAnonymous(t, nil, out)
}

// failedAnonymous decides about a job whose attempt has failed.
func (h *Host) failedAnonymous(t *task, e *jobs.Error, v jobs.Verdict, out *output) {
	h.note(t, e)
	if v.Action == jobs.Retry {
		h.handBack(t, v.Delay)
		return
	}
	t.buried = v.Action == jobs.Bury
	h.settleAnonymous(t, e, out)
}

// settleAnonymous buries the job if it is dead, stores the outcome (the first one wins), answers and acknowledges.
func (h *Host) settleAnonymous(t *task, e *jobs.Error, out *output) {
	h.count(t, out.ran, e)
	reply := jobs.Reply{Job: t.env.Job, Attempt: t.attempt, Host: h.cfg.Name, Worker: out.worker, Engine: out.engine,
		Queued: h.age(t.job) - out.ran, Run: out.ran, Usage: out.usage, Err: e, Result: out.value}
	r := &jobs.Result{Job: t.env.Job, Sequence: t.seq, Attempt: t.attempt, Hash: t.req.Hash, Kind: kindOf(e), Body: reply.Append(nil), Stored: h.now()}
	if r.Kind == jobs.Failed && t.buried {
		if err := h.buryAnonymous(t, r); err != nil {
			return // AckWait brings it again
		}
	}
	won, err := h.firstResult(h.work, h.insisting(h.work, snag{j: t.job, step: stepResult}), t.session.ResultKey(t.env.Job), r, jobs.ResultTTL(t.env.Mode))
	if err != nil {
		h.log.Warn("result_not_stored", "job", t.env.Job, "error", err)
		return // AckWait brings it again
	}
	h.send(t.env.ReplyTo, t.env.Type, t.env.Job, won.Attempt, won.Body)
	_ = h.ack(t.job)
}

// firstResult stores r unless there is a result already, and returns the one that counts: nobody may see another one. How often
// it is tried is up to persist.
func (h *Host) firstResult(ctx context.Context, persist func(try func() error) error, key string, r *jobs.Result, ttl time.Duration) (won *jobs.Result, err error) {
	body, rev := r.Append(nil), uint64(0)
	err = persist(func() error {
		if _, err := h.results.PutSync(key, body, rev, ttl); err == nil {
			won = r
			return nil
		}
		e, err := h.results.Get(ctx, key)
		if err != nil {
			return err
		}
		if e.Exists {
			if won, err = jobs.ParseResult(e.Value); err == nil || errors.Is(err, jobs.ErrNewer) {
				return err
			}
		}
		rev = e.Revision
		_, err = h.results.PutSync(key, body, rev, ttl)
		won = r
		return err
	})
	return won, err
}
