package host

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// ask wants a waiting job to end early.
type ask struct {
	job  *job
	kind jobs.Kind
	done chan error // capacity 1
}

// serve waits until ready is, and meanwhile does what must not wait for the job at the head: early ends that are asked for,
// deadlines of waiting jobs, and the renewal of the session's record. It gives up with ctx's cause, and with errTimeOver
// after until (zero: no end).
func (s *session) serve(ctx context.Context, ready <-chan struct{}, until time.Time) error {
	for ctx.Err() == nil {
		next, last := s.nextDuty(), false
		if left := time.Until(until); !until.IsZero() && left <= next {
			next, last = left, true
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
		case <-ready:
			timer.Stop()
			return nil
		case <-s.wake:
		case a := <-s.asks:
			a.done <- s.endEarly(s.p.ctx, a.job, a.kind)
		case <-timer.C:
			if last {
				return errTimeOver
			}
			if err := s.duties(s.p.ctx); err != nil && s.p.ctx.Err() == nil {
				s.p.h.log.Warn("duty_delayed", "session", s.ref.String(), "error", err)
				s.quiet = time.Now().Add(brokerPause)
			}
		}
		timer.Stop()
	}
	return context.Cause(ctx)
}

// dutyPause is the longest and the shortest time between looks at what a session's loop has to do beside its job.
const (
	dutyMost  = time.Minute
	dutyLeast = 10 * time.Millisecond
)

// nextDuty is the time until a waiting job's deadline or the record's renewal, whichever comes first.
func (s *session) nextDuty() time.Duration {
	next := dutyMost
	if s.known {
		next = min(next, s.ttl(0)/4-time.Since(s.loaded))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range s.queue {
		if s.endedBefore(j) {
			next = 0
		} else if !j.answered && j.expires() {
			next = min(next, s.p.h.leftOf(j, j.bound))
		} else if !j.weighed {
			next = 0
		}
	}
	return max(next, dutyLeast, time.Until(s.quiet))
}

// duties weighs what has come, ends what is overdue, and renews record and head when a quarter of their life is over.
func (s *session) duties(ctx context.Context) error {
	s.weighAll()
	for {
		j, err := s.overdue(ctx)
		if err != nil {
			return err
		}
		if j == nil {
			break
		}
		if err := s.endEarly(ctx, j, jobs.Expired); err != nil {
			return err
		}
	}
	if s.known && time.Since(s.loaded) > s.ttl(0)/4 {
		return s.renew(ctx)
	}
	return nil
}

// weighAll learns the deadlines of the waiting jobs.
func (s *session) weighAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range s.queue {
		if !j.weighed {
			j.weigh(s.p.h)
		}
	}
}

// overdue returns a waiting job that has ended early and was not answered, or whose deadline has passed, by a clock that was compared
// since the job came.
func (s *session) overdue(ctx context.Context) (*job, error) {
	for {
		j := s.seemsOverdue()
		if j == nil {
			return nil, nil
		}
		if _, sure := s.p.h.clock.Sure(j.came); sure || s.endedBefore(j) {
			return j, nil
		}
		if err := s.p.h.clock.Confirm(ctx, j.came); err != nil {
			return nil, err
		}
	}
}

func (s *session) seemsOverdue() *job {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range s.queue {
		if s.endedBefore(j) || !j.answered && j.expires() && s.p.h.leftOf(j, j.bound) <= 0 {
			return j
		}
	}
	return nil
}

// endedBefore reports whether the record says that a waiting job has ended, and its result or its answer is missing.
func (s *session) endedBefore(j *job) bool {
	return !j.answered && s.known && s.record.Ended[j.seq] != ""
}

// errTooLate says that a job cannot end early any more: it has started, or has its outcome.
var errTooLate = errors.New("the job has started or ended")

// endEarly makes the end of a waiting job durable, creates its result and answers (architecture, rule 5). The message is
// acknowledged at its turn, so that early ends stay as bounded as the session's queue is.
func (s *session) endEarly(ctx context.Context, j *job, kind jobs.Kind) error {
	if j.answered {
		return nil
	}
	if s.runs(j) { // it came to its turn after it was chosen
		return errTooLate
	}
	if err := s.whole(ctx); err != nil {
		return err
	}
	if j.seq <= s.record.LastSequence {
		return errTooLate
	}
	if have, ended := s.record.Ended[j.seq]; ended {
		kind = have
	} else if err := s.writeEnd(ctx, j.seq, kind); err != nil {
		return err
	}
	t := &task{job: j}
	if _, err := t.parse(ctx, s.p.h); err != nil {
		return err
	}
	if err := s.finish(ctx, t, kind, once); err != nil { // the next duties try again: what runs must not wait for it
		s.resultRefused(err)
		return err
	}
	s.wasAnswered(j)
	s.resultsTaken()
	return nil
}

// resultRefused counts that the result of an early end could not be stored, beside the session's job.
func (s *session) resultRefused(err error) {
	if s.refused == nil {
		s.refused = &refusal{h: s.p.h, g: snag{s: s, step: stepResult}}
	}
	s.refused.failed(err)
}

func (s *session) resultsTaken() {
	if s.refused != nil {
		s.refused.over()
		s.refused = nil
	}
}

func (s *session) wasAnswered(j *job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j.answered = true
}

func (s *session) runs(j *job) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running == j
}

func (s *session) writeEnd(ctx context.Context, seq uint64, kind jobs.Kind) error {
	next := *s.record
	next.Ended = maps.Clone(s.record.Ended)
	if next.Ended == nil {
		next.Ended = map[uint64]jobs.Kind{}
	}
	next.Ended[seq] = kind
	rev, err := s.p.h.records.PutSync(s.ref.RecordKey(), s.lossKept(next).Append(nil), s.recRev, s.ttl(0))
	if err == nil {
		s.record, s.recRev, s.loaded, s.stamp = &next, rev, time.Now(), s.p.h.now()
		return nil
	}
	if !errors.Is(err, stream.ErrWrongRevision) && !errors.Is(err, stream.ErrUnknown) {
		return fmt.Errorf("early end: %w", err)
	}
	e, err := s.p.h.records.Get(ctx, s.ref.RecordKey())
	if err != nil {
		return err
	}
	cur, err := readRecord(e)
	if err != nil {
		return err
	}
	if err := s.p.mine(ctx); err != nil {
		return err
	}
	if cur != nil && cur.Stream == s.record.Stream && cur.LastSequence == s.record.LastSequence {
		if s.lost {
			cur.State, cur.StateVersion, cur.LM, cur.Generation = nil, 0, nil, s.record.Generation
		}
		s.record, s.recRev, s.loaded, s.stamp = cur, e.Revision, time.Now(), e.Stored
	} else if cur == nil {
		s.recRev = e.Revision
	} else {
		return errVoid // the running job's commit will find out
	}
	if s.record.Ended[seq] != "" {
		return nil
	}
	return fmt.Errorf("early end: %w", stream.ErrWrongRevision)
}

// renew writes record and head again for the sake of their TTL, after making sure that they are still this epoch's.
func (s *session) renew(ctx context.Context) error {
	if err := s.p.mine(ctx); err != nil {
		return err
	}
	if err := s.whole(ctx); err != nil {
		return err
	}
	if s.recRev > 0 {
		rev, err := s.p.h.records.PutSync(s.ref.RecordKey(), s.lossKept(*s.record).Append(nil), s.recRev, s.ttl(0))
		if err != nil {
			return fmt.Errorf("renew record: %w", err)
		}
		s.recRev, s.stamp = rev, s.p.h.now()
	}
	if s.head != nil && s.head.Sequence > s.record.LastSequence {
		rev, err := s.p.h.records.PutSync(s.ref.HeadKey(), s.head.Append(nil), s.headRev, s.ttl(headLife))
		if err != nil {
			return fmt.Errorf("renew head: %w", err)
		}
		s.headRev = rev
	}
	s.loaded = time.Now()
	return nil
}
