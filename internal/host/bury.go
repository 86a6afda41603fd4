package host

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// letter is the dead letter of a job with the outcome o.
func (h *Host) letter(j *job, session jobs.SessionRef, o *jobs.Outcome) *jobs.DeadLetter {
	return &jobs.DeadLetter{Session: session, Job: o.Job, Sequence: j.seq, Stored: j.stored, Mode: j.env.Mode, Type: j.env.Type, Deadline: j.env.Deadline,
		Attempts: o.Attempt, Reason: jobs.ReplyReason(o.Body), Failures: o.Failures}
}

// bury keeps a dead job with its request, its headers and its error history. The broker stores one of two letters with the
// same id within its window of duplicates; again says that there may be an older one, as there may be of a job that is older: its
// session's record can have expired after the letter and before the result.
func (h *Host) bury(ctx context.Context, j *job, d *jobs.DeadLetter, again bool) error {
	if again || max(h.age(j), h.now().Sub(j.stored)) > stream.DeadWindow { // by whatever clock the broker measures its window
		if there, err := h.isBuried(ctx, d); there || err != nil {
			return err
		}
	}
	body, err := h.body(ctx, j)
	if err != nil {
		return fmt.Errorf("dead letter: %w", err)
	}
	switch req, bad := jobs.ParseRequest(d.Type, body, h.maxPayload); {
	case bad == nil:
		d.Command = req.Command
	case bad.Code == jobs.CodeSecret:
		body = nil // a key is not kept beyond the job
	}
	m := &nats.Msg{Subject: d.Subject(), Data: body, Header: d.Header(h.maxPayload)}
	if _, err := h.writer.PublishSync(m); err != nil {
		return fmt.Errorf("dead letter: %w", err)
	}
	return nil
}

// buryAnonymous keeps a dead anonymous job, unless it has an outcome already.
func (h *Host) buryAnonymous(t *task, r *jobs.Result) error {
	e, err := h.results.Get(h.work, t.session.ResultKey(t.env.Job))
	if err != nil || e.Exists {
		return err
	}
	d := h.letter(t.job, t.session, &jobs.Outcome{Job: r.Job, Attempt: r.Attempt, Body: r.Body, Failures: t.failures})
	d.Lane = t.lane
	return h.insist(h.work, snag{j: t.job, step: stepLetter}, func() error { return h.bury(h.work, t.job, d, false) })
}

// isBuried looks at the last letter of the session, whose jobs die one after the other.
func (h *Host) isBuried(ctx context.Context, d *jobs.DeadLetter) (bool, error) {
	m, err := stream.GetLast(ctx, h.nc, stream.Dead, d.Subject())
	if errors.Is(err, stream.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("dead letter: %w", err)
	}
	return m.Header.Get(jobs.HeaderSequence) == strconv.FormatUint(d.Sequence, 10) && m.Header.Get(jobs.HeaderJob) == d.Job, nil
}

// refuseSession disposes of a job whose subject names no possible session: dead letter, reply, ack, no record.
func (h *Host) refuseSession(ctx context.Context, j *job, session jobs.SessionRef) error {
	t := &task{job: j}
	if _, err := t.parse(ctx, h); err != nil {
		return err
	}
	e := jobs.Errorf(jobs.Session, jobs.CodeBadSession, "the session id is not allowed")
	e.Expected = "1 to 64 of A-Z a-z 0-9 _ -"
	o := &jobs.Outcome{Job: t.env.Job, Body: (&jobs.Reply{Job: t.env.Job, Err: e}).Append(nil)}
	d := h.letter(j, session, o)
	d.Invalid = true
	if err := h.bury(ctx, j, d, false); err != nil {
		return err
	}
	h.send(t.env.ReplyTo, t.env.Type, o.Job, 0, o.Body)
	return h.ack(j)
}
