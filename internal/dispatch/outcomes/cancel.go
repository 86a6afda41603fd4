package outcomes

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/dspex/dspex/internal/dispatch/endpoint"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// Bounds of a cancellation.
const (
	cancelAnswer = 5 * time.Second        // of one host
	cancelTotal  = 15 * time.Second       // until the job has its outcome
	cancelPause  = 100 * time.Millisecond // between tries while the job is on its way to its host
)

// Cancel ends a job early. The owner of its session decides; the answer is that of jobs.get, with the job's outcome. A job
// that has ended before keeps its outcome.
func (l *Lookup) Cancel(ctx context.Context, r endpoint.Request) {
	a, bad := parseQuery(r)
	if bad == nil && a.wait != 0 {
		bad = jobs.Errorf(jobs.Python, jobs.CodeBadRequest, "wait_ms is not allowed in a cancellation")
		bad.Path, bad.Expected = "wait_ms", `{"session": "...", "job": "..."}`
	}
	if bad != nil {
		endpoint.Refuse(r, bad)
		return
	}
	body, bad := l.end(ctx, a)
	if bad != nil {
		endpoint.Refuse(r, bad)
		return
	}
	endpoint.Respond(r, body)
}

// End ends a job early. When it returns no error the job has its outcome.
func (l *Lookup) End(ctx context.Context, of jobs.SessionRef, job string) *jobs.Error {
	_, bad := l.end(ctx, query{session: of, job: job})
	return bad
}

// end ends a job early, and returns the answer of jobs.get once it has its outcome.
func (l *Lookup) end(ctx context.Context, a query) ([]byte, *jobs.Error) {
	ctx, cancel := context.WithTimeout(ctx, cancelTotal)
	defer cancel()
	for {
		body, over, bad := l.tryCancel(ctx, a)
		if bad != nil || over {
			return body, bad
		}
		select {
		case <-ctx.Done():
			return nil, jobs.Errorf(jobs.Resource, jobs.CodePoolUnavailable, "the job could not be cancelled within %v: no host holds it, or its host cannot end it yet", cancelTotal).
				WithHint("its host is being replaced, or works on an earlier job of the session that it began before it lost its broker: retry, or cancel that job first").Again()
		case <-time.After(cancelPause):
		}
	}
}

// tryCancel queries the job's owner once. over: body is the answer, with the job's outcome.
func (l *Lookup) tryCancel(ctx context.Context, a query) (body []byte, over bool, bad *jobs.Error) {
	if body, ended, bad := l.outcome(ctx, a); bad != nil || ended {
		return body, ended, bad
	}
	if _, bad := l.locate(ctx, a); bad != nil {
		if bad.Code == jobs.CodeJobUnknown { // it may have ended all the same
			if body, ended, e := l.outcomeAfter(ctx, a); e != nil || ended {
				return body, ended, e
			}
		}
		return nil, false, bad
	}
	hosts, err := l.holders(ctx, a)
	if err != nil {
		return nil, false, jobs.Errorf(jobs.Connection, jobs.CodeBroker, "the job's host cannot be looked up: %v", err).Again()
	}
	for _, name := range hosts {
		switch l.requestCancel(ctx, name, a) {
		case jobs.CancelUnderway:
			a.wait = cancelAnswer
			waiting, cancel := context.WithTimeout(ctx, a.wait)
			defer cancel()
			return l.find(waiting, a)
		case jobs.CancelUnknown:
		case jobs.CancelBusy:
			return nil, false, nil
		}
	}
	if a.session.ID == "" {
		return nil, false, l.cancelQueued(ctx, a)
	}
	return nil, false, nil
}

// holders are the hosts that may hold the job: the owner of its session's partition, or any for an anonymous job.
func (l *Lookup) holders(ctx context.Context, a query) ([]string, error) {
	if a.session.ID != "" {
		host, _, err := l.plan.OwnerOf(ctx, a.session.ID)
		if err != nil || host == "" {
			return nil, err
		}
		return []string{host}, nil
	}
	var names []string
	for _, b := range l.hosts.Live() {
		names = append(names, b.Host)
	}
	return names, nil
}

func (l *Lookup) requestCancel(ctx context.Context, host string, a query) jobs.CancelVerdict {
	body, err := json.Marshal(jobs.Cancel{Tenant: a.session.Tenant, Session: a.session.ID, Job: a.job})
	if err != nil {
		return jobs.CancelBusy
	}
	ctx, cancel := context.WithTimeout(ctx, cancelAnswer)
	defer cancel()
	verdict, err := l.broker.Request(ctx, jobs.SubjectControl+host+".cancel", body)
	if err != nil {
		return jobs.CancelBusy
	}
	return jobs.CancelVerdict(verdict)
}

// cancelQueued ends an anonymous job that no host runs: its result is created first, so that a host that takes it meanwhile
// finds, or loses to, that result; then its message goes.
func (l *Lookup) cancelQueued(ctx context.Context, a query) *jobs.Error {
	broken := func(err error) *jobs.Error {
		return jobs.Errorf(jobs.Connection, jobs.CodeBroker, "the job could not be cancelled: %v", err).Again()
	}
	for _, subject := range a.session.QueueSubjects() {
		m, err := l.messageOf(ctx, stream.Anonymous, a, subject)
		if errors.Is(err, stream.ErrNotFound) {
			continue
		}
		if err != nil {
			return broken(err)
		}
		failed, err := l.attemptsOf(ctx, a, m.Sequence)
		if err != nil {
			return broken(err)
		}
		l.ender.endQueued(ctx, m, failed.Attempt, jobs.Cancelled, jobs.Errorf(jobs.System, jobs.CodeCancelled, "the job was cancelled"))
		return nil
	}
	return nil
}
