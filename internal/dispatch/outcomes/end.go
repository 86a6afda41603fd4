package outcomes

import (
	"context"
	"errors"
	"log/slog"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// ender gives jobs their outcomes that no host has.
type ender struct {
	broker *stream.Access
	log    *slog.Logger
}

// endQueued gives an anonymous job that no host has its outcome, after a number of attempts. It does what it can: the job may have
// one meanwhile.
func (e *ender) endQueued(ctx context.Context, m stream.Stored, attempts int, kind jobs.Kind, why *jobs.Error) {
	from, env, _ := jobs.ParseStored(m.Subject, m.Header, m.Sequence, e.broker.Accounts())
	req, _ := jobs.ParseRequest(env.Type, m.Data, e.broker.MaxPayload/2)
	reply := jobs.Reply{Job: env.Job, Attempt: attempts, Err: why}
	res := &jobs.Result{Job: env.Job, Sequence: m.Sequence, Attempt: attempts, Hash: req.Hash, Kind: kind, Body: reply.Append(nil), Stored: m.Time, Trace: jobs.TraceID(env.Trace)}
	if _, err := e.broker.Results.PutSync(from.Session.ResultKey(env.Job), res.Append(nil), 0, jobs.ResultTTL(env.Mode)); err != nil {
		e.log.Debug("not_ended", "job", env.Job, "error", err)
		if kind == jobs.Expired && !errors.Is(err, stream.ErrWrongRevision) { // else it has an outcome
			pending := jobs.Reply{Job: env.Job, Attempt: attempts, Err: jobs.OutcomePending("the broker does not accept it")}
			e.send(env, attempts, pending.Append(nil))
		}
		return
	}
	_ = e.broker.DeleteMessage(ctx, stream.Anonymous, m.Sequence) // if it stays, the host that takes it finds the result
	e.answer(env, attempts, reply.Append(nil))
}

// answer sends the reply of a job that ended at the dispatcher. It may be lost; the result is there to fetch.
func (e *ender) answer(env jobs.Envelope, attempts int, body []byte) {
	if e.send(env, attempts, body) && jobs.Imported(env.ReplyTo) {
		_ = e.broker.Send(env.ReplyTo, nil, nil) // the broker drops the call
	}
}

// send sends a reply that another one may follow, and reports whether it was sent.
func (e *ender) send(env jobs.Envelope, attempts int, body []byte) bool {
	if env.ReplyTo == "" {
		return false
	}
	header, data := jobs.Answer(env.Type, env.Job, attempts, body)
	return e.broker.Send(env.ReplyTo, header, data) == nil
}
