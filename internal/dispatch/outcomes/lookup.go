// Package outcomes reports where jobs stand, waits for their outcomes, and ends those that no host has: cancelled ones, and anonymous
// ones whose time is over.
package outcomes

import (
	"context"
	"errors"
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

const maxWait = 10 * time.Minute

type query struct {
	session jobs.SessionRef // without an id: an anonymous job
	job     string
	wait    time.Duration
}

// parseAsk reads {"session", "job", "wait_ms"}.
func parseAsk(r endpoint.Request) (a query, bad *jobs.Error) {
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

// validReplay accepts the ids of replays: a token that only the product may make.
func validReplay(id string) bool { return jobs.ValidSession(id) }

// Get answers where a job stands, or waits for its outcome.
func (l *Lookup) Get(ctx context.Context, r endpoint.Request) {
	a, bad := parseAsk(r)
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
		if bad != nil && bad.Code == jobs.CodeJobUnknown { // it may have ended between the two looks
			if body, ended, e := l.outcome(look, a); ended || e != nil {
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
			outcome, attempts, bad := l.stageOf(look, a, at)
			return found(a, outcome, attempts, nil), false, bad
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

// How often an outcome that is waited for is looked at. A subscriber gets a write a moment before it can be read; one
// that subscribed between the two gets nothing.
const (
	pollFast = 2 * time.Millisecond  // after the write was seen
	pollSoon = 20 * time.Millisecond // at first
	pollSlow = 5 * time.Second       // in the end, a backstop for a message lost on the way
)

// found is the answer of jobs.get.
func found(a query, outcome string, attempts int, reply []byte) []byte {
	fields := 3
	if a.session.ID != "" {
		fields++
	}
	if reply != nil {
		fields++
	}
	b := wire.AppendMap(nil, 2)
	b = wire.AppendBool(wire.AppendStr(b, "ok"), true)
	b = wire.AppendMap(wire.AppendStr(b, "result"), fields)
	b = wire.AppendInt(wire.AppendStr(b, "attempts"), int64(attempts))
	b = wire.AppendStr(wire.AppendStr(b, "job"), a.job)
	b = wire.AppendStr(wire.AppendStr(b, "outcome"), outcome)
	if reply != nil {
		b = append(wire.AppendStr(b, "reply"), reply...)
	}
	if a.session.ID != "" {
		b = wire.AppendStr(wire.AppendStr(b, "session"), a.session.ID)
	}
	return b
}

func unknownJob() *jobs.Error {
	return jobs.Errorf(jobs.Session, jobs.CodeJobUnknown, "unknown job").
		WithHint("outcomes are kept for 15 minutes after a call and 24 hours after a queued job; ids belong to their session")
}

// sequenceOf finds the earliest outstanding message of a job id: at most a session's queue is walked.
func (l *Lookup) sequenceOf(ctx context.Context, name string, a query, subject string) (uint64, error) {
	if seq, ok := jobs.JobSequence(a.job); ok {
		m, err := l.broker.Reads.Sequence(ctx, l.broker.NC, name, seq)
		if err == nil && jobs.SourceOf(m.Subject).Session != a.session {
			err = stream.ErrNotFound
		}
		return seq, err
	}
	const most = 4096
	next := uint64(1)
	for range most {
		m, err := l.broker.Reads.Next(ctx, l.broker.NC, name, subject, next)
		if err != nil {
			return 0, err
		}
		if m.Header.Get(jobs.HeaderJob) == a.job {
			return m.Sequence, nil
		}
		next = m.Sequence + 1
	}
	return 0, stream.ErrNotFound
}
