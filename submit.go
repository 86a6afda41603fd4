package dspex

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/contract"
)

// Receipt is the proof that a job was accepted.
type Receipt struct {
	Job      JobRef
	Sequence uint64 // in the stream
}

// Submit stores a job of a session and returns at once. Wait or GetJob fetches its outcome. With WithJobID it may be repeated: a
// job whose id is known in its session is not run again, and has the outcome of the first one.
func (c *Client) Submit(ctx context.Context, session, command string, args Args, opts ...SubmitOption) (Receipt, error) {
	subject, err := sessionSubject(contract.SubjectSession, session)
	if err != nil {
		return Receipt{}, err
	}
	return c.submit(ctx, subject, session, command, args, opts)
}

// Lane is a queue of anonymous jobs.
type Lane string

// The lanes.
const (
	LaneInteractive Lane = contract.LaneInteractive // someone waits for the answer
	LaneBatch       Lane = contract.LaneBatch       // leaves at least one slot of each host free for the others
)

// SubmitAnonymous stores a job without a session in a lane.
func (c *Client) SubmitAnonymous(ctx context.Context, lane Lane, command string, args Args, opts ...SubmitOption) (Receipt, error) {
	if lane != LaneInteractive && lane != LaneBatch {
		return Receipt{}, invalid(CodeBadOption, "lane", "interactive or batch", "unknown lane %q", lane)
	}
	return c.submit(ctx, contract.SubjectAnonymous+string(lane), "", command, args, opts)
}

func (c *Client) submit(ctx context.Context, subject, session, command string, args Args, opts []SubmitOption) (Receipt, error) {
	if c.tenant != "" { // the broker gives jobs that operators publish to the tenant default
		return Receipt{}, invalid(contract.CodeBadRequest, "", "Execute, or a client of the tenant", "operators cannot submit jobs for a tenant")
	}
	r, err := newSubmit(session, command, args, opts)
	if err == nil {
		err = c.fit(ctx, r)
	}
	if err != nil {
		return Receipt{}, err
	}
	c.propagate(ctx, r)
	m := r.message(c.prefix + subject)
	if r.replyTo != "" {
		m.Header.Set(contract.HeaderReplyTo, r.replyTo)
	}
	ctx, cancel := bounded(ctx, travelTime)
	defer cancel()
	js, err := c.js()
	if err != nil {
		return Receipt{}, transport(ctx, err, r.job)
	}
	var ack *jetstream.PubAck
	ctx, end := c.untilFull(ctx)
	err = c.ride(ctx, r.job, func() (err error) { ack, err = js.PublishMsg(ctx, m); return err })
	full := end()
	switch {
	case err != nil && full != nil:
		full.Job, full.cause = r.job, err
		return Receipt{}, full
	case err != nil:
		return Receipt{}, notStored(ctx, err, r.job)
	}
	if c.domain != "" && ack.Domain != c.domain {
		return Receipt{}, &Error{Category: ErrConnection, Code: CodeWrongDomain, Job: r.job, Message: "the job was stored in the JetStream domain \"" + ack.Domain + "\"",
			Expected: c.domain, Hint: "a stream of the leaf's own domain takes the subjects of dspex: remove it, or connect to the other side"}
	}
	if r.job.ID == "" {
		r.job.ID = contract.SequenceJob(ack.Sequence)
	}
	return Receipt{Job: r.job, Sequence: ack.Sequence}, nil
}

// untilFull bounds a publish that waits for its acknowledgement: a broker whose disk is full refuses nothing, it stays silent. So after
// a second dispatchers are queried whether it stores anything; if it does not the context ends, and end reports it.
func (c *Client) untilFull(ctx context.Context) (bounded context.Context, end func() *Error) {
	ctx, giveUp := context.WithCancel(ctx)
	var full *Error
	asked := make(chan struct{})
	asks := time.AfterFunc(longWait, func() {
		defer close(asked)
		for ctx.Err() == nil {
			_, err := c.Health(ctx)
			if e := asError(err); e != nil && e.Code == CodeStoreFull {
				full = e
				giveUp()
			}
			select {
			case <-ctx.Done():
			case <-time.After(longWait):
			}
		}
	})
	return ctx, func() *Error {
		giveUp()
		if !asks.Stop() {
			<-asked
		}
		return full
	}
}

// tooManyRequests is how a broker reports that more waits to be stored than it keeps (max_buffered_size in nats.conf).
const tooManyRequests = 10167

// notStored distinguishes a full stream from a broker that was not reached.
func notStored(ctx context.Context, err error, job JobRef) *Error {
	refused, ok := errors.AsType[*jetstream.APIError](err)
	if !ok {
		return transport(ctx, err, job)
	}
	e := &Error{Category: ErrResource, Code: CodeStoreFull, Message: "the broker did not store the job: " + refused.Description, Retryable: true, Job: job, cause: err}
	if refused.ErrorCode == tooManyRequests {
		e.Code, e.Hint = CodeOverloaded, "nothing was stored: submit it again after retry_after_ms"
		e.RetryAfter = contract.QueueFullRetry
	}
	if strings.Contains(refused.Description, "per subject") {
		e.Code, e.Hint = CodeQueueFull, "the session has as many waiting jobs as it may have: wait for some of them"
		e.RetryAfter = contract.QueueFullRetry // the broker itself refused, and names no time
	}
	return e
}

// NewJob is a job of SubmitAll.
type NewJob struct {
	Session string // "": none
	Lane    Lane   // of a job without session; "" is LaneBatch
	Command string
	Args    Args
	Options []SubmitOption // all but WithTraceparent

	Raw json.RawMessage // the whole job as one JSON object (contract/job.md, jobs.submit), instead of the fields
}

// SubmitAll stores jobs, all or none: at most 1,000, and all with a session or all without. Wait or GetJob fetches their outcomes; SubmitBatch
// takes more jobs, and of both kinds. Jobs without an id get one. After a failure whose effect is unknown, submit them again with the same
// ids: what is stored already does not run again. If jobs cannot be run the error is an *InvalidJobsError that names all of them.
func (c *Client) SubmitAll(ctx context.Context, jobs []NewJob) ([]JobRef, error) {
	if n := len(jobs); n < 1 || n > contract.MaxTogether {
		e := invalid(contract.CodeBadRequest, "jobs", fmt.Sprintf("1 to %d jobs", contract.MaxTogether), "there are %d jobs", n)
		e.Hint = "SubmitBatch takes more"
		return nil, e
	}
	all, refs := make([]json.RawMessage, len(jobs)), make([]JobRef, len(jobs))
	bad := &InvalidJobsError{}
	for i, job := range jobs {
		var err error
		if all[i], refs[i], err = c.entry(ctx, job); err == nil {
			continue
		}
		if !errors.Is(err, ErrInvalid) { // large arguments were not uploaded
			return nil, err
		}
		bad.Invalid = append(bad.Invalid, InvalidJob{i, asError(err)})
	}
	if len(bad.Invalid) > 0 {
		return nil, bad
	}
	reply, err := c.askAgain(ctx, contract.RPCJobsSubmit, map[string]any{"jobs": all})
	if e := asError(err); e != nil && e.Code == contract.CodeBadBatch {
		var named invalidJobs
		if bad := json.Unmarshal(reply.Raw, &named); bad != nil || len(named.Invalid) == 0 {
			return nil, err
		}
		for _, i := range named.Invalid {
			if i.Error != nil {
				bad.Invalid = append(bad.Invalid, InvalidJob{i.Index, i.Error.error(JobRef{}, 0)})
			}
		}
		return nil, bad
	}
	if err != nil {
		return nil, err
	}
	return refs, nil
}

// entry is a job as jobs.submit takes it.
func (c *Client) entry(ctx context.Context, job NewJob) (raw json.RawMessage, ref JobRef, err error) {
	if job.Raw != nil {
		var named struct{ Job, Session string }
		if !json.Valid(job.Raw) {
			return nil, ref, invalid(contract.CodeBadRequest, "", "a JSON object", "the job is not JSON")
		}
		_ = json.Unmarshal(job.Raw, &named) // what is not text is refused by the service
		raw, err = c.fitting(ctx, job.Raw, named.Session)
		return raw, JobRef{named.Session, named.Job}, err
	}
	r, err := newSubmit(job.Session, job.Command, job.Args, job.Options)
	if err == nil && r.traceparent != "" {
		err = invalid(CodeBadOption, "", "WithPropagator, which is for all of them", "jobs that are submitted together have no span of their own")
	}
	if err == nil {
		err = c.fit(ctx, r)
	}
	if err != nil {
		return nil, ref, err
	}
	if r.job.ID == "" {
		random := make([]byte, 12)
		_, _ = rand.Read(random) // never fails
		r.job.ID = "j" + hex.EncodeToString(random)
	}
	head, err := json.Marshal(struct {
		Job     string `json:"job"`
		Session string `json:"session,omitempty"`
		Lane    Lane   `json:"lane,omitempty"`
		ReplyTo string `json:"reply_to,omitempty"`
	}{r.job.ID, r.job.Session, job.Lane, r.replyTo})
	return append(append(head[:len(head)-1], ','), r.body[1:]...), r.job, err
}
