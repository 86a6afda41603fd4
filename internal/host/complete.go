package host

import (
	"context"
	"fmt"
	"time"

	"github.com/dspex/dspex/internal/jobs"
)

// complete carries a decided outcome out: dead letter, result, reply, ack. Every step may be repeated.
func (s *session) complete(ctx context.Context, j *job, o *jobs.Outcome, again bool) error {
	h := s.p.h
	if o.Buried {
		d := h.letter(j, s.ref, o)
		if err := h.insist(ctx, snag{s: s, j: j, step: stepLetter}, func() error { return h.bury(ctx, j, d, again) }); err != nil {
			return err
		}
	}
	stored := make(chan error, 1)
	r := &jobs.Result{Session: s.ref.ID, Job: o.Job, Sequence: o.Sequence, Attempt: o.Attempt, Hash: o.Hash, Kind: o.Kind, Body: o.Body, Stored: h.now()}
	s.putResult(ctx, r, o.Mode, stored)
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
func (s *session) putResult(ctx context.Context, r *jobs.Result, mode jobs.Mode, done chan<- error) {
	key, ttl, body := s.ref.ResultKey(r.Job), jobs.ResultTTL(mode), r.Append(nil)
	s.p.h.results.Put(key, body, 0, ttl, func(_ uint64, err error) {
		if err == nil {
			done <- nil
			return
		}
		go func() { done <- s.putResultAgain(ctx, key, body, ttl) }()
	})
}

func (s *session) putResultAgain(ctx context.Context, key string, body []byte, ttl time.Duration) error {
	h := s.p.h
	return h.insist(ctx, snag{s: s, step: stepResult}, func() error {
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
	if err := s.whole(ctx); err != nil {
		return err
	}
	if o := s.record.Last; o != nil && o.Sequence == j.seq {
		return s.complete(ctx, j, o, true)
	}
	return s.p.h.ack(j)
}

// finish gives a job that ended before its turn its result, and answers; if its id has a result, that is the answer. How often the
// result is tried is up to persist.
func (s *session) finish(ctx context.Context, t *task, kind jobs.Kind, persist func(try func() error) error) error {
	if done, err := s.answerStored(ctx, t); done || err != nil {
		return err
	}
	e := jobs.DeadlinePassed("its turn")
	if kind == jobs.Cancelled {
		e = cancelled()
	}
	reply := jobs.Reply{Job: t.env.Job, Session: s.ref.ID, Host: s.p.h.cfg.Name, State: s.stateLabel(), Err: e}
	r := &jobs.Result{Session: s.ref.ID, Job: t.env.Job, Sequence: t.seq, Hash: t.req.Hash, Kind: kind, Body: reply.Append(nil), Stored: s.p.h.now()}
	// The record holds only the kind: another host would word the answer anew. What is answered is what is stored.
	won, err := s.p.h.firstResult(ctx, persist, s.ref.ResultKey(t.env.Job), r, jobs.ResultTTL(t.env.Mode))
	if err != nil {
		return err
	}
	s.p.h.send(t.env.ReplyTo, t.env.Type, t.env.Job, won.Attempt, won.Body)
	return nil
}
