package gateway

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/gateway/mcptools"
)

func (g *Gateway) runInSession(ctx context.Context, in *inSessionInput) (*answer, error) {
	return g.run(ctx, in.Session, "", &in.RunInput)
}

func (g *Gateway) runAnonymously(ctx context.Context, in *anonymousInput) (*answer, error) {
	return g.run(ctx, "", in.Lane, &in.RunInput)
}

// run runs or stores a job. Every job has an id, so that a lost answer can be fetched, and a job without a waiting client be cancelled.
func (g *Gateway) run(ctx context.Context, session, lane string, in *RunInput) (*answer, error) {
	c := who(ctx)
	job := dspex.JobRef{Session: session, ID: in.Key}
	if job.ID == "" {
		job.ID = c.prefix + rand.Text()
	}
	if !contract.ValidJob(job.ID) { // before it becomes part of a Location
		return nil, refused(http.StatusBadRequest, contract.CodeBadJob, "header.Idempotency-Key", contract.ExpectedJob, "the job id is not valid")
	}
	if p := c.maySee(job); p != nil {
		return nil, p
	}
	if p := c.mayRun(session, &in.Body); p != nil {
		return nil, p
	}
	async := in.Wait == "false" || prefers(in.Prefer, "respond-async")
	switch {
	case !async && lane != "":
		return nil, refused(http.StatusBadRequest, contract.CodeBadOption, "query.lane", "left out, or with wait=false", "a lane is for a job that is stored: with wait=false")
	case async && in.Leave:
		return nil, refused(http.StatusBadRequest, contract.CodeBadOption, "query.cancel_on_disconnect", "left out, or without wait=false", "no request waits for a job that is stored")
	case async && accepts(in.Accept, eventStream):
		return nil, refused(http.StatusBadRequest, contract.CodeBadOption, "header.Accept", "left out, or without wait=false", "a job that is stored has no stream")
	case async:
		return g.store(ctx, job, dspex.Lane(lane), in)
	case accepts(in.Accept, eventStream):
		return g.streamed(ctx, job, in)
	}
	reply, err := g.call(ctx, job, in)
	if in.Leave && ctx.Err() != nil {
		g.cancelLeft(ctx, job)
	}
	if err != nil {
		return nil, asProblem(err, job)
	}
	return &answer{Job: job.ID, Attempt: strconv.Itoa(reply.Attempt), Type: contract.JSON, Body: whole(http.StatusOK, reply.Raw), reply: reply.Raw}, nil
}

func (g *Gateway) call(ctx context.Context, job dspex.JobRef, in *RunInput) (dspex.Reply, error) {
	c, command, args, options := who(ctx), in.Body.Command, in.Body.arguments(), in.callOptions(job)
	switch operates := c.operates(job.Session, &in.Body); {
	case operates && job.Session == "":
		return c.client.Admin().ExecuteAnonymous(ctx, command, args, options...)
	case operates:
		return c.client.Admin().Execute(ctx, job.Session, command, args, options...)
	case job.Session == "":
		return c.client.ExecuteAnonymous(ctx, command, args, options...)
	}
	return c.client.Execute(ctx, job.Session, command, args, options...)
}

// store submits the job and reports where it is found.
func (g *Gateway) store(ctx context.Context, job dspex.JobRef, lane dspex.Lane, in *RunInput) (*answer, error) {
	options := []dspex.SubmitOption{dspex.WithJobID(job.ID)}
	for _, o := range in.Body.Options.options() {
		options = append(options, o)
	}
	var err error
	client := who(ctx).client
	switch {
	case job.Session != "":
		_, err = client.Submit(ctx, job.Session, in.Body.Command, in.Body.arguments(), options...)
	case lane == "":
		_, err = client.SubmitAnonymous(ctx, dspex.LaneInteractive, in.Body.Command, in.Body.arguments(), options...)
	default:
		_, err = client.SubmitAnonymous(ctx, lane, in.Body.Command, in.Body.arguments(), options...)
	}
	if err != nil {
		return nil, asProblem(err, job)
	}
	body, err := json.Marshal(jobState{Job: job.ID, Session: job.Session, Outcome: string(dspex.JobQueued)})
	if err != nil {
		return nil, asProblem(err, job)
	}
	return &answer{Location: location(job), Job: job.ID, Type: contract.JSON, Body: whole(http.StatusAccepted, body)}, nil
}

// jobState is what is known of a job: the result of jobs.get (contract/job.md).
type jobState struct {
	Job      string          `json:"job"`
	Session  string          `json:"session,omitempty"`
	Outcome  string          `json:"outcome" enum:"queued,running,retrying,succeeded,failed,cancelled,expired" doc:"The last four are final"`
	Attempts int             `json:"attempts"`
	RetryIn  int64           `json:"retry_in_ms,omitempty" doc:"Time until the next attempt of a job that is retrying"`
	TraceID  string          `json:"trace_id,omitempty" doc:"Of its OpenTelemetry trace, if one is known"`
	Reply    json.RawMessage `json:"reply,omitempty" doc:"The reply, once there is one; if the job failed, ok is false and error has the reason"`
}

type jobOutput struct{ Body jobState }

func (g *Gateway) getJob(ctx context.Context, in *getJobInput) (*jobOutput, error) {
	client := who(ctx).client
	if p := who(ctx).maySee(in.job()); p != nil {
		return nil, p
	}
	return lookedUp(in.job(), func() (dspex.Job, error) {
		return mcptools.Ended(ctx, client, in.job(), time.Duration(in.WaitMS)*time.Millisecond)
	})
}

func (g *Gateway) cancelJob(ctx context.Context, in *JobInput) (*jobOutput, error) {
	if p := who(ctx).maySee(in.job()); p != nil {
		return nil, p
	}
	return lookedUp(in.job(), func() (dspex.Job, error) { return who(ctx).client.Cancel(ctx, in.job()) })
}

func lookedUp(job dspex.JobRef, ask func() (dspex.Job, error)) (*jobOutput, error) {
	found, err := ask()
	if err != nil {
		return nil, asProblem(err, job)
	}
	if found.Status == dspex.JobSucceeded && found.Err != nil { // its large result cannot be read
		return nil, asProblem(found.Err, job)
	}
	state := jobState{Job: found.ID, Session: found.Session, Outcome: string(found.Status), Attempts: found.Attempts, RetryIn: found.RetryIn.Milliseconds(), TraceID: found.TraceID}
	if found.Reply != nil {
		state.Reply = found.Reply.Raw
	}
	return &jobOutput{state}, nil
}
