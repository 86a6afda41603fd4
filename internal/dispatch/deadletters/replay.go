package deadletters

import (
	"context"
	"errors"
	"strconv"

	"github.com/dspex/dspex/internal/dispatch/endpoint"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// Replay makes new jobs of dead letters. Two requests make one job of each; the dead letters stay.
func (l *Service) Replay(ctx context.Context, r endpoint.Request) {
	a := &query{}
	if bad := a.choose(r); bad != nil {
		endpoint.Refuse(r, bad)
		return
	}
	if a.sequence > 0 {
		made, bad := l.replay(ctx, a.tenant, uint64(a.sequence))
		if bad != nil {
			endpoint.Refuse(r, bad)
			return
		}
		endpoint.RespondResult(r, map[string]any{"replayed": []any{made}})
		return
	}
	made := []any{}
	cursor, err := l.scan(ctx, a, func(b *deadLetter) error {
		one, bad := l.replay(ctx, a.tenant, b.sequence)
		if bad != nil { // a full queue, a dead letter purged meanwhile: the others continue
			one = map[string]any{"sequence": b.sequence, "session": endpoint.OrNil(b.Session.ID),
				"error": map[string]any{"error_category": string(bad.Category), "code": bad.Code, "message": bad.Message, "retryable": bad.Retryable}}
		}
		made = append(made, one)
		return nil
	})
	if err != nil {
		endpoint.Refuse(r, endpoint.Unreadable(err))
		return
	}
	endpoint.RespondResult(r, endpoint.Paged(map[string]any{"replayed": made}, cursor))
}

// replay publishes the job of one dead letter to the end of its session's queue, or to its lane, unless that was done before.
func (l *Service) replay(ctx context.Context, tenant string, sequence uint64) (map[string]any, *jobs.Error) {
	b, body, bad := l.letter(ctx, tenant, sequence)
	switch {
	case bad != nil:
		return nil, bad
	case b.Invalid:
		return nil, jobs.Errorf(jobs.Session, jobs.CodeBadSession, "the dead letter cannot be replayed: the session id of its job is invalid")
	}
	made := map[string]any{"sequence": sequence, "session": endpoint.OrNil(b.Session.ID), "job": jobs.ReplayJob(b.Job, sequence), "again": true}
	if b.replay != "" {
		return made, nil
	}
	job := made["job"].(string)
	e, err := l.broker.Results.Get(ctx, b.Session.ResultKey(job))
	if err != nil {
		return nil, endpoint.Unreadable(err)
	}
	if !e.Exists {
		if err := l.broker.Store(b.Session.CallSubject(b.Lane), replayHeader(b, job), body); err != nil {
			return nil, endpoint.NotAccepted(err)
		}
	}
	first, err := l.markReplayed(sequence, job)
	made["again"] = e.Exists || !first // published twice, it is run once: the id is one
	if err != nil {
		return nil, jobs.Errorf(jobs.Connection, jobs.CodeBroker, "the job was replayed as %s, but the dead letter could not be marked: %v", job, err).
			WithHint("a repeat makes no second job").Again()
	}
	return made, nil
}

// replayHeader is that of a dead letter's new job. Nobody waits for the reply of a call any more, and the bound of that wait is over.
func replayHeader(b *deadLetter, job string) map[string][]string {
	h := map[string][]string{
		jobs.HeaderJob: {job}, jobs.HeaderReplay: {strconv.FormatUint(b.sequence, 10)}, jobs.HeaderContentType: {b.Type},
		jobs.HeaderMode: {string(jobs.ModeQueue)},
	}
	if b.Mode == jobs.ModeQueue && b.Deadline > 0 {
		h[jobs.HeaderDeadline] = []string{strconv.FormatInt(b.Deadline.Milliseconds(), 10)}
	}
	return h
}

// markReplayed notes the replay beside the dead letter; a note that is there stays. It reports whether this one is the first.
func (l *Service) markReplayed(sequence uint64, job string) (first bool, err error) {
	err = l.broker.StoreFirst(replayedSubject(sequence), map[string][]string{jobs.HeaderJob: {job}}, nil)
	if errors.Is(err, stream.ErrWrongRevision) {
		return false, nil
	}
	return err == nil, err
}

// Purge removes dead letters.
func (l *Service) Purge(ctx context.Context, r endpoint.Request) {
	a := &query{}
	if bad := a.choose(r); bad != nil {
		endpoint.Refuse(r, bad)
		return
	}
	if a.sequence > 0 {
		b, _, bad := l.letter(ctx, a.tenant, uint64(a.sequence))
		if bad == nil {
			if err := l.purge(ctx, b); err != nil {
				bad = endpoint.Unreadable(err)
			}
		}
		if bad != nil {
			endpoint.Refuse(r, bad)
			return
		}
		endpoint.RespondResult(r, map[string]any{"purged": 1})
		return
	}
	count := 0
	cursor, err := l.scan(ctx, a, func(b *deadLetter) error { count++; return l.purge(ctx, b) })
	if err != nil {
		endpoint.Refuse(r, endpoint.Unreadable(err))
		return
	}
	endpoint.RespondResult(r, endpoint.Paged(map[string]any{"purged": count}, cursor))
}

// purge removes a dead letter, then the note about it.
func (l *Service) purge(ctx context.Context, b *deadLetter) error {
	if err := l.broker.DeleteMessage(ctx, stream.Dead, b.sequence); err != nil {
		return err
	}
	if b.replay == "" {
		return nil
	}
	return l.broker.PurgeSubject(ctx, stream.Dead, replayedSubject(b.sequence), 0)
}
