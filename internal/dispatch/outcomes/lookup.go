// Package outcomes reports where jobs stand, waits for their outcomes, and ends those that no host has: cancelled ones, and anonymous
// ones whose time is over.
package outcomes

import (
	"context"
	"log/slog"
	"time"

	"github.com/dspex/dspex/internal/dispatch/endpoint"
	"github.com/dspex/dspex/internal/dispatch/fleet"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
	"github.com/dspex/dspex/internal/wire"
)

// Lookup finds jobs and their outcomes, and cancels them.
type Lookup struct {
	broker *stream.Access
	hosts  *fleet.Fleet
	ender  *ender
	plan   Owners
}

// Owners is who has a session's partition.
type Owners interface {
	OwnerOf(ctx context.Context, session string) (host string, epoch uint64, err error)
}

// New looks jobs up at a broker.
func New(broker *stream.Access, hosts *fleet.Fleet, of Owners, log *slog.Logger) *Lookup {
	return &Lookup{broker: broker, hosts: hosts, ender: &ender{broker, log}, plan: of}
}

type query struct {
	session jobs.SessionRef // without an id: an anonymous job
	job     string
	wait    time.Duration
}

// parseQuery reads {"session", "job", "wait_ms"}.
func parseQuery(r endpoint.Request) (a query, bad *jobs.Error) {
	in, n, bad := endpoint.OpenBody(r, `{"session": "...", "job": "...", "wait_ms": 0}`)
	if bad != nil {
		return a, bad
	}
	a.session = endpoint.SessionOf(r, "")
	for range n {
		key, _ := in.Str()
		switch kind := in.Kind(); {
		case key == "session" && kind == wire.Str:
			a.session.ID, _ = in.Str()
		case key == "session" && in.Nil():
		case key == "job" && kind == wire.Str:
			a.job, _ = in.Str()
		case key == "wait_ms" && kind == wire.Int:
			ms, err := in.Int()
			if err != nil || ms < 0 || ms > maxWait.Milliseconds() {
				return a, jobs.Refused(jobs.CodeBadRequest, key, waitShape, "wait_ms is out of range")
			}
			a.wait = time.Duration(ms) * time.Millisecond
		default:
			return a, endpoint.WrongEntry(key, map[string]string{"session": endpoint.SessionShape, "job": jobShape, "wait_ms": waitShape})
		}
	}
	switch _, sequence := jobs.JobSequence(a.job); {
	case !jobs.ValidJob(a.job) && !sequence && !validReplay(a.job):
		return a, jobs.Refused(jobs.CodeBadRequest, "job", jobShape, "the job id is missing or not allowed")
	case a.session.ID != "" && !jobs.ValidSession(a.session.ID):
		return a, jobs.Refused(jobs.CodeBadRequest, "session", endpoint.SessionShape, "the session id is not allowed")
	}
	return a, nil
}

const (
	waitShape = "milliseconds, 0 to 600000"
	jobShape  = "a job id: 1 to 64 of A-Z a-z 0-9 _ -"
)

// How often an outcome that is waited for is looked at. A subscriber gets a write a moment before it can be read; one
// that subscribed between the two gets nothing.
const (
	pollFast = 2 * time.Millisecond  // after the write was seen
	pollSoon = 20 * time.Millisecond // at first
	pollSlow = 5 * time.Second       // in the end, a backstop for a message lost on the way
)

func unknownJob() *jobs.Error {
	return jobs.Errorf(jobs.Session, jobs.CodeJobUnknown, "unknown job").
		WithHint("outcomes are kept for 15 minutes after a call and 24 hours after a queued job; ids belong to their session")
}

// messageOf finds the earliest outstanding message of a job id: at most a session's queue is walked.
func (l *Lookup) messageOf(ctx context.Context, name string, a query, subject string) (stream.Stored, error) {
	if seq, ok := jobs.JobSequence(a.job); ok {
		m, err := l.broker.Reads.Sequence(ctx, l.broker.NC, name, seq)
		if err == nil && jobs.SourceOf(m.Subject).Session != a.session {
			err = stream.ErrNotFound
		}
		return m, err
	}
	const most = 4096
	next := uint64(1)
	for range most {
		m, err := l.broker.Reads.Next(ctx, l.broker.NC, name, subject, next)
		if err != nil {
			return m, err
		}
		if m.Header.Get(jobs.HeaderJob) == a.job {
			return m, nil
		}
		next = m.Sequence + 1
	}
	return stream.Stored{}, stream.ErrNotFound
}

const maxWait = 10 * time.Minute

// validReplay accepts the ids of replays: a token that only the product may make.
func validReplay(id string) bool { return jobs.ValidSession(id) }

// found is the answer of jobs.get about a job that has an outcome.
func found(a query, outcome string, attempts int, reply []byte, trace string) []byte {
	return answer(a, outcome, attempts, trace, extra{"reply", reply})
}

// extra is a key and its value in MessagePack, nil if there is none.
type extra struct {
	key   string
	value []byte
}

func answer(a query, outcome string, attempts int, trace string, more extra) []byte {
	fields := 3
	for _, there := range []bool{a.session.ID != "", more.value != nil, trace != ""} {
		if there {
			fields++
		}
	}
	b := wire.AppendMap(nil, 2)
	b = wire.AppendBool(wire.AppendStr(b, "ok"), true)
	b = wire.AppendMap(wire.AppendStr(b, "result"), fields)
	b = wire.AppendInt(wire.AppendStr(b, "attempts"), int64(attempts))
	b = wire.AppendStr(wire.AppendStr(b, "job"), a.job)
	b = wire.AppendStr(wire.AppendStr(b, "outcome"), outcome)
	if more.value != nil {
		b = append(wire.AppendStr(b, more.key), more.value...)
	}
	if a.session.ID != "" {
		b = wire.AppendStr(wire.AppendStr(b, "session"), a.session.ID)
	}
	if trace != "" {
		b = wire.AppendStr(wire.AppendStr(b, "trace_id"), trace)
	}
	return b
}

// outcome returns the answer for a job that has ended.
func (l *Lookup) outcome(ctx context.Context, a query) (body []byte, ended bool, bad *jobs.Error) {
	e, err := l.broker.Results.Get(ctx, a.session.ResultKey(a.job))
	if err != nil {
		return nil, false, jobs.Errorf(jobs.Connection, jobs.CodeBroker, "the outcome cannot be read: %v", err).Again()
	}
	if !e.Exists {
		return nil, false, nil
	}
	r, err := jobs.ReadResult(a.session, a.job, e.Value)
	if err != nil {
		return nil, false, jobs.Errorf(jobs.Session, jobs.CodeRecordUnreadable, "the outcome cannot be read: %v", err)
	}
	return found(a, string(r.Kind), r.Attempt, r.Body, r.Trace), true, nil
}

// outcomeAfter returns the answer for a job that has no message, nor had an outcome before: it may have ended between the two looks, or
// have its outcome in its session's record alone.
func (l *Lookup) outcomeAfter(ctx context.Context, a query) (body []byte, ended bool, bad *jobs.Error) {
	if body, ended, bad := l.outcome(ctx, a); ended || bad != nil {
		return body, ended, bad
	}
	o, err := l.Decided(ctx, a.session, a.job)
	if err != nil {
		return nil, false, jobs.Errorf(jobs.Connection, jobs.CodeBroker, "the outcome cannot be read: %v", err).Again()
	}
	if o == nil {
		return nil, false, nil
	}
	return found(a, string(o.Kind), o.Attempt, o.Body, o.Trace), true, nil
}

// Decided is the outcome of a job as its session's record has it, nil if it has none. It has the last one alone: that is needed when a
// stream was lost before the result was stored, or the results were.
func (l *Lookup) Decided(ctx context.Context, of jobs.SessionRef, job string) (*jobs.Outcome, error) {
	if of.ID == "" {
		return nil, nil
	}
	e, err := l.broker.Records.Get(ctx, of.RecordKey())
	if err != nil || !e.Exists {
		return nil, err
	}
	rec, err := jobs.ParseRecord(e.Value)
	if err != nil || rec.Last == nil || rec.Last.Job != job || rec.Outlived(l.broker.Clock.Now()) {
		return nil, nil //nolint:nilerr // what cannot be read has no outcome
	}
	return rec.Last, nil
}
