package dspex

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
)

// Outcome is how far a job is, or how it ended.
type Outcome string

// The outcomes; the last four are final.
const (
	Queued    Outcome = "queued"
	Running   Outcome = "running"
	Retrying  Outcome = "retrying"
	Succeeded Outcome = "succeeded"
	Failed    Outcome = "failed"
	Cancelled Outcome = "cancelled"
	Expired   Outcome = "expired"
)

// Final reports whether the outcome will not change any more.
func (o Outcome) Final() bool {
	return o == Succeeded || o == Failed || o == Cancelled || o == Expired
}

// JobInfo is what is known of a job.
type JobInfo struct {
	Job      string
	Session  string // "" for an anonymous job
	Outcome  Outcome
	Attempts int
	Reply    *Reply // once there is one
	Err      error  // why it did not succeed: an *Error; nil while it is not decided
}

// Job tells what is known of a job; session is empty for an anonymous one. An id that was never seen, or whose lifetime is
// over (15 minutes after the end for calls, 24 hours for submitted jobs), is an error of category ErrSession.
func (c *Client) Job(ctx context.Context, session, job string) (JobInfo, error) {
	return c.lookUp(ctx, session, job, 0)
}

// Cancel ends a job early and tells how it ended: Cancelled, or the outcome that it had already. A job that runs is stopped;
// its worker is replaced if it cannot be. Asking twice is fine.
func (c *Client) Cancel(ctx context.Context, session, job string) (JobInfo, error) {
	return c.askJob(ctx, doorCancel, session, job, map[string]any{}, cancelTime)
}

// Bounds of Wait and Cancel.
const (
	waitRound  = 30 * time.Second // of one request: a dispatcher that went away is noticed then
	cancelTime = 20 * time.Second // the dispatcher gives up after 15 s
	waitErrors = 5                // failures in a row that can heal, before Wait gives up
)

// Wait waits until the job has ended and returns its reply, or its failure as an *Error: what Execute would have returned. It
// waits as long as ctx allows; a dispatcher that is restarted meanwhile does not end it.
func (c *Client) Wait(ctx context.Context, session, job string) (Reply, error) {
	for failures := 0; ; {
		info, err := c.lookUp(ctx, session, job, waitRound)
		var e *Error
		switch {
		case err == nil && info.Outcome.Final():
			if info.Reply == nil {
				return Reply{}, badReply("the job has ended (%s), but its reply is missing", info.Outcome)
			}
			return *info.Reply, info.Err
		case err == nil:
			failures = 0
			continue
		case errors.As(err, &e) && e.Retryable && ctx.Err() == nil && failures < waitErrors:
			failures++
		default:
			return Reply{}, err
		}
		select {
		case <-ctx.Done():
			return Reply{}, transport(ctx, ctx.Err(), job)
		case <-time.After(backoffBase << failures):
		}
	}
}

func (c *Client) lookUp(ctx context.Context, session, job string, wait time.Duration) (JobInfo, error) {
	return c.askJob(ctx, doorJobs, session, job, map[string]any{"wait_ms": wait.Milliseconds()}, wait)
}

// askJob asks a door about one job and reads where the job stands.
func (c *Client) askJob(ctx context.Context, door, session, job string, ask map[string]any, wait time.Duration) (JobInfo, error) {
	ask["job"] = job
	if session != "" {
		if _, err := sessionSubject("", session); err != nil {
			return JobInfo{}, err
		}
		ask["session"] = session
	}
	if !validToken(job, 64) {
		return JobInfo{}, &Error{Category: ErrPython, Code: CodeBadJob, Message: "the job id is not valid", Expected: "[A-Za-z0-9_-]{1,64}"}
	}
	ctx, cancel := context.WithTimeout(ctx, wait+settling)
	defer cancel()
	reply, err := c.admin(ctx, door, ask)
	if err != nil {
		return JobInfo{}, err
	}
	var w struct {
		Job, Session string
		Outcome      Outcome
		Attempts     int
		Reply        json.RawMessage
	}
	if err := reply.Decode(&w); err != nil {
		return JobInfo{}, badReply("the answer about the job is not the expected JSON: %v", err)
	}
	info := JobInfo{Job: w.Job, Session: w.Session, Outcome: w.Outcome, Attempts: w.Attempts}
	if len(w.Reply) > 0 && string(w.Reply) != "null" {
		r, err := parseReply(w.Reply)
		info.Reply, info.Err = &r, err
	}
	return info, nil
}

// admin asks one of the doors that run no job.
func (c *Client) admin(ctx context.Context, subject string, ask any) (Reply, error) {
	m := nats.NewMsg(subject)
	m.Header.Set(contentType, contentJSON)
	var err error
	if m.Data, err = json.Marshal(ask); err != nil {
		return Reply{}, err
	}
	ctx, cancel := bounded(ctx, settling)
	defer cancel()
	answer, err := c.request(ctx, m, "")
	if err != nil {
		return Reply{}, err
	}
	return readReply(answer)
}

// HealthStatus is the state of the pool.
type HealthStatus string

// A pool that cannot serve is an error of Health instead.
const (
	Healthy  HealthStatus = "healthy"
	Degraded HealthStatus = "degraded" // it serves, but something is missing
)

// Health is the answer to a health check.
type Health struct {
	Status  HealthStatus
	Reasons []string // why it is degraded, for people
	Stats   Stats
	Raw     json.RawMessage // all that was said
}

// Health measures the pool now. A pool that cannot serve is an error, whose category and message say why.
func (c *Client) Health(ctx context.Context) (Health, error) {
	reply, err := c.admin(ctx, doorHealth, struct{}{})
	if err != nil {
		return Health{}, err
	}
	var w struct {
		Status  HealthStatus `json:"status"`
		Reasons []string     `json:"reasons"`
		Stats   Stats        `json:"stats"`
	}
	if err := reply.Decode(&w); err != nil || w.Status == "" {
		return Health{}, badReply("the answer about the health is not the expected JSON")
	}
	w.Stats.Engine = reply.Engine
	return Health{Status: w.Status, Reasons: w.Reasons, Stats: w.Stats, Raw: reply.Result}, nil
}

// Stats are the pool's numbers, over all hosts.
type Stats struct {
	PoolSize            int   `json:"pool_size"`
	ActiveWorkers       int   `json:"active_workers"`    // of PoolSize, those that live
	AvailableWorkers    int   `json:"available_workers"` // of ActiveWorkers, those with a free slot
	ActiveSessions      int   `json:"active_sessions"`
	TotalRequests       int64 `json:"total_requests"`
	TotalErrors         int64 `json:"total_errors"`
	AverageResponseTime int64 `json:"average_response_time"` // milliseconds
	UptimeSeconds       int64 `json:"uptime_seconds"`

	AffinityHits   int64 `json:"affinity_hits"`   // jobs that ran where their session was warm
	AffinityMisses int64 `json:"affinity_misses"` // whose session was warm nowhere
	AffinityMoves  int64 `json:"affinity_moves"`  // whose session was warm in a worker without a free slot

	Engine string `json:"engine,omitempty"` // what runs the programs, such as "dspy 3.4.1"; "" while no worker has started
}

// Stats returns the pool's numbers.
func (c *Client) Stats(ctx context.Context) (Stats, error) {
	reply, err := c.admin(ctx, doorStats, struct{}{})
	if err != nil {
		return Stats{}, err
	}
	var stats Stats
	if err := reply.Decode(&stats); err != nil {
		return Stats{}, badReply("the answer about the pool is not the expected JSON: %v", err)
	}
	stats.Engine = reply.Engine
	return stats, nil
}
