package gateway

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/contract"
)

// RunInput is a request that runs a command. Its name is exported for huma, which fills no embedded fields of others.
type RunInput struct {
	Key    string `header:"Idempotency-Key" doc:"Id of the job: the same request under the same key gets the first outcome. [A-Za-z0-9_-]{1,48}, not of the forms q<digits> or ...-r<digits>"`
	Prefer string `header:"Prefer" doc:"respond-async: as wait=false"`
	Accept string `header:"Accept" doc:"text/event-stream: partial output comes as events, and the reply as the last one"`
	Wait   string `query:"wait" enum:"true,false" doc:"Default true. false: the job is stored, and the answer is 202 with its Location"`
	Leave  bool   `query:"cancel_on_disconnect" doc:"The job is cancelled if the client disconnects before the answer. Without it the job continues"`
	Body   jobBody

	LastEvent string `header:"Last-Event-ID" doc:"Of a broken stream: with the same Idempotency-Key and body the events after this one are sent"`
	RawBody   []byte
}

// Resolve refuses null where the contract has a map or a value: huma takes it for something that is left out.
func (in *RunInput) Resolve(huma.Context) []error {
	var given struct{ Args, Options json.RawMessage }
	if json.Unmarshal(in.RawBody, &given) != nil {
		return nil // reported already
	}
	var wrong []error
	var options map[string]json.RawMessage
	_ = json.Unmarshal(given.Options, &options)
	for name, value := range map[string]json.RawMessage{"args": given.Args, "options": given.Options} {
		if string(value) == "null" {
			wrong = append(wrong, &huma.ErrorDetail{Message: name + " is not a map", Location: "body." + name})
		}
	}
	for name, value := range options {
		if string(value) == "null" {
			wrong = append(wrong, &huma.ErrorDetail{Message: name + " is null: leave it out", Location: "body.options." + name})
		}
	}
	return wrong
}

type inSessionInput struct {
	Session string `path:"session" pattern:"^[A-Za-z0-9_-]{1,64}$" doc:"The session: its jobs run one at a time, in the order accepted"`
	RunInput
}

type anonymousInput struct {
	Lane string `query:"lane" enum:"interactive,batch" doc:"Of a stored job: batch has lower priority. Default interactive"`
	RunInput
}

// answer is a reply of the contract, as it came, or its events. What is empty is left out.
type answer struct {
	Location string `header:"Location"`
	Job      string `header:"Dspex-Job"`
	Attempt  string `header:"Dspex-Attempt"`
	Type     string `header:"Content-Type"`
	Body     func(huma.Context)

	reply []byte `json:"-"` // of a call: what Body writes
}

// whole is the body of an answer that is there already.
func whole(status int, body []byte) func(huma.Context) {
	return func(c huma.Context) {
		c.SetStatus(status)
		_, _ = c.BodyWriter().Write(body)
	}
}

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

func (in *RunInput) callOptions(job dspex.JobRef) []dspex.CallOption {
	options := []dspex.CallOption{dspex.WithJobID(job.ID)}
	for _, o := range in.Body.Options.options() {
		options = append(options, o)
	}
	return options
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

// Cancelling a job without a waiting client. Its request may still be on its way to the pool, which has no such job yet.
const (
	leftTries = 5
	leftPause = 500 * time.Millisecond
	leftTime  = 20 * time.Second // of one try
)

// cancelLeft cancels a job whose client went away, unless it was the gateway that did.
func (g *Gateway) cancelLeft(ctx context.Context, job dspex.JobRef) {
	g.abandon(ctx, who(ctx).client, job)
}

func (g *Gateway) abandon(ctx context.Context, client *dspex.Client, job dspex.JobRef) {
	if !g.ending.Load() && Abandon(ctx, client, job) {
		g.metrics.left.Inc()
	}
}

// Abandon cancels a job without a waiting client, and reports whether it did. ctx may have ended.
func Abandon(ctx context.Context, client *dspex.Client, job dspex.JobRef) bool {
	ctx = context.WithoutCancel(ctx)
	for range leftTries {
		try, end := context.WithTimeout(ctx, leftTime)
		_, err := client.Cancel(try, job)
		end()
		if e, ok := errors.AsType[*dspex.Error](err); !ok || e.Code != dspex.CodeJobUnknown {
			return true
		}
		<-time.After(leftPause)
	}
	return false
}

// prefers reports whether the header Prefer (RFC 7240) names a preference.
func prefers(header, name string) bool {
	for part := range strings.SplitSeq(header, ",") {
		token, _, _ := strings.Cut(part, ";")
		if strings.EqualFold(strings.TrimSpace(token), name) {
			return true
		}
	}
	return false
}

// JobInput names a job.
type JobInput struct {
	ID      string `path:"id" pattern:"^[A-Za-z0-9_-]{1,64}$" doc:"The job's id"`
	Session string `query:"session" pattern:"^[A-Za-z0-9_-]{1,64}$" doc:"The job's session; left out for an anonymous job"`
}

func (in *JobInput) job() dspex.JobRef { return dspex.JobRef{Session: in.Session, ID: in.ID} }

type getJobInput struct {
	JobInput
	WaitMS int `query:"wait_ms" minimum:"0" maximum:"600000" doc:"How long to wait for the end of the job, in milliseconds. The answer comes earlier if it ends"`
}

// jobState is what is known of a job: the result of jobs.get (contract/job.md).
type jobState struct {
	Job      string          `json:"job"`
	Session  string          `json:"session,omitempty"`
	Outcome  string          `json:"outcome" enum:"queued,running,retrying,succeeded,failed,cancelled,expired" doc:"The last four are final"`
	Attempts int             `json:"attempts"`
	Reply    json.RawMessage `json:"reply,omitempty" doc:"The reply, once there is one; if the job failed, ok is false and error has the reason"`
}

type jobOutput struct{ Body jobState }

func (g *Gateway) getJob(ctx context.Context, in *getJobInput) (*jobOutput, error) {
	client := who(ctx).client
	if p := who(ctx).maySee(in.job()); p != nil {
		return nil, p
	}
	if in.WaitMS > 0 {
		wait, end := context.WithTimeout(ctx, time.Duration(in.WaitMS)*time.Millisecond)
		_, _ = client.Wait(wait, in.job()) // how it ended, or that it is not known, is read below
		end()
	}
	return lookedUp(in.job(), func() (dspex.Job, error) { return client.GetJob(ctx, in.job()) })
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
	state := jobState{Job: found.ID, Session: found.Session, Outcome: string(found.Status), Attempts: found.Attempts}
	if found.Reply != nil {
		state.Reply = found.Reply.Raw
	}
	return &jobOutput{state}, nil
}

// declare registers the operations of jobs and of the pool.
func (g *Gateway) declare(api huma.API) {
	failed := &huma.Response{Description: "A problem (RFC 9457)", Content: map[string]*huma.MediaType{problemType: {Schema: api.OpenAPI().Components.Schemas.Schema(typeOf[problem](), true, "Problem")}}}
	op := func(id, method, path, summary string, responses map[string]*huma.Response) huma.Operation {
		all := map[string]*huma.Response{"default": failed}
		maps.Copy(all, responses)
		return huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, Responses: all, MaxBodyBytes: g.cfg.MaxBody, BodyReadTimeout: -1}
	}
	events := &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString, Description: "Events: partial (attempt, n, field, chunk, call, status), and at the end reply or problem. Ids are attempt.n and end"}}
	reply := &huma.Response{Description: "The reply of the job (contract/job.md, Reply)", Content: map[string]*huma.MediaType{contract.JSON: {Schema: &huma.Schema{Type: huma.TypeObject}}, eventStream: events}}
	stored := &huma.Response{Description: "The job is stored; the header Location has the address of its outcome",
		Headers: map[string]*huma.Param{"Location": {Schema: &huma.Schema{Type: huma.TypeString}}}, Content: map[string]*huma.MediaType{contract.JSON: {Schema: huma.SchemaFromType(api.OpenAPI().Components.Schemas, typeOf[jobState]())}}}
	ran := map[string]*huma.Response{"200": reply, "202": stored}
	huma.Register(api, op("run-in-session", http.MethodPost, "/v1/sessions/{session}/jobs", "Run a command in a session", ran), g.runInSession)
	huma.Register(api, op("run-anonymously", http.MethodPost, "/v1/jobs", "Run a command without a session", ran), g.runAnonymously)
	huma.Register(api, op("get-job", http.MethodGet, "/v1/jobs/{id}", "The state of a job, or its outcome", nil), g.getJob)
	responses := map[string]*huma.Response{"200": {Description: "The events of a streamed job", Content: map[string]*huma.MediaType{eventStream: events}}, "204": {Description: "The client has all of them"}}
	huma.Register(api, op("get-job-events", http.MethodGet, "/v1/jobs/{id}/events", "Resume the stream of a job", responses), g.getEvents)
	huma.Register(api, op("cancel-job", http.MethodDelete, "/v1/jobs/{id}", "Cancel a job; the answer is its outcome", nil), g.cancelJob)
	huma.Register(api, op("get-health", http.MethodGet, "/v1/health", "Measure the pool's health now", nil), g.getHealth)
	huma.Register(api, op("get-stats", http.MethodGet, "/v1/stats", "The pool's numbers, over all hosts", nil), g.getStats)
}
