package outcomes

import (
	"context"
	"errors"
	"time"

	"github.com/dspex/dspex/internal/dispatch/endpoint"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
	"github.com/dspex/dspex/internal/wire"
)

// stand is where a job stands that has no outcome.
type stand struct {
	outcome  string
	attempts int
	next     time.Time // of a job that waits for its next attempt: when that may begin
}

// standInSession finds it for a session's job from the session's attempt record.
func standInSession(seq uint64, h *jobs.AttemptRecord) stand {
	switch {
	case h.Sequence != seq:
		return stand{outcome: "queued"}
	case !h.NotBefore.IsZero():
		return stand{"retrying", h.Attempt, h.NotBefore}
	}
	return stand{outcome: "running", attempts: h.Attempt}
}

// progress is how far a lane is; none: no host has been there yet.
type progress struct {
	stream.Progress
	none bool
}

// standAnonymous finds it for an anonymous job: a host has it if its lane has come to it, unless it waits for a retry. The broker's
// clock judges, which is also that of who wrote when the wait is over.
func standAnonymous(seq uint64, failed *jobs.AttemptRecord, lane progress) stand {
	switch {
	case lane.none, lane.Delivered < seq:
		return stand{outcome: "queued"}
	case !failed.NotBefore.After(lane.At):
		return stand{outcome: "running", attempts: failed.Attempt + 1}
	case failed.Attempt == 0: // a circuit breaker keeps it out
		return stand{outcome: "queued"}
	}
	return stand{"retrying", failed.Attempt, failed.NotBefore}
}

// Get answers where a job stands, or waits for its outcome.
func (l *Lookup) Get(ctx context.Context, r endpoint.Request) {
	a, bad := parseQuery(r)
	if bad != nil {
		endpoint.Refuse(r, bad)
		return
	}
	if a.wait > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, a.wait)
		defer cancel()
	}
	body, _, e := l.find(ctx, a)
	if e != nil {
		endpoint.Refuse(r, e)
		return
	}
	endpoint.Respond(r, body)
}

// find waits for a job's outcome as long as it is to; without one (ended is false) the answer is where the job stands.
func (l *Lookup) find(ctx context.Context, a query) (body []byte, ended bool, bad *jobs.Error) {
	key := a.session.ResultKey(a.job)
	var written <-chan struct{}
	if a.wait > 0 { // listen first, then look: an outcome in between is not missed
		c, stop, err := l.broker.Notify(l.broker.Results.Subject(key))
		if err != nil {
			return nil, false, jobs.Errorf(jobs.Connection, jobs.CodeBroker, "cannot wait: %v", err).Again()
		}
		defer stop()
		written = c
	}
	for pause := pollSoon; ; {
		look := context.WithoutCancel(ctx)
		body, ended, bad := l.outcome(look, a)
		if ended || bad != nil {
			return body, ended, bad
		}
		at, bad := l.locate(look, a)
		if bad != nil && bad.Code == jobs.CodeJobUnknown { // it may have ended all the same
			if body, ended, e := l.outcomeAfter(look, a); ended || e != nil {
				return body, ended, e
			}
		}
		if bad != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) && a.wait > 0 && bad.Code == jobs.CodeJobUnknown {
			bad = nil // it may be on its way; the deadline decides
		}
		if bad != nil {
			return nil, false, bad
		}
		if a.wait == 0 || ctx.Err() != nil {
			if at.sequence == 0 {
				return nil, false, unknownJob()
			}
			now, bad := l.stageOf(look, a, at)
			return l.standing(a, now, at.trace), false, bad
		}
		select {
		case <-ctx.Done():
		case <-written:
			pause = pollFast
		case <-time.After(pause):
			pause = min(4*pause, pollSlow)
		}
	}
}

// place is where the message of a job lies that has no outcome yet.
type place struct {
	subject  string
	sequence uint64 // 0: nowhere
	trace    string // id of the trace that its client named, "" if it named none
}

// locate finds a job that has no outcome yet by its message.
func (l *Lookup) locate(ctx context.Context, a query) (place, *jobs.Error) {
	name := stream.Anonymous
	if a.session.ID != "" {
		name = stream.Jobs
	}
	found := place{}
	for _, subject := range a.session.QueueSubjects() {
		m, err := l.messageOf(ctx, name, a, subject)
		if err == nil && (found.sequence == 0 || m.Sequence < found.sequence) {
			found = place{subject, m.Sequence, jobs.TraceID(m.Header.Get(jobs.HeaderTraceparent))}
		}
		if err != nil && !errors.Is(err, stream.ErrNotFound) {
			return place{}, notLookedUp(err)
		}
	}
	if found.sequence == 0 {
		return place{}, unknownJob()
	}
	return found, nil
}

// standing is the answer of jobs.get about a job that has none.
func (l *Lookup) standing(a query, now stand, trace string) []byte {
	if now.next.IsZero() {
		return answer(a, now.outcome, now.attempts, trace, extra{})
	}
	left := max(now.next.Sub(l.broker.Clock.Now()), 0)
	return answer(a, now.outcome, now.attempts, trace, extra{"retry_in_ms", wire.AppendInt(nil, left.Milliseconds())})
}

// stageOf reports where a job stands that lies there.
func (l *Lookup) stageOf(ctx context.Context, a query, at place) (stand, *jobs.Error) {
	if a.session.ID == "" {
		return l.stageAnonymous(ctx, a, at.sequence, jobs.SourceOf(at.subject).Lane)
	}
	return l.stageInSession(ctx, a.session, at.sequence)
}

// Stage reports where a session's job stands that has no outcome.
func (l *Lookup) Stage(ctx context.Context, session jobs.SessionRef, seq uint64) (outcome string, attempts int, bad *jobs.Error) {
	s, bad := l.stageInSession(ctx, session, seq)
	return s.outcome, s.attempts, bad
}

func (l *Lookup) stageInSession(ctx context.Context, session jobs.SessionRef, seq uint64) (stand, *jobs.Error) {
	e, err := l.broker.Records.Get(ctx, session.AttemptRecordKey())
	if err != nil {
		return stand{}, notLookedUp(err)
	}
	if e.Exists {
		if h, err := jobs.ParseAttemptRecord(e.Value); err == nil {
			return standInSession(seq, h), nil
		}
	}
	return stand{outcome: "queued"}, nil
}

// stageAnonymous reports where an anonymous job stands that has no outcome.
func (l *Lookup) stageAnonymous(ctx context.Context, a query, seq uint64, lane string) (stand, *jobs.Error) {
	failed, err := l.attemptsOf(ctx, a, seq)
	if err != nil {
		return stand{}, notLookedUp(err)
	}
	now, none, err := l.broker.Progress(ctx, lane)
	if err != nil && !none {
		return stand{}, notLookedUp(err)
	}
	return standAnonymous(seq, failed, progress{now, none}), nil
}

func notLookedUp(err error) *jobs.Error {
	return jobs.Errorf(jobs.Connection, jobs.CodeBroker, "the job cannot be looked up: %v", err).Again()
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
