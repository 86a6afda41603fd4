package lifecycle

import (
	"time"

	"github.com/dspex/dspex/internal/clock"
	"github.com/dspex/dspex/internal/jobs"
)

// Job is one delivered message.
type Job struct {
	Sequence uint64
	Stored   time.Time // broker's clock
	Env      jobs.Envelope
	Trace    string      // id of its trace, "" if it has none
	Bad      *jobs.Error // what is wrong with the headers
	Size     int
	Data     []byte // nil when it was not kept: it is read again when the job starts
	Unkept   bool   // the host has no room for its payload
	Delivery string // acknowledgements of the latest delivery go there
	Came     clock.Mono

	Delivered int    // how often, by the broker's count. Of an anonymous job
	Lane      string // of an anonymous job

	bound     time.Duration // of all of it, from its acceptance; 0: no deadline. Known after Weigh
	weighed   bool
	repeat    bool // an earlier job of this id was there when it came: that one's outcome is its own
	answered  bool // ended early, result and reply are out
	pended    bool // a waiting caller got outcome_pending at the deadline
	cancelled bool
}

// Weigh reads the deadline while the payload is at hand.
func (j *Job) Weigh(cfg *Config) {
	t := Task{Job: j}
	_ = t.read(cfg, j.Data) // what is wrong with it is reported at its turn
	j.bound, j.weighed = t.total, true
}

// Bound is how long the job may take, from its acceptance; 0: it has no deadline. It is known after Weigh.
func (j *Job) Bound() time.Duration { return j.bound }

// expires reports whether the job has a deadline of its own to wait for.
func (j *Job) expires() bool { return j.bound > 0 && !j.repeat && !j.answered }

// Task is a job on its way to an outcome.
type Task struct {
	*Job

	Session  jobs.SessionRef // without an id: an anonymous job
	Req      jobs.Request
	Attempt  int
	Failures []jobs.Failure

	// Of the attempt that is made.
	LM           []byte        // Acquire: the session's choice of language model
	Prefer       uint64        // Acquire: the worker that holds the session's state, 0: none
	Avoid        string        // Acquire: a worker to take only if no other has a slot
	Fresh        bool          // Acquire: the session had no work a moment before the job came
	Budget       time.Duration // how long it may take
	State        []byte        // Call: of the session
	StateVersion uint64
	Label        jobs.StateOf

	total  time.Duration // of all of it, from its acceptance; 0: no deadline
	bad    *jobs.Error
	parsed bool
	from   *jobs.AttemptRecord // what its earlier attempts were taken up from, nil: nothing was known
	base   base

	overtaken bool // another epoch has written an attempt down since

	confirmed clock.Mono // when the record of the attempt had not been written yet, or the partition was this epoch's, as late as is known
	dead      bool       // it has failed permanently and goes to the dead letters
	late      bool       // the deadline is what bounds the attempt
}

// read takes the request; what is wrong is the client's.
func (t *Task) read(cfg *Config, body []byte) *jobs.Error {
	req, bad := jobs.ParseRequest(t.Env.Type, body, cfg.MaxPayload/2)
	if t.Job.Bad != nil {
		bad = t.Job.Bad
	}
	if bad == nil {
		cfg.Defaults.Fill(&req)
	}
	t.Req = req
	if bad == nil && t.Env.Deadline > 0 && req.Deadline > 0 {
		bad = jobs.Errorf(jobs.Python, jobs.CodeBadOption, "the deadline is given twice")
		bad.Path, bad.Expected = "options.deadline", "either options.deadline or the header "+jobs.HeaderDeadline
	}
	d := max(t.Env.Deadline, req.Deadline)
	if d == 0 && t.Env.Mode == jobs.ModeCall && bad == nil {
		d = req.Total(cfg.CheckoutTimeout)
	}
	t.total = d
	if bad == nil {
		bad = t.Env.Role.Forbids(req, t.Session)
	}
	return bad
}

// crashedOut reports whether the job has crashed once too often.
func (t *Task) crashedOut() bool {
	return len(t.Failures) > 0 && t.Failures[len(t.Failures)-1].Code == jobs.CodeCrashed && t.Attempt > t.Req.Policy.Retries(crashed(t.Attempt))
}

// avoids names the worker that the last attempt's code failed in: the next one may do better elsewhere. A language model that
// fails does so everywhere.
func (t *Task) avoids() string {
	if len(t.Failures) == 0 {
		return ""
	}
	last := t.Failures[len(t.Failures)-1]
	if last.Category != jobs.Python || (&jobs.Error{Code: last.Code}).Signs().LM != jobs.NoSign {
		return ""
	}
	return last.Worker
}

func cancelled() *jobs.Error {
	return jobs.Errorf(jobs.System, jobs.CodeCancelled, "the job was cancelled")
}

func crashed(attempt int) *jobs.Error {
	return jobs.Errorf(jobs.Connection, jobs.CodeCrashed, "attempt %d ended with its worker or host", attempt).Again()
}

// overran is the error of an attempt that took all the time it had.
func (t *Task) overran() *jobs.Error {
	if t.late {
		return jobs.Errorf(jobs.Timeout, jobs.CodeExpired, "the job's deadline passed while it ran").
			WithHint("give it more time (options.deadline, %s)", jobs.HeaderDeadline)
	}
	return jobs.Errorf(jobs.Timeout, jobs.CodeOperationTimeout, "the attempt took longer than %v", t.Budget.Round(time.Millisecond)).
		WithHint("options.timeout bounds one attempt").Again()
}

// KindOf is the kind of outcome that a job with the error e has; nil is success.
func KindOf(e *jobs.Error) jobs.Kind {
	switch {
	case e == nil:
		return jobs.Succeeded
	case e.Code == jobs.CodeExpired:
		return jobs.Expired
	case e.Code == jobs.CodeCancelled:
		return jobs.Cancelled
	}
	return jobs.Failed
}

// base is what an attempt builds on. If the record has moved on when it ends, its effect is void.
type base struct {
	stream              int64
	sequence, gen, data uint64
}
