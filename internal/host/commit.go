package host

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// tries bounds how often a write is judged anew before the job starts over from the record.
const tries = 8

// writeHead makes the attempt (delay 0) or the retry to come durable before anything depends on it.
func (s *session) writeHead(ctx context.Context, t *task, delay time.Duration) error {
	h := s.p.h
	hd := &jobs.Head{Stream: h.streamID, Epoch: s.p.epoch, Sequence: t.seq, Attempt: t.attempt, Failures: t.failures, Delay: delay}
	if delay > 0 || (len(t.failures) > 0 && t.failures[len(t.failures)-1].Attempt == t.attempt) {
		hd.NotBefore = h.now().Add(delay)
	}
	key, body := jobs.HeadKey(s.id), hd.Append(nil)
	left, _ := t.left(h.now())
	for range tries {
		rev, err := h.records.PutSync(key, body, s.headRev, s.ttl(left))
		if err == nil {
			s.head, s.headRev = hd, rev
			return nil
		}
		if !errors.Is(err, stream.ErrWrongRevision) && !errors.Is(err, stream.ErrUnknown) {
			return fmt.Errorf("head: %w", err)
		}
		if own, err := s.judgeHead(ctx, key, hd); own || err != nil {
			return err
		}
	}
	return errVoid
}

// judgeHead decides after a head write that failed: own write, fenced, void, or (neither) write again with the new revision.
func (s *session) judgeHead(ctx context.Context, key string, hd *jobs.Head) (own bool, err error) {
	e, err := s.p.h.records.Get(ctx, key)
	if err != nil {
		return false, err
	}
	var cur *jobs.Head
	if e.Exists {
		if cur, err = jobs.ParseHead(e.Value); err != nil {
			return false, err
		}
		if cur.Epoch == hd.Epoch && cur.Sequence == hd.Sequence && cur.Attempt == hd.Attempt && cur.NotBefore.IsZero() == hd.NotBefore.IsZero() {
			s.head, s.headRev = hd, e.Revision
			return true, nil
		}
	}
	if err := s.p.mine(ctx); err != nil {
		return false, err
	}
	if e.Revision != s.headRev && cur != nil && (s.head == nil || cur.Epoch != s.head.Epoch || cur.Sequence != s.head.Sequence || cur.Attempt != s.head.Attempt) {
		return false, errVoid
	}
	s.headRev = e.Revision
	return false, nil
}

// settle gives the job its outcome: e nil is success. out is what the last attempt brought, nil if none ran.
func (s *session) settle(ctx context.Context, t *task, e *jobs.Error, out *output) error {
	h := s.p.h
	if out == nil {
		out = &output{label: s.stateLabel()}
	}
	next := *s.record
	next.Ended = later(s.record.Ended, t.seq)
	next.LastSequence, next.Updated, next.Jobs = t.seq, h.now(), s.record.Jobs+1
	reply := jobs.Reply{Job: t.env.Job, Attempt: t.attempt, Session: s.id, Host: h.cfg.Name, Worker: out.worker, State: out.label,
		Engine: out.engine, Queued: h.now().Sub(t.stored) - out.ran, Run: out.ran, Usage: out.usage, Err: e, Result: out.value}
	last := &jobs.Outcome{Job: t.env.Job, Sequence: t.seq, Epoch: s.p.epoch, Attempt: t.attempt, Hash: t.req.Hash,
		Kind: jobs.Succeeded, Mode: t.env.Mode, ReplyTo: t.env.ReplyTo, Type: t.env.Type}
	if e == nil {
		next.Host, next.Worker = h.cfg.Name, out.worker
		s.advance(&next, t, out)
	} else {
		last.Kind = jobs.Failed
		if e.Code == jobs.CodeExpired {
			last.Kind = jobs.Expired
		}
		left, has := t.left(h.now())
		last.Buried = last.Kind == jobs.Failed && jobs.Settle(e, t.attempt, t.req.Policy, left, has, nil).Action == jobs.Bury
	}
	last.Body = reply.Append(nil)
	next.Last = last
	h.count(out.ran, e)
	if err := s.commit(ctx, t, &next); err != nil {
		return err
	}
	return s.complete(ctx, t.job, last, t.failures)
}

// advance takes the state that a successful attempt brought.
func (s *session) advance(next *jobs.Record, t *task, out *output) {
	if t.req.Command == "cleanup_session" {
		next.Generation++
		next.State, next.StateVersion, next.LM = nil, 0, nil
		return
	}
	if out.state != nil {
		next.State, next.StateVersion = out.state, out.ver
	}
	if out.lm != nil {
		next.LM = out.lm
	}
	s.lost = false
}

func (s *session) stateLabel() jobs.StateOf {
	if s.lost {
		return jobs.Reset
	}
	if s.record.StateVersion == 0 {
		return jobs.None
	}
	return jobs.Restored
}

// later keeps the early ends behind seq.
func later(ended map[uint64]jobs.Kind, seq uint64) map[uint64]jobs.Kind {
	var keep map[uint64]jobs.Kind
	for s, kind := range ended {
		if s > seq {
			if keep == nil {
				keep = map[uint64]jobs.Kind{}
			}
			keep[s] = kind
		}
	}
	return keep
}

func (h *Host) count(ran time.Duration, e *jobs.Error) {
	h.stats.Requests.Add(1)
	h.stats.RunMillis.Add(ran.Milliseconds())
	if e != nil {
		h.stats.Errors.Add(1)
	}
}

// commit is the one write that decides: state, last sequence and outcome by compare-and-set on the record.
func (s *session) commit(ctx context.Context, t *task, next *jobs.Record) error {
	h := s.p.h
	left, _ := t.left(h.now())
	if time.Since(s.loaded) > s.ttl(0)/2 {
		if err := s.p.mine(ctx); err != nil {
			return err
		}
	}
	for range tries {
		rev, err := h.records.PutSync(jobs.RecordKey(s.id), next.Append(nil), s.recRev, s.ttl(left))
		if err == nil {
			s.record, s.recRev, s.loaded = next, rev, time.Now()
			return nil
		}
		if !errors.Is(err, stream.ErrWrongRevision) && !errors.Is(err, stream.ErrUnknown) {
			return fmt.Errorf("session record: %w", err)
		}
		if own, err := s.judgeRecord(ctx, t, next); own || err != nil {
			return err
		}
	}
	return errVoid
}

// judgeRecord decides after a record write that failed (architecture, rule 3). With neither own nor err the write is
// repeated with what it found.
func (s *session) judgeRecord(ctx context.Context, t *task, next *jobs.Record) (own bool, err error) {
	e, err := s.p.h.records.Get(ctx, jobs.RecordKey(s.id))
	if err != nil {
		return false, err
	}
	cur, err := readRecord(e)
	if err != nil {
		return false, err
	}
	if cur != nil && cur.Last != nil && cur.Last.Epoch == s.p.epoch && cur.Last.Sequence == t.seq && cur.Last.Attempt == t.attempt {
		s.record, s.recRev, s.loaded = cur, e.Revision, time.Now()
		return true, nil
	}
	if err := s.p.mine(ctx); err != nil {
		return false, err
	}
	if cur != nil {
		if _, ended := cur.Ended[t.seq]; ended || cur.LastSequence != s.record.LastSequence || cur.Stream != s.record.Stream {
			return false, errVoid
		}
		next.Ended = later(cur.Ended, t.seq)
	}
	s.recRev = e.Revision
	return false, nil
}

// complete carries a decided outcome out: dead letter, result, reply, ack. Every step may be repeated.
func (s *session) complete(ctx context.Context, j *job, o *jobs.Outcome, failures []jobs.Failure) error {
	h := s.p.h
	if o.Buried {
		if err := h.bury(ctx, j, s.id, o, failures); err != nil {
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
	return ack(j)
}

func ack(j *job) error {
	if err := j.delivery().Ack(); err != nil {
		return fmt.Errorf("ack: %w", err)
	}
	return nil
}

// putResult creates a result; one that is there already stays. done gets nil when a result is known to be stored.
func (h *Host) putResult(ctx context.Context, key string, r *jobs.Result, mode jobs.Mode, done chan<- error) {
	ttl := queueResultTTL
	if mode == jobs.ModeCall {
		ttl = callResultTTL
	}
	body := r.Append(nil)
	h.results.Put(key, body, 0, ttl, func(_ uint64, err error) {
		if err == nil {
			done <- nil
			return
		}
		go func() { done <- h.putResultAgain(ctx, key, body, ttl) }()
	})
}

func (h *Host) putResultAgain(ctx context.Context, key string, body []byte, ttl time.Duration) error {
	for range tries {
		e, err := h.results.Get(ctx, key)
		if err != nil {
			return err
		}
		if e.Exists {
			return nil
		}
		if _, err = h.results.PutSync(key, body, e.Revision, ttl); err == nil {
			return nil
		}
		if !errors.Is(err, stream.ErrWrongRevision) && !errors.Is(err, stream.ErrUnknown) {
			return fmt.Errorf("result: %w", err)
		}
	}
	return fmt.Errorf("result %s: not stored after %d tries", key, tries)
}

// completeAgain finishes a job that the record says is decided: only the last one can miss its result.
func (s *session) completeAgain(ctx context.Context, j *job) error {
	if o := s.record.Last; o != nil && o.Sequence == j.seq {
		return s.complete(ctx, j, o, nil)
	}
	return ack(j)
}

// finishEnded gives a job that ended before its turn its result, if it has none, and removes it unrun.
func (s *session) finishEnded(ctx context.Context, t *task, kind jobs.Kind) error {
	e := expired()
	if kind == jobs.Cancelled {
		e = jobs.Errorf(jobs.System, jobs.CodeCancelled, "the job was cancelled before it ran")
	}
	reply := jobs.Reply{Job: t.env.Job, Session: s.id, Host: s.p.h.cfg.Name, State: s.stateLabel(), Err: e}
	o := &jobs.Outcome{Job: t.env.Job, Sequence: t.seq, Epoch: s.p.epoch, Hash: t.req.Hash, Kind: kind, Mode: t.env.Mode,
		ReplyTo: t.env.ReplyTo, Type: t.env.Type, Body: reply.Append(nil)}
	return s.complete(ctx, t.job, o, nil)
}

// bury keeps a dead job with its request and its error history.
func (h *Host) bury(ctx context.Context, j *job, session string, o *jobs.Outcome, failures []jobs.Failure) error {
	body, err := h.body(ctx, j)
	if err != nil {
		return fmt.Errorf("dead letter: %w", err)
	}
	m := &nats.Msg{Subject: "dspex.dlq.s." + session, Data: body, Header: nats.Header{
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
func (h *Host) refuseSession(ctx context.Context, s *session, j *job) error {
	t := &task{job: j}
	_ = t.parse(ctx, h)
	e := jobs.Errorf(jobs.Session, jobs.CodeBadSession, "the session id is not allowed")
	e.Expected = "1 to 64 of A-Z a-z 0-9 _ -"
	o := &jobs.Outcome{Job: t.env.Job, Sequence: j.seq, Type: t.env.Type}
	if err := h.bury(ctx, j, "invalid", o, nil); err != nil {
		return err
	}
	h.send(t.env.ReplyTo, t.env.Type, o.Job, 0, (&jobs.Reply{Job: o.Job, Err: e}).Append(nil))
	return ack(j)
}
