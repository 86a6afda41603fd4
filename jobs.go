package dspex

import (
	"context"
	"encoding/json"
	"iter"
	"time"

	"github.com/dspex/dspex/internal/contract"
)

// JobStatus is the state of a job, or its outcome.
type JobStatus string

// The statuses; the last four are final: the job's outcome.
const (
	JobQueued    JobStatus = "queued"
	JobRunning   JobStatus = "running"
	JobRetrying  JobStatus = "retrying"
	JobSucceeded JobStatus = "succeeded"
	JobFailed    JobStatus = "failed"
	JobCancelled JobStatus = "cancelled"
	JobExpired   JobStatus = "expired"
)

// Final reports whether the status cannot change any more.
func (s JobStatus) Final() bool {
	return s == JobSucceeded || s == JobFailed || s == JobCancelled || s == JobExpired
}

// Job is the state of a job.
type Job struct {
	JobRef
	Status   JobStatus
	Attempts int
	RetryIn  time.Duration // of a job that is retrying: until its next attempt may begin
	TraceID  string        // of its OpenTelemetry trace, "" if none is known (docs/traces.md)
	Reply    *Reply        // once there is one
	Err      error         // why it did not succeed: an *Error; nil while it is not decided
}

// GetJob returns the state of a job. An id that was never seen, or whose lifetime is over (15 minutes after the end for
// calls, 24 hours for submitted jobs), is an error of category ErrSession, code job_unknown.
func (c *Client) GetJob(ctx context.Context, job JobRef) (Job, error) {
	return c.lookUp(ctx, job, 0)
}

// Cancel ends a job early and returns its status: JobCancelled, or the outcome that it had already. A running job is stopped;
// its worker is replaced if it does not stop. It may be repeated.
func (c *Client) Cancel(ctx context.Context, job JobRef) (Job, error) {
	return c.askJob(ctx, contract.RPCJobsCancel, job, map[string]any{}, cancelTime)
}

// Bounds of Wait and Cancel.
const (
	waitRound  = 30 * time.Second // of one request: a dispatcher that went away is detected then
	cancelTime = 20 * time.Second // the dispatcher gives up after 15 s
	waitErrors = 5                // retryable failures in a row, before Wait gives up
)

// Wait waits until the job has ended and returns its reply, or its failure as an *Error: what Execute would have returned. It
// waits as long as ctx allows; a dispatcher that is restarted meanwhile does not end it.
func (c *Client) Wait(ctx context.Context, job JobRef) (Reply, error) {
	for failures := 0; ; {
		found, err := c.lookUp(ctx, job, waitRound)
		e := asError(err)
		switch {
		case err == nil && found.Status.Final():
			if found.Reply == nil {
				return Reply{}, badReply("the job has ended (%s), but its reply is missing", found.Status)
			}
			return *found.Reply, found.Err
		case err == nil:
			failures = 0
			continue
		case e != nil && e.Retryable && ctx.Err() == nil && failures < waitErrors:
			failures++
		default:
			return Reply{}, err
		}
		select {
		case <-ctx.Done():
			return Reply{}, transport(ctx, ctx.Err(), job)
		case <-time.After(contract.BackoffBase << failures):
		}
	}
}

func (c *Client) lookUp(ctx context.Context, job JobRef, wait time.Duration) (Job, error) {
	return c.askJob(ctx, contract.RPCJobsGet, job, map[string]any{"wait_ms": wait.Milliseconds()}, wait)
}

// askJob sends a request about one job and reads where the job stands.
func (c *Client) askJob(ctx context.Context, subject string, job JobRef, ask map[string]any, wait time.Duration) (Job, error) {
	ask["job"] = job.ID
	if job.Session != "" {
		if _, err := sessionSubject("", job.Session); err != nil {
			return Job{}, err
		}
		ask["session"] = job.Session
	}
	if !contract.ValidToken(job.ID, 64) { // a replay's id is longer than one that a client may choose
		return Job{}, invalid(CodeBadJob, "", contract.ExpectedSession, "the job id is not valid")
	}
	ctx, cancel := context.WithTimeout(ctx, wait+travelTime)
	defer cancel()
	reply, err := c.ask(ctx, subject, ask)
	if err != nil {
		return Job{}, err
	}
	var w struct {
		Job, Session string
		Outcome      JobStatus
		Attempts     int
		RetryIn      float64 `json:"retry_in_ms"`
		TraceID      string  `json:"trace_id"`
		Reply        json.RawMessage
	}
	if err := reply.Decode(&w); err != nil {
		return Job{}, badReply("the answer about the job is not the expected JSON: %v", err)
	}
	found := Job{JobRef: JobRef{w.Session, w.Job}, Status: w.Outcome, Attempts: w.Attempts, RetryIn: fromMillis(w.RetryIn), TraceID: w.TraceID}
	if len(w.Reply) > 0 && string(w.Reply) != "null" {
		r, err := parseReply(w.Reply, found.JobRef)
		r, err = c.resolved(ctx, r, err)
		found.Reply, found.Err = &r, err
	}
	return found, nil
}

// JobInfo is a job as it is listed.
type JobInfo struct {
	JobRef
	Status     JobStatus
	Attempts   int
	Command    string    // "" of a job that has ended: outcomes do not keep it
	Lane       Lane      // of an anonymous job without outcome
	Mode       string    // call or queue; "" of a job that has ended
	Code       string    // of the error that it ended with
	AcceptedAt time.Time // zero for a job that has ended
	EndedAt    time.Time // zero for a job without outcome

	Raw json.RawMessage // the raw result
}

// JobFilter chooses jobs. The zero value chooses all that have no outcome or whose outcome is kept still.
type JobFilter struct {
	Session   string
	Anonymous bool      // those without session
	Status    JobStatus // "": any
	Command   string    // only jobs without outcome have it
	OlderThan time.Duration
	NewerThan time.Duration // since the job was accepted, or has ended
	Limit     int           // 0: no limit
}

// Jobs lists jobs: first those without outcome, in the order accepted, then the outcomes that are kept, the oldest first. It reads page
// by page while the loop goes on; a job that ends meanwhile may come twice.
func (a *Admin) Jobs(ctx context.Context, f JobFilter) iter.Seq2[JobInfo, error] {
	ask := chosen(f.Anonymous, f.OlderThan, f.NewerThan, map[string]string{"session": f.Session, "outcome": string(f.Status), "command": f.Command})
	return listed(ctx, pages{a.c.ask, contract.RPCJobsList, ask, mostPage, f.Limit}, "jobs", readJobInfo)
}

// chosen is the request of a filter: what is zero is left out.
func chosen(anonymous bool, older, newer time.Duration, texts map[string]string) map[string]any {
	ask := map[string]any{}
	for key, text := range texts {
		if text != "" {
			ask[key] = text
		}
	}
	for key, d := range map[string]time.Duration{"older_than_ms": older, "newer_than_ms": newer} {
		if d > 0 {
			ask[key] = milliseconds(d)
		}
	}
	if anonymous {
		ask["anonymous"] = true
	}
	return ask
}

func readJobInfo(raw json.RawMessage) (JobInfo, error) {
	var w struct {
		Job        string    `json:"job"`
		Session    string    `json:"session"`
		Status     JobStatus `json:"outcome"`
		Attempts   int       `json:"attempts"`
		Command    string    `json:"command"`
		Lane       Lane      `json:"lane"`
		Mode       string    `json:"mode"`
		Code       string    `json:"code"`
		AcceptedAt time.Time `json:"accepted_at"`
		EndedAt    time.Time `json:"ended_at"`
	}
	if err := json.Unmarshal(raw, &w); err != nil {
		return JobInfo{}, badReply("a job is not the expected JSON: %v", err)
	}
	return JobInfo{JobRef: JobRef{w.Session, w.Job}, Status: w.Status, Attempts: w.Attempts, Command: w.Command, Lane: w.Lane, Mode: w.Mode, Code: w.Code,
		AcceptedAt: w.AcceptedAt, EndedAt: w.EndedAt, Raw: raw}, nil
}
