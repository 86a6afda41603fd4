package outcomes

import (
	"context"
	"errors"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// place is where the message of a job lies that has no outcome yet.
type place struct {
	subject  string
	sequence uint64 // 0: nowhere
}

// locate finds a job that has no outcome yet by its message.
func (l *Lookup) locate(ctx context.Context, a query) (place, *jobs.Error) {
	name := stream.Anonymous
	if a.session.ID != "" {
		name = stream.Jobs
	}
	found := place{}
	for _, subject := range a.session.QueueSubjects() {
		seq, err := l.sequenceOf(ctx, name, a, subject)
		if err == nil && (found.sequence == 0 || seq < found.sequence) {
			found = place{subject, seq}
		}
		if err != nil && !errors.Is(err, stream.ErrNotFound) {
			return place{}, jobs.Errorf(jobs.Connection, jobs.CodeBroker, "the job cannot be looked up: %v", err).Again()
		}
	}
	if found.sequence == 0 {
		return place{}, unknownJob()
	}
	return found, nil
}

// stageOf reports where a job stands that lies there.
func (l *Lookup) stageOf(ctx context.Context, a query, at place) (outcome string, attempts int, bad *jobs.Error) {
	if a.session.ID == "" {
		return l.stageAnonymous(ctx, a, at.sequence, jobs.SourceOf(at.subject).Lane)
	}
	return l.Stage(ctx, a.session, at.sequence)
}

// Stage reports where a session's job stands that has no outcome.
func (l *Lookup) Stage(ctx context.Context, session jobs.SessionRef, seq uint64) (string, int, *jobs.Error) {
	e, err := l.broker.Records.Get(ctx, session.AttemptRecordKey())
	if err != nil {
		return "", 0, jobs.Errorf(jobs.Connection, jobs.CodeBroker, "the job cannot be looked up: %v", err).Again()
	}
	if e.Exists {
		if h, err := jobs.ParseAttemptRecord(e.Value); err == nil {
			s := standInSession(seq, h)
			return s.outcome, s.attempts, nil
		}
	}
	return "queued", 0, nil
}

// stand is where a job stands that has no outcome.
type stand struct {
	outcome  string
	attempts int
}

// standInSession tells it of a session's job from the session's attempt record.
func standInSession(seq uint64, h *jobs.AttemptRecord) stand {
	switch {
	case h.Sequence != seq:
		return stand{"queued", 0}
	case !h.NotBefore.IsZero():
		return stand{"retrying", h.Attempt}
	}
	return stand{"running", h.Attempt}
}

// progress is how far a lane is; none: no host has been there yet.
type progress struct {
	stream.Progress
	none bool
}

// standAnonymous tells it of an anonymous job: a host has it if its lane has come to it, unless it waits for a retry. The broker's
// clock judges, which is also that of who wrote when the wait is over.
func standAnonymous(seq uint64, failed *jobs.AttemptRecord, lane progress) stand {
	switch {
	case lane.none, lane.Delivered < seq:
		return stand{"queued", 0}
	case !failed.NotBefore.After(lane.At):
		return stand{"running", failed.Attempt + 1}
	case failed.Attempt == 0: // a circuit breaker keeps it out
		return stand{"queued", 0}
	}
	return stand{"retrying", failed.Attempt}
}

// stageAnonymous reports where an anonymous job stands that has no outcome.
func (l *Lookup) stageAnonymous(ctx context.Context, a query, seq uint64, lane string) (string, int, *jobs.Error) {
	lost := func(err error) (string, int, *jobs.Error) {
		return "", 0, jobs.Errorf(jobs.Connection, jobs.CodeBroker, "the job cannot be looked up: %v", err).Again()
	}
	failed, err := l.attemptsOf(ctx, a, seq)
	if err != nil {
		return lost(err)
	}
	now, none, err := l.broker.Progress(ctx, lane)
	if err != nil && !none {
		return lost(err)
	}
	s := standAnonymous(seq, failed, progress{now, none})
	return s.outcome, s.attempts, nil
}

// attemptsOf reads what is written down of an anonymous job's failed attempts, an empty one if nothing is.
func (l *Lookup) attemptsOf(ctx context.Context, a query, seq uint64) (*jobs.AttemptRecord, error) {
	e, err := l.broker.Results.Get(ctx, a.session.AttemptKey(a.job))
	if err != nil || !e.Exists {
		return &jobs.AttemptRecord{}, err
	}
	if h, err := jobs.ParseAttemptRecord(e.Value); err == nil && h.Sequence == seq {
		return h, nil
	}
	return &jobs.AttemptRecord{}, nil // of an earlier job of the id, or not to be read here
}
