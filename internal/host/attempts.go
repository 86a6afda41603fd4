package host

import (
	"context"
	"errors"
	"time"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// What is written down of an anonymous job's attempts lives as long as a queued job's outcome: a retry never comes later.
const attemptsTTL = jobs.QueueResultTTL

// patience is what is left of a retry's delay that is waited for here; for more the job goes back to the broker.
const patience = time.Second

// resumeAnonymous takes up the attempts that are written down. A delivery that left no word counts as a crash; the broker's
// count of them is approximate, because it falls back when a consumer is lost.
func (h *Host) resumeAnonymous(ctx context.Context, t *task) error {
	hd, _, err := h.attemptsOf(ctx, t)
	if err != nil {
		return err
	}
	t.attempt, t.failures = hd.Attempt, hd.Failures
	for range min(t.delivered-1-hd.Delivered, jobs.MaxRetries+1) {
		t.attempt++
		h.note(t, crashed(t.attempt))
	}
	left := h.waits(hd)
	if left <= 0 {
		return nil
	}
	left += time.Millisecond // what is stored was rounded down
	if left > patience {
		h.handBack(t, left)
		return errLeaving
	}
	wait(ctx, nil, left)
	return context.Cause(ctx)
}

// attemptsOf reads what is written down of the job's attempts, an empty head if nothing is.
func (h *Host) attemptsOf(ctx context.Context, t *task) (*jobs.Head, uint64, error) {
	e, err := h.results.Get(ctx, t.session.AttemptKey(t.env.Job))
	if err != nil || !e.Exists {
		return &jobs.Head{}, e.Revision, err
	}
	hd, err := jobs.ParseHead(e.Value)
	if errors.Is(err, jobs.ErrNewer) {
		return nil, 0, err
	}
	if err != nil { // the broker's count of deliveries is left
		h.log.Error("attempts_unreadable", "job", t.env.Job, "error", err)
		return &jobs.Head{}, e.Revision, nil
	}
	if hd.Sequence != t.seq { // an earlier job of the same id
		return &jobs.Head{}, e.Revision, nil
	}
	return hd, e.Revision, nil
}

// handBack writes the attempts down and gives the job back to the broker, for any host after the delay. If they cannot be
// written it is not given back: it comes again by itself, and this delivery counts as a crash.
func (h *Host) handBack(t *task, delay time.Duration) {
	due := h.now().Add(delay).Truncate(time.Millisecond) // as it is stored: the redelivery itself is not to be too early
	next := &jobs.Head{Sequence: t.seq, Attempt: t.attempt, Failures: t.failures, Delivered: t.delivered, Delay: delay, NotBefore: due}
	if err := h.writeAttempts(t, next); err != nil {
		h.log.Warn("attempts_not_stored", "job", t.env.Job, "error", err)
		return
	}
	if err := h.nak(t.job, delay); err != nil {
		h.log.Warn("job_not_handed_back", "job", t.env.Job, "error", err)
	}
}

func (h *Host) writeAttempts(t *task, next *jobs.Head) error {
	ctx := context.WithoutCancel(h.work)
	body, rev, err := next.Append(nil), uint64(0), error(nil)
	for range tries {
		_, err = h.results.PutSync(t.session.AttemptKey(t.env.Job), body, rev, attemptsTTL)
		if !errors.Is(err, stream.ErrWrongRevision) {
			return err
		}
		var have *jobs.Head
		if have, rev, err = h.attemptsOf(ctx, t); err != nil {
			return err
		}
		if have.Attempt > next.Attempt {
			return nil // another host knows more
		}
	}
	return err
}

// crashedOut reports whether the job has crashed once too often.
func (t *task) crashedOut() bool {
	return len(t.failures) > 0 && t.failures[len(t.failures)-1].Code == jobs.CodeCrashed && t.exhausted()
}
