// Package sessions serves the endpoints that show sessions: one, a list, a document to import again.
package sessions

import (
	"context"
	"errors"
	"time"

	"github.com/dspex/dspex/internal/dispatch/endpoint"
	"github.com/dspex/dspex/internal/dispatch/fleet"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
	"github.com/dspex/dspex/internal/wire"
)

// Sessions serves the requests about sessions that change nothing.
type Sessions struct {
	broker *stream.Access
	hosts  *fleet.Fleet
	plan   Owners
	stages Stages
}

// Owners is who has which partition.
type Owners interface {
	Partition(session string) int
	OwnerOf(ctx context.Context, session string) (host string, epoch uint64, err error)
	Owners(ctx context.Context) (map[int]string, error)
}

// Stages reports where the job of a session stands whose message has the sequence.
type Stages interface {
	Stage(ctx context.Context, session jobs.SessionRef, sequence uint64) (outcome string, attempts int, bad *jobs.Error)
}

// New serves the sessions of a broker.
func New(broker *stream.Access, hosts *fleet.Fleet, of Owners, stages Stages) *Sessions {
	return &Sessions{broker, hosts, of, stages}
}

// isEmpty reports whether a record is only there for the order of its session's jobs: after a cleanup.
func isEmpty(r *jobs.Record) bool { return r.StateVersion == 0 && r.Jobs == 0 }

// brief is a session's row in a list.
func brief(id string, r *jobs.Record, host string, partition int, idle, unused time.Duration) map[string]any {
	b := map[string]any{
		"session_id": id, "worker_id": endpoint.OrNil(r.Worker), "host": endpoint.OrNil(host), "partition": partition, "generation": r.Generation,
		"created_at": endpoint.TimeText(r.Created), "last_activity": endpoint.TimeText(r.Updated), "idle_ms": unused.Milliseconds(), "expired": unused > idle,
		"operations": r.Jobs, "programs_count": nil, "state_version": r.StateVersion, "state_bytes": len(r.State),
	}
	if c, err := jobs.ReadState(r.State); err == nil {
		b["programs_count"] = len(c.Programs)
	}
	return b
}

// readSession reads a session's record from the leader; nil if nothing of it is known.
func (s *Sessions) readSession(ctx context.Context, of jobs.SessionRef) (*jobs.Record, *jobs.Error) {
	e, err := s.broker.Records.Get(ctx, of.RecordKey())
	if err != nil {
		return nil, endpoint.Unreadable(err)
	}
	if !e.Exists {
		return nil, nil
	}
	rec, err := jobs.ParseRecord(e.Value)
	switch {
	case errors.Is(err, jobs.ErrNewer):
		return nil, jobs.Errorf(jobs.Session, jobs.CodeRecordNewer, "the session's record cannot be read: %v", err).
			WithHint("send the request to a dispatcher of the newer release")
	case err != nil:
		return nil, jobs.Errorf(jobs.Session, jobs.CodeRecordUnreadable, "the session's record cannot be read: %v", err)
	case isEmpty(rec):
		return nil, nil
	}
	return rec, nil
}

func unknownSession() *jobs.Error {
	return jobs.Errorf(jobs.Session, jobs.CodeSessionUnknown, "unknown session").
		WithHint("it was never used, has been cleaned up, or was idle for too long; `dspex sessions list` shows the existing ones")
}

// Get returns everything about one session.
func (s *Sessions) Get(ctx context.Context, r endpoint.Request) {
	var id string
	bad := endpoint.ReadBody(r, `{"session": "..."}`, map[string]*endpoint.Entry{"session": endpoint.SessionID(&id)})
	if bad == nil {
		var result map[string]any
		if result, bad = s.describe(ctx, endpoint.SessionOf(r, id)); bad == nil {
			endpoint.RespondResult(r, result)
			return
		}
	}
	endpoint.Refuse(r, bad)
}

func (s *Sessions) describe(ctx context.Context, of jobs.SessionRef) (map[string]any, *jobs.Error) {
	partition := s.plan.Partition(of.ID)
	owner, epoch, err := s.plan.OwnerOf(ctx, of.ID)
	if err != nil {
		return nil, endpoint.Unreadable(err)
	}
	rec, bad := s.readSession(ctx, of)
	if bad != nil {
		return nil, bad
	}
	queue, err := s.queue(ctx, of)
	if err != nil {
		return nil, endpoint.Unreadable(err)
	}
	if rec == nil {
		if queue.waiting == 0 && queue.running == nil {
			return nil, unknownSession()
		}
		rec = &jobs.Record{Created: queue.oldest, Updated: queue.oldest}
	}
	result := brief(of.ID, rec, owner, partition, s.hosts.SessionIdle(), s.broker.Clock.Age(rec.Updated))
	result["epoch"], result["last_sequence"], result["age_ms"] = epoch, rec.LastSequence, s.broker.Clock.Age(rec.Created).Milliseconds()
	result["waiting_jobs"], result["running"], result["oldest_waiting_ms"] = queue.waiting, queue.running, nil
	if queue.waiting > 0 {
		result["oldest_waiting_ms"] = s.broker.Clock.Age(queue.oldest).Milliseconds()
	}
	addContents(result, rec)
	return result, nil
}

// addContents reports what the session's state holds; all is null if it cannot be read here.
func addContents(result map[string]any, rec *jobs.Record) {
	result["programs"], result["turns"], result["data_keys"], result["lm"] = nil, nil, nil, nil
	c, err := jobs.ReadState(rec.State)
	if err != nil {
		return
	}
	programs := []map[string]any{}
	for _, p := range c.Programs {
		programs = append(programs, map[string]any{
			"id": p.ID, "program_type": p.Type, "execution_count": p.Executions, "created_at": p.Created, "last_executed": endpoint.OrNil(p.LastExecuted),
		})
	}
	result["programs"], result["turns"], result["data_keys"] = programs, c.Turns, c.Data
	if c.LM != nil {
		result["lm"] = wire.Raw(c.LM)
	}
}

// queue is what waits and runs of a session.
type queue struct {
	waiting int
	oldest  time.Time // of what waits
	running map[string]any
}

func (s *Sessions) queue(ctx context.Context, of jobs.SessionRef) (q queue, err error) {
	next := func(from uint64) (first stream.Stored, err error) {
		for _, subject := range of.QueueSubjects() {
			m, err := s.broker.Reads.Next(ctx, s.broker.NC, stream.Jobs, subject, from)
			switch {
			case errors.Is(err, stream.ErrNotFound):
			case err != nil:
				return stream.Stored{}, err
			case first.Sequence == 0 || m.Sequence < first.Sequence:
				first = m
			}
		}
		return first, nil
	}
	for _, subject := range of.QueueSubjects() {
		waiting, err := s.broker.Messages(ctx, stream.Jobs, subject)
		if err != nil {
			return q, err
		}
		for _, n := range waiting {
			q.waiting += int(n)
		}
	}
	if q.waiting == 0 {
		return q, nil
	}
	first, err := next(1)
	if err != nil || first.Sequence == 0 { // the last one has just ended
		return queue{}, err
	}
	q.oldest = first.Time
	outcome, attempt, bad := s.stages.Stage(ctx, of, first.Sequence)
	if bad != nil {
		return q, errors.New(bad.Message)
	}
	if outcome == "queued" {
		return q, nil
	}
	_, env, _ := jobs.ParseStored(first.Subject, first.Header, first.Sequence, s.broker.Accounts())
	q.running = map[string]any{"job": env.Job, "sequence": first.Sequence, "attempt": attempt, "outcome": outcome}
	if q.waiting--; q.waiting > 0 {
		second, err := next(first.Sequence + 1)
		if err != nil {
			return q, err
		}
		q.oldest = second.Time
	}
	return q, nil
}
