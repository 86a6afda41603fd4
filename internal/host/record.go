package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// tries bounds how often a write is judged anew before the job starts over from the record.
const tries = 8

// base is what an attempt builds on. If the record has moved on when it ends, its effect is void.
type base struct {
	stream              int64
	sequence, gen, data uint64
}

func (s *session) base() base {
	return base{s.record.Stream, s.record.LastSequence, s.record.Generation, s.record.StateVersion}
}

// lossKept is the record as it is written beside a job. That its state was lost is told by a job's reply, perhaps another
// host's: until then the record holds a version without a state.
func (s *session) lossKept(r jobs.Record) *jobs.Record {
	if s.lost && r.StateVersion == 0 {
		r.StateVersion = 1
	}
	return &r
}

// ready makes sure that record and head are known, and young enough to be written to (architecture, rule 7).
func (s *session) ready(ctx context.Context) error {
	if s.known && time.Since(s.loaded) <= s.ttl(0)/2 && !s.lapsed() {
		return nil
	}
	s.known = false
	return s.load(ctx)
}

// load reads record and head from the stream's leader.
func (s *session) load(ctx context.Context) error {
	h := s.p.h
	before, since := h.now(), h.present()
	rec, err := h.records.Get(ctx, s.ref.RecordKey())
	if err != nil {
		return err
	}
	head, err := h.records.Get(ctx, s.ref.HeadKey())
	if err != nil {
		return err
	}
	// Only after the reads: who takes the partition over later changes the revisions that this epoch's writes expect.
	if err := s.p.mine(ctx); err != nil {
		return err
	}
	if rec.Revision != s.recRev { // another's write, or one whose fate was unknown: what a worker holds is another version
		s.worker, s.version = 0, 0
	}
	s.recRev, s.headRev = rec.Revision, head.Revision
	s.head, s.lost = nil, false
	if s.record, err = readRecord(rec); errors.Is(err, jobs.ErrNewer) {
		return err // left alone: a host of the newer version goes on with it
	} else if err != nil {
		// The next commit replaces it. What was decided before is still known by its result.
		h.log.Error("session_record_unreadable", "session", s.ref.String(), "revision", rec.Revision, "error", err)
		s.record, s.lost = nil, true
	}
	if s.head, err = s.readHead(head); err != nil {
		return err
	}
	s.stamp = rec.Stored
	expired := false
	if s.record == nil {
		s.record = &jobs.Record{Created: before}
		if rec.Revision == 0 {
			if s.lost, err = h.forgot(ctx); err != nil {
				return err
			}
		}
	} else if expired, err = s.expired(ctx); err != nil {
		return err
	}
	if expired || s.record.StateVersion > 0 && len(s.record.State) == 0 {
		s.lost = s.record.StateVersion > 0
		s.record.State, s.record.StateVersion, s.record.LM = nil, 0, nil
		s.record.Generation++
	}
	if s.record.Stream != s.p.life { // sequences of another stream count nothing
		s.record.Stream, s.record.LastSequence, s.record.Ended, s.record.Last = s.p.life, 0, nil, nil
	}
	s.known, s.bare, s.loaded, s.since = true, false, time.Now(), since
	return nil
}

// whole is ready, with all of the record: for those who write it again, or answer from it.
func (s *session) whole(ctx context.Context) error {
	if err := s.ready(ctx); err != nil || !s.bare {
		return err
	}
	return s.load(ctx)
}

// idleFor is how long nothing ran or waited before the job at hand was accepted; without one, until now. The broker has stamped
// both, the record and the job: what host wrote the record, and by what clock, does not count.
func (s *session) idleFor() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	idle := s.p.h.clock.Age(s.stamp)
	if s.running != nil {
		idle -= s.p.h.age(s.running)
	}
	return idle
}

// expired reports whether the session's idle time is over. Only a clock that was compared since the job came may say so.
func (s *session) expired(ctx context.Context) (bool, error) {
	h := s.p.h
	if s.idleFor() <= h.cfg.SessionIdle {
		return false, nil
	}
	s.mu.Lock()
	since := h.clock.Mono()
	if s.running != nil {
		since = s.running.came
	}
	s.mu.Unlock()
	if err := h.clock.Confirm(ctx, since); err != nil {
		return false, err
	}
	return s.idleFor() > h.cfg.SessionIdle, nil
}

// lapsed reports whether the state in memory has outlived the session's idle time.
func (s *session) lapsed() bool {
	s.mu.Lock()
	running := s.running != nil
	s.mu.Unlock()
	return running && s.record.StateVersion > 0 && s.idleFor() > s.p.h.cfg.SessionIdle
}

func readRecord(e stream.Entry) (*jobs.Record, error) {
	if !e.Exists {
		return nil, nil
	}
	return jobs.ParseRecord(e.Value)
}

// readHead reads the session's head, nil if there is none. One that cannot be read counts as an attempt without an end of the
// job at hand, if that was there already when it was written: an attempt less is better than one too many.
func (s *session) readHead(e stream.Entry) (*jobs.Head, error) {
	if !e.Exists {
		return nil, nil
	}
	hd, err := jobs.ParseHead(e.Value)
	if err == nil || errors.Is(err, jobs.ErrNewer) {
		return hd, err
	}
	s.p.h.log.Error("session_head_unreadable", "session", s.ref.String(), "revision", e.Revision, "error", err)
	s.mu.Lock()
	defer s.mu.Unlock()
	if j := s.running; j != nil && !j.stored.After(e.Stored) {
		return &jobs.Head{Stream: s.p.life, Sequence: j.seq, Attempt: 1}, nil
	}
	return nil, nil
}

// ttl is how long record and head live after a write.
func (s *session) ttl(longest time.Duration) time.Duration {
	return s.p.h.cfg.SessionIdle + max(longest, time.Hour)
}

// headLife is how long the head of a job without deadline lives beyond the idle time: the attempts of a job must not be
// forgotten while it may come again.
const headLife = 24 * time.Hour

// writeHead makes the attempt (delay 0) or the retry to come durable before anything depends on it.
func (s *session) writeHead(ctx context.Context, t *task, delay time.Duration) error {
	h := s.p.h
	hd := &jobs.Head{Stream: s.p.life, Epoch: s.p.epoch, Sequence: t.seq, Attempt: t.attempt, Failures: t.failures, Delay: delay}
	if delay > 0 || (len(t.failures) > 0 && t.failures[len(t.failures)-1].Attempt == t.attempt) {
		hd.NotBefore = h.now().Add(delay)
	}
	key, body := s.ref.HeadKey(), hd.Append(nil)
	left, has := t.left(h)
	if !has {
		left = headLife
	}
	n := 0
	return h.insist(ctx, snag{s: s, j: t.job, step: stepHead}, func() error {
		for ; n < tries; n++ {
			if err := s.still(ctx, t); err != nil {
				return err
			}
			asked := h.clock.Mono()
			rev, err := h.records.PutSync(key, body, s.headRev, s.ttl(left))
			if err == nil {
				s.head, s.headRev, t.confirmed = hd, rev, asked
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
	})
}

// still is asked before each write, however long the broker let it wait. It reports errVoid when the record is not the one
// any more that the attempt started from, or says that the job has ended: an early end whose write seemed to fail can come to
// light late.
func (s *session) still(ctx context.Context, t *task) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	if t.base != (base{}) && t.base != s.base() || s.record.LastSequence >= t.seq || s.record.Ended[t.seq] != "" {
		return errVoid
	}
	return nil
}

// judgeHead decides after a head write that failed: own write, fenced, void, or (neither) write again with the new revision.
func (s *session) judgeHead(ctx context.Context, key string, hd *jobs.Head) (own bool, err error) {
	e, err := s.p.h.records.Get(ctx, key)
	if err != nil {
		return false, err
	}
	var cur *jobs.Head
	if e.Exists {
		if cur, err = jobs.ParseHead(e.Value); errors.Is(err, jobs.ErrNewer) {
			return false, err
		}
	}
	// First, as of the record: a successor that renews this epoch's head gives it another revision.
	if err := s.p.mine(ctx); err != nil {
		return false, err
	}
	if cur != nil && hd.Same(cur) {
		s.head, s.headRev = hd, e.Revision
		return true, nil
	}
	if e.Revision != s.headRev && cur != nil && (s.head == nil || !s.head.Same(cur)) {
		return false, errVoid
	}
	s.headRev = e.Revision
	return false, nil
}

// settle gives the job its outcome: e nil is success. out is what the last attempt brought, nil if none ran.
func (s *session) settle(ctx context.Context, t *task, e *jobs.Error, out *output) error {
	h := s.p.h
	if err := s.still(ctx, t); err != nil { // before next is made of what is known
		return err
	}
	if out == nil {
		out = &output{label: s.stateLabel()}
	}
	next := *s.record
	next.LastSequence, next.Updated, next.Jobs = t.seq, h.now(), s.record.Jobs+1
	reply := jobs.Reply{Job: t.env.Job, Attempt: t.attempt, Session: s.ref.ID, Host: h.cfg.Name, Worker: out.worker, State: out.label,
		Engine: out.engine, Queued: h.age(t.job) - out.ran, Run: out.ran, Usage: out.usage, Err: e, Result: out.value}
	last := &jobs.Outcome{Job: t.env.Job, Sequence: t.seq, Epoch: s.p.epoch, Attempt: t.attempt, Hash: t.req.Hash,
		Kind: kindOf(e), Mode: t.env.Mode, ReplyTo: t.env.ReplyTo, Type: t.env.Type, Body: reply.Append(nil)}
	if e == nil {
		next.Host, next.Worker = h.cfg.Name, out.worker
		s.advance(&next, t, out)
	}
	if last.Buried = last.Kind == jobs.Failed && t.buried; last.Buried {
		last.Failures = t.failures
	}
	next.Last = last
	if err := s.commit(ctx, t, &next); err != nil {
		return err
	}
	h.count(t, out.ran, e)
	if e == nil {
		s.worker, s.version, s.used, s.lost = out.slot, next.StateVersion, time.Now(), false
		if t.req.Command == eraseSession {
			h.dropEverywhere(s.ref)
		}
	}
	return s.complete(ctx, t.job, last, false)
}

func kindOf(e *jobs.Error) jobs.Kind {
	switch {
	case e == nil:
		return jobs.Succeeded
	case e.Code == jobs.CodeExpired:
		return jobs.Expired
	case e.Code == jobs.CodeCancelled:
		return jobs.Cancelled
	}
	return jobs.Failed
}

// advance takes the state that a successful attempt brought.
func (s *session) advance(next *jobs.Record, t *task, out *output) {
	if empties(t.req.Command) {
		empty(next)
		out.slot = 0
		return
	}
	if out.state != nil {
		next.State, next.StateVersion = out.state, out.ver
	}
	if out.choseLM {
		next.LM = out.lm
	}
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

// commit writes the record: state, last sequence and outcome in one compare-and-set.
func (s *session) commit(ctx context.Context, t *task, next *jobs.Record) error {
	h := s.p.h
	left, _ := t.left(h)
	n := 0
	return h.insist(ctx, snag{s: s, j: t.job, step: stepCommit}, func() error {
		for ; n < tries; n++ {
			if err := s.still(ctx, t); err != nil {
				return err
			}
			next.Ended, next.Updated = later(s.record.Ended, t.seq), h.now() // the idle time counts from the write, however late it is
			rev, err := h.records.PutSync(s.ref.RecordKey(), next.Append(nil), s.recRev, s.ttl(left))
			if err == nil {
				s.record, s.recRev, s.loaded, s.stamp, s.bare = next, rev, time.Now(), h.now(), false
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
	})
}

// judgeRecord decides after a record write that failed (architecture, rule 3). With neither own nor err the write is
// repeated with what it found.
func (s *session) judgeRecord(ctx context.Context, t *task, next *jobs.Record) (own bool, err error) {
	e, err := s.p.h.records.Get(ctx, s.ref.RecordKey())
	if err != nil {
		return false, err
	}
	cur, err := readRecord(e)
	if err != nil {
		return false, err
	}
	// Whose the partition is comes first: a successor's early end leaves this epoch's outcome in the record, under a revision that
	// is not this epoch's to write over. The successor completes the job from the record.
	if err := s.p.mine(ctx); err != nil {
		return false, err
	}
	if cur != nil && cur.Last != nil && cur.Last.Epoch == s.p.epoch && cur.Last.Sequence == t.seq && cur.Last.Attempt == t.attempt {
		s.record, s.recRev, s.loaded, s.stamp, s.bare = next, e.Revision, time.Now(), e.Stored, false
		return true, nil
	}
	if cur != nil {
		if _, ended := cur.Ended[t.seq]; ended || cur.LastSequence != s.record.LastSequence || cur.Stream != s.record.Stream ||
			cur.Generation != s.record.Generation || cur.StateVersion != s.record.StateVersion {
			return false, errVoid
		}
		s.record.Ended = cur.Ended
	}
	s.recRev = e.Revision
	return false, nil
}

func (h *Host) count(t *task, ran time.Duration, e *jobs.Error) {
	h.census.ended(t.from.Session.Tenant, ran, e)
	h.metrics.jobs.WithLabelValues(string(kindOf(e))).Inc()
	h.stats.Requests.Add(1)
	h.stats.RunMillis.Add(ran.Milliseconds())
	if ran > 0 {
		h.stats.Ran.Add(1)
	}
	if e != nil {
		h.stats.Errors.Add(1)
		if e.Requested() {
			h.stats.Requested.Add(1)
		}
	}
}
