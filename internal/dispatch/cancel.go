package dispatch

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/dspex/dspex/internal/dispatch/endpoint"

	"github.com/dspex/dspex/internal/affinity"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// Bounds of a cancellation.
const (
	cancelAnswer = 5 * time.Second        // of one host
	cancelTotal  = 15 * time.Second       // until the job has its outcome
	cancelPause  = 100 * time.Millisecond // between tries while the job is on its way to its host
)

// cancelJob ends a job early. The owner of its session decides; the answer is that of jobs.get, with the job's outcome. A job
// that has ended before keeps its outcome.
func (d *Dispatcher) cancelJob(ctx context.Context, r endpoint.Request) {
	a, bad := parseAsk(r)
	if bad == nil && a.wait != 0 {
		bad = jobs.Errorf(jobs.Python, jobs.CodeBadRequest, "a cancellation takes no wait_ms")
		bad.Path, bad.Expected = "wait_ms", `{"session": "...", "job": "..."}`
	}
	if bad != nil {
		endpoint.Refuse(r, bad)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, cancelTotal)
	defer cancel()
	for {
		body, over, e := d.tryCancel(ctx, a)
		switch {
		case e != nil:
			endpoint.Refuse(r, e)
			return
		case over:
			endpoint.Respond(r, body)
			return
		}
		select {
		case <-ctx.Done():
			endpoint.Refuse(r, jobs.Errorf(jobs.Resource, jobs.CodePoolUnavailable, "the job could not be cancelled within %v: no host holds it", cancelTotal).
				WithHint("it may wait behind a long queue, or its host is being replaced: ask again").Again())
			return
		case <-time.After(cancelPause):
		}
	}
}

// tryCancel asks the job's owner once. over: body is the answer.
func (d *Dispatcher) tryCancel(ctx context.Context, a ask) (body []byte, over bool, bad *jobs.Error) {
	if body, ended, bad := d.outcome(ctx, a); bad != nil || ended {
		return body, ended, bad
	}
	if _, bad := d.locate(ctx, a); bad != nil {
		if bad.Code == jobs.CodeJobUnknown { // it may have ended between the two looks
			if body, ended, e := d.outcome(ctx, a); e != nil || ended {
				return body, ended, e
			}
		}
		return nil, false, bad
	}
	hosts, err := d.holders(ctx, a)
	if err != nil {
		return nil, false, jobs.Errorf(jobs.Connection, jobs.CodeBroker, "the job's host cannot be looked up: %v", err).Again()
	}
	for _, name := range hosts {
		switch d.askCancel(ctx, name, a) {
		case jobs.CancelUnderway:
			a.wait = cancelAnswer
			waiting, cancel := context.WithTimeout(ctx, a.wait)
			defer cancel()
			body, bad := d.find(waiting, a)
			return body, bad == nil, bad
		case jobs.CancelUnknown:
		case jobs.CancelBusy:
			return nil, false, nil
		}
	}
	if a.session.ID == "" {
		return nil, false, d.cancelQueued(ctx, a)
	}
	return nil, false, nil
}

// outcome returns the answer for a job that has ended.
func (d *Dispatcher) outcome(ctx context.Context, a ask) (body []byte, ended bool, bad *jobs.Error) {
	e, err := d.broker.Results.Get(ctx, a.session.ResultKey(a.job))
	if err != nil {
		return nil, false, jobs.Errorf(jobs.Connection, jobs.CodeBroker, "the outcome cannot be read: %v", err).Again()
	}
	if !e.Exists {
		return nil, false, nil
	}
	r, err := jobs.ParseResult(e.Value)
	if err != nil {
		return nil, false, jobs.Errorf(jobs.Session, jobs.CodeRecordUnreadable, "the outcome cannot be read: %v", err)
	}
	return found(a, string(r.Kind), r.Attempt, r.Body), true, nil
}

// holders are the hosts that may hold the job: the owner of its session's partition, or any for an anonymous job.
func (d *Dispatcher) holders(ctx context.Context, a ask) ([]string, error) {
	if a.session.ID != "" {
		now, err := d.readLayouts(ctx)
		if err != nil {
			return nil, err
		}
		o, _, err := d.broker.Claims.Read(ctx, jobs.AssignmentKey(affinity.Partition(a.session.ID, now.Serving.Partitions)))
		if err != nil || o.Host == "" {
			return nil, err
		}
		return []string{o.Host}, nil
	}
	var names []string
	for _, b := range d.hosts.Live() {
		names = append(names, b.Host)
	}
	return names, nil
}

func (d *Dispatcher) askCancel(ctx context.Context, host string, a ask) jobs.CancelVerdict {
	body, err := json.Marshal(jobs.Cancel{Tenant: a.session.Tenant, Session: a.session.ID, Job: a.job})
	if err != nil {
		return jobs.CancelBusy
	}
	ctx, cancel := context.WithTimeout(ctx, cancelAnswer)
	defer cancel()
	verdict, err := d.broker.Ask(ctx, jobs.SubjectControl+host+".cancel", body)
	if err != nil {
		return jobs.CancelBusy
	}
	return jobs.CancelVerdict(verdict)
}

// cancelQueued ends an anonymous job that no host runs: its result is created first, so that a host that takes it meanwhile
// finds, or loses to, that result; then its message goes.
func (d *Dispatcher) cancelQueued(ctx context.Context, a ask) *jobs.Error {
	broken := func(err error) *jobs.Error {
		return jobs.Errorf(jobs.Connection, jobs.CodeBroker, "the job could not be cancelled: %v", err).Again()
	}
	for _, subject := range a.session.QueueSubjects() {
		seq, err := d.sequenceOf(ctx, stream.Anonymous, a, subject)
		if errors.Is(err, stream.ErrNotFound) {
			continue
		}
		if err != nil {
			return broken(err)
		}
		m, err := stream.GetSequence(ctx, d.broker.NC, stream.Anonymous, seq)
		if errors.Is(err, stream.ErrNotFound) {
			return nil
		}
		if err != nil {
			return broken(err)
		}
		failed, err := d.attemptsOf(ctx, a, seq)
		if err != nil {
			return broken(err)
		}
		d.endQueued(ctx, m, failed.Attempt, jobs.Cancelled, jobs.Errorf(jobs.System, jobs.CodeCancelled, "the job was cancelled"))
		return nil
	}
	return nil
}

// endQueued gives an anonymous job that no host has its outcome, after so many attempts. It does what it can: the job may have
// one meanwhile.
func (d *Dispatcher) endQueued(ctx context.Context, m stream.Stored, attempts int, kind jobs.Kind, e *jobs.Error) {
	from, env, _ := jobs.ParseStored(m.Subject, m.Header, m.Sequence, d.broker.Accounts())
	req, _ := jobs.ParseRequest(env.Type, m.Data, d.broker.MaxPayload/2)
	reply := jobs.Reply{Job: env.Job, Attempt: attempts, Err: e}
	res := &jobs.Result{Job: env.Job, Sequence: m.Sequence, Attempt: attempts, Hash: req.Hash, Kind: kind, Body: reply.Append(nil), Stored: m.Time}
	if _, err := d.broker.Results.PutSync(from.Session.ResultKey(env.Job), res.Append(nil), 0, jobs.ResultTTL(env.Mode)); err != nil {
		d.log.Debug("not_ended", "job", env.Job, "error", err)
		if kind == jobs.Expired && !errors.Is(err, stream.ErrWrongRevision) { // else it has an outcome
			pending := jobs.Reply{Job: env.Job, Attempt: attempts, Err: jobs.OutcomePending("the broker does not take it")}
			d.tell(env, attempts, pending.Append(nil))
		}
		return
	}
	_ = d.broker.DeleteMessage(ctx, stream.Anonymous, m.Sequence) // if it stays, the host that takes it finds the result
	d.answer(env, attempts, reply.Append(nil))
}

// answer sends the reply of a job that ended at the dispatcher. It may be lost; the result is there to fetch.
func (d *Dispatcher) answer(env jobs.Envelope, attempts int, body []byte) {
	if d.tell(env, attempts, body) && jobs.Imported(env.ReplyTo) {
		_ = d.broker.Send(env.ReplyTo, nil, nil) // the broker forgets the call
	}
}

// tell sends a reply that another one may follow, and says whether it was sent.
func (d *Dispatcher) tell(env jobs.Envelope, attempts int, body []byte) bool {
	if env.ReplyTo == "" {
		return false
	}
	header, data := jobs.Answer(env.Type, env.Job, attempts, body)
	return d.broker.Send(env.ReplyTo, header, data) == nil
}
