package host

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/jobs"
)

// task is a job on its way to an outcome.
type task struct {
	*job

	session  jobs.SessionRef // without an id: an anonymous job
	req      jobs.Request
	total    time.Duration // of all of it, from its acceptance; 0: none
	attempt  int
	failures []jobs.Failure
	base     base // of the record that the attempt started from
	fresh    bool // its session was idle before it
	buried   bool // it has failed for good and goes to the dead letters

	// Of an anonymous job.
	lane      string
	delivered int // how often, the broker says
	gripping  sync.Mutex
	grip      grip

	model   jobs.Model // of the next attempt
	noModel *jobs.Error
	pass    passage // of the running attempt

	unstarted error      // why no worker could be started for it
	confirmed clock.Mono // when the record of the attempt had not been written yet, as late as is known
}

var errCancelled = errors.New("cancelled")

func cancelled() *jobs.Error {
	return jobs.Errorf(jobs.System, jobs.CodeCancelled, "the job was cancelled")
}

func (j *job) isCancelled() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.cancelled
}

// parse reads headers and body; the first error is the client's, the second says that the body could not be fetched.
func (t *task) parse(ctx context.Context, h *Host) (*jobs.Error, error) {
	body, err := h.body(ctx, t.job)
	if err != nil {
		return nil, fmt.Errorf("read the request again: %w", err)
	}
	return t.read(h, body), nil
}

func (t *task) read(h *Host, body []byte) *jobs.Error {
	req, bad := jobs.ParseRequest(t.env.Type, body, h.maxPayload/2)
	if t.job.bad != nil {
		bad = t.job.bad
	}
	if bad == nil {
		h.cfg.Defaults.Fill(&req)
	}
	t.req = req
	if bad == nil && t.env.Deadline > 0 && req.Deadline > 0 {
		bad = jobs.Errorf(jobs.Python, jobs.CodeBadOption, "the deadline is given twice")
		bad.Path, bad.Expected = "options.deadline", "either options.deadline or the header "+jobs.HeaderDeadline
	}
	d := max(t.env.Deadline, req.Deadline)
	if d == 0 && t.env.Mode == jobs.ModeCall && bad == nil {
		d = req.Total(h.cfg.CheckoutTimeout)
	}
	t.total = d
	if bad == nil {
		bad = t.env.Role.Forbids(req, t.from.Session)
	}
	return bad
}

// left is the time until the deadline.
func (t *task) left(h *Host) (time.Duration, bool) {
	if t.total == 0 {
		return 0, false
	}
	return h.leftOf(t.job, t.total), true
}

// budget is how long an attempt that starts now may take, and whether the deadline is what bounds it.
func (t *task) budget(h *Host) (d time.Duration, late bool) {
	if left, has := t.left(h); has && left < t.req.Timeout {
		return left, true
	}
	return t.req.Timeout, false
}

func crashed(attempt int) *jobs.Error {
	return jobs.Errorf(jobs.Connection, jobs.CodeCrashed, "attempt %d ended with its worker or host", attempt).Again()
}

func overdue() *jobs.Error {
	return jobs.Errorf(jobs.Timeout, jobs.CodeExpired, "the job's deadline passed while it ran").
		WithHint("give it more time (options.deadline, %s)", jobs.HeaderDeadline)
}

func (t *task) exhausted() bool { return t.attempt > t.req.Policy.Retries(crashed(t.attempt)) }

// avoids names the worker that the last attempt's code failed in: the next one may do better elsewhere. A language model that
// fails does so everywhere.
func (t *task) avoids() string {
	if len(t.failures) == 0 {
		return ""
	}
	last := t.failures[len(t.failures)-1]
	if last.Category != jobs.Python || (&jobs.Error{Code: last.Code}).Signs().LM != jobs.NoSign {
		return ""
	}
	return last.Worker
}

// note adds a failed attempt to the job's history.
func (h *Host) note(t *task, e *jobs.Error) {
	t.failures = jobs.BoundHistory(append(t.failures, jobs.NewFailure(t.attempt, e, h.now())), h.maxPayload/16)
}

// judge decides what the failure of the task's latest attempt leads to.
func (h *Host) judge(t *task, e *jobs.Error) jobs.Verdict {
	left, has := t.left(h)
	return jobs.Settle(e, t.attempt, t.req.Policy, left, has, rand.Float64)
}
