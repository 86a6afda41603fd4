package host

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/jobs"
)

// complete carries a decided outcome out: dead letter, result, reply, ack. Every step may be repeated.
func (s *session) complete(ctx context.Context, j *job, o *jobs.Outcome, failures []jobs.Failure) error {
	h := s.p.h
	if o.Buried {
		if err := h.insist(ctx, "dead letter", func() error { return h.bury(ctx, j, s.id, o, failures) }); err != nil {
			return err
		}
	}
	stored := make(chan error, 1)
	r := &jobs.Result{Session: s.id, Job: o.Job, Sequence: o.Sequence, Attempt: o.Attempt, Hash: o.Hash, Kind: o.Kind, Body: o.Body, Stored: h.now()}
	h.putResult(ctx, jobs.ResultKey(s.id, o.Job), r, o.Mode, stored)
	h.send(o.ReplyTo, o.Type, o.Job, o.Attempt, o.Body)
	if err := <-stored; err != nil {
		return err
	}
	return h.ack(j)
}

var (
	ackDone     = []byte("+ACK")
	ackProgress = []byte("+WPI")
)

// ack removes the message. One that is lost does no harm: the redelivery is completed from the record.
func (h *Host) ack(j *job) error {
	if err := h.nc.Publish(j.delivery(), ackDone); err != nil {
		return fmt.Errorf("ack: %w", err)
	}
	return nil
}

// nak asks for redelivery after d.
func (h *Host) nak(j *job, d time.Duration) error {
	return h.nc.Publish(j.delivery(), fmt.Appendf(nil, `-NAK {"delay": %d}`, d.Nanoseconds()))
}

// putResult creates a result; one that is there already stays. done gets nil when a result is known to be stored.
func (h *Host) putResult(ctx context.Context, key string, r *jobs.Result, mode jobs.Mode, done chan<- error) {
	ttl, body := jobs.ResultTTL(mode), r.Append(nil)
	h.results.Put(key, body, 0, ttl, func(_ uint64, err error) {
		if err == nil {
			done <- nil
			return
		}
		go func() { done <- h.putResultAgain(ctx, key, body, ttl) }()
	})
}

func (h *Host) putResultAgain(ctx context.Context, key string, body []byte, ttl time.Duration) error {
	return h.insist(ctx, "result", func() error {
		e, err := h.results.Get(ctx, key)
		if err != nil || e.Exists {
			return err
		}
		_, err = h.results.PutSync(key, body, e.Revision, ttl)
		return err
	})
}

// completeAgain finishes a job that the record says is decided: only the last one can miss its result.
func (s *session) completeAgain(ctx context.Context, j *job) error {
	if o := s.record.Last; o != nil && o.Sequence == j.seq {
		return s.complete(ctx, j, o, nil)
	}
	return s.p.h.ack(j)
}

// finish gives a job that ended before its turn its result, and answers; if its id has a result, that is the answer.
func (s *session) finish(ctx context.Context, t *task, kind jobs.Kind) error {
	if done, err := s.answerStored(ctx, t); done || err != nil {
		return err
	}
	e := expired("its turn")
	if kind == jobs.Cancelled {
		e = cancelled()
	}
	reply := jobs.Reply{Job: t.env.Job, Session: s.id, Host: s.p.h.cfg.Name, State: s.stateLabel(), Err: e}
	r := &jobs.Result{Session: s.id, Job: t.env.Job, Sequence: t.seq, Hash: t.req.Hash, Kind: kind, Body: reply.Append(nil), Stored: s.p.h.now()}
	stored := make(chan error, 1)
	s.p.h.putResult(ctx, jobs.ResultKey(s.id, t.env.Job), r, t.env.Mode, stored)
	s.p.h.send(t.env.ReplyTo, t.env.Type, t.env.Job, 0, r.Body)
	return <-stored
}

// bury keeps a dead job with its request and its error history.
func (h *Host) bury(ctx context.Context, j *job, session string, o *jobs.Outcome, failures []jobs.Failure) error {
	body, err := h.body(ctx, j)
	if err != nil {
		return fmt.Errorf("dead letter: %w", err)
	}
	m := &nats.Msg{Subject: jobs.DeadSubject(session), Data: body, Header: nats.Header{
		"Nats-Msg-Id": {session + "." + strconv.FormatUint(j.seq, 10)}, jobs.HeaderJob: {o.Job},
		jobs.HeaderAttempt: {strconv.Itoa(o.Attempt)}, jobs.HeaderContentType: {o.Type},
	}}
	for _, f := range failures {
		m.Header.Add("Dspex-Failure", fmt.Sprintf("%d %s %s", f.Attempt, f.Category, f.Code))
	}
	if _, err := h.writer.PublishSync(m); err != nil {
		return fmt.Errorf("dead letter: %w", err)
	}
	return nil
}

// refuseSession disposes of a job whose subject names no possible session: dead letter, reply, ack, no record.
func (h *Host) refuseSession(ctx context.Context, j *job) error {
	t := &task{job: j}
	if _, err := t.parse(ctx, h); err != nil {
		return err
	}
	e := jobs.Errorf(jobs.Session, jobs.CodeBadSession, "the session id is not allowed")
	e.Expected = "1 to 64 of A-Z a-z 0-9 _ -"
	o := &jobs.Outcome{Job: t.env.Job, Sequence: j.seq, Type: t.env.Type}
	if err := h.bury(ctx, j, "invalid", o, nil); err != nil {
		return err
	}
	h.send(t.env.ReplyTo, t.env.Type, o.Job, 0, (&jobs.Reply{Job: o.Job, Err: e}).Append(nil))
	return h.ack(j)
}
