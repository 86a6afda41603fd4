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

// stageOf tells where a job stands that lies there.
func (l *Lookup) stageOf(ctx context.Context, a query, at place) (outcome string, attempts int, bad *jobs.Error) {
	if a.session.ID == "" {
		return l.stageAnonymous(ctx, a, at.sequence, jobs.SourceOf(at.subject).Lane)
	}
	return l.Stage(ctx, a.session, at.sequence)
}

// Stage tells where a session's job stands that has no outcome.
func (l *Lookup) Stage(ctx context.Context, session jobs.SessionRef, seq uint64) (string, int, *jobs.Error) {
	e, err := l.broker.Records.Get(ctx, session.AttemptRecordKey())
	if err != nil {
		return "", 0, jobs.Errorf(jobs.Connection, jobs.CodeBroker, "the job cannot be looked up: %v", err).Again()
	}
	if e.Exists {
		if h, err := jobs.ParseAttemptRecord(e.Value); err == nil && h.Sequence == seq {
			if !h.NotBefore.IsZero() {
				return "retrying", h.Attempt, nil
			}
			return "running", h.Attempt, nil
		}
	}
	return "queued", 0, nil
}

// stageAnonymous tells where an anonymous job stands that has no outcome: a host has it if its lane has come to it, unless it
// waits for a retry. The broker's clock judges, which is also that of who wrote when the wait is over.
func (l *Lookup) stageAnonymous(ctx context.Context, a query, seq uint64, lane string) (string, int, *jobs.Error) {
	lost := func(err error) (string, int, *jobs.Error) {
		return "", 0, jobs.Errorf(jobs.Connection, jobs.CodeBroker, "the job cannot be looked up: %v", err).Again()
	}
	failed, err := l.attemptsOf(ctx, a, seq)
	if err != nil {
		return lost(err)
	}
	now, none, err := l.broker.Progress(ctx, lane)
	if none { // no host has been here yet
		return "queued", 0, nil
	}
	if err != nil {
		return lost(err)
	}
	switch {
	case now.Delivered < seq:
		return "queued", 0, nil
	case !failed.NotBefore.After(now.At):
		return "running", failed.Attempt + 1, nil
	case failed.Attempt == 0: // a circuit breaker keeps it out
		return "queued", 0, nil
	}
	return "retrying", failed.Attempt, nil
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
