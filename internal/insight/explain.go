package insight

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dspex/dspex"
)

// Facts are what is known of a job and of what it may wait for. What could not be read is nil.
type Facts struct {
	Job      dspex.Job
	Session  *dspex.SessionDetails
	Hosts    []dspex.HostInfo
	Breakers []dspex.Breaker
}

// Look reads what a job may wait for.
func Look(ctx context.Context, c *dspex.Client, job dspex.Job) Facts {
	f := Facts{Job: job}
	if job.Status.Final() {
		return f
	}
	if job.Session != "" {
		if s, err := c.Admin().GetSession(ctx, job.Session); err == nil {
			f.Session = &s
		}
	}
	if h, err := c.Admin().Hosts(ctx); err == nil {
		f.Hosts = append([]dspex.HostInfo{}, h.Hosts...)
	}
	f.Breakers, _ = c.Admin().Breakers(ctx)
	return f
}

// Explanation is why a job is where it is, and what comes next.
type Explanation struct{ Why, Next string }

// Explain reports why a job is where it is.
func Explain(f Facts) Explanation {
	switch job := f.Job; job.Status {
	case dspex.JobSucceeded:
		return Explanation{"it succeeded in attempt " + fmt.Sprint(max(job.Attempts, 1)), ""}
	case dspex.JobCancelled:
		return Explanation{fmt.Sprintf("it was cancelled after %s", attempts(job.Attempts)), ""}
	case dspex.JobExpired, dspex.JobFailed:
		return explainFailure(job)
	case dspex.JobRunning:
		return Explanation{fmt.Sprintf("attempt %d runs%s", max(job.Attempts, 1), f.where()), "it ends with its result, its timeout, or `dspex jobs cancel`"}
	case dspex.JobRetrying:
		if b := f.open("lm."); b != nil {
			return Explanation{fmt.Sprintf("attempt %d failed, and the circuit breaker %s is open%s", max(job.Attempts, 1), b.Name, lastFailure(b)), trial(b)}
		}
		next := "the next one waits for its delay"
		if job.RetryIn > 0 {
			next = "retry in " + Span(job.RetryIn+time.Second-1) // rounded up
		}
		return Explanation{fmt.Sprintf("attempt %d failed, %s", max(job.Attempts, 1), next), "`dspex events --attempts` shows each attempt with its error"}
	}
	if f.Job.Session != "" {
		return f.queuedInSession()
	}
	return f.queued("")
}

func explainFailure(job dspex.Job) Explanation {
	verb := "failed"
	if job.Status == dspex.JobExpired {
		verb = "expired"
	}
	var e *dspex.Error
	if !errors.As(job.Err, &e) {
		return Explanation{fmt.Sprintf("it %s after %s", verb, attempts(job.Attempts)), ""}
	}
	return Explanation{fmt.Sprintf("it %s after %s: %s %s: %s", verb, attempts(job.Attempts), e.Category, e.Code, e.Message), e.Hint}
}

// queuedInSession is why a job of a session waits: the jobs before it, a session without a host, or what any job waits for.
func (f Facts) queuedInSession() Explanation {
	s := f.Session
	switch {
	case s == nil:
		return Explanation{"it waits for its turn in the session, or for a free worker", "operators see more"}
	case s.Running != nil && s.Running.ID != f.Job.ID:
		verb := "wait"
		if s.WaitingJobs == 1 {
			verb = "waits"
		}
		why := fmt.Sprintf("the session works on job %s (attempt %d), and %d %s", s.Running.ID, max(s.Running.Attempt, 1), s.WaitingJobs, verb)
		if s.OldestWaiting > 0 {
			why += ", the oldest for " + Span(s.OldestWaiting)
		}
		return Explanation{why, fmt.Sprintf("a session runs its jobs one at a time, in order: `dspex jobs explain %s --session %s` shows that one", s.Running.ID, f.Job.Session)}
	case s.Host == "" && f.Hosts != nil && f.alive() == 0:
		return Explanation{"no worker-host is alive", "start a worker-host: the job is kept"}
	case s.Host == "":
		return Explanation{fmt.Sprintf("no host serves the session at the moment: its partition %d moves", s.Partition), "this takes seconds; `dspex top` shows the hosts"}
	}
	return f.queued(s.Host)
}

// queued is why a job waits that is next: a breaker, or slots. host "" stands for any.
func (f Facts) queued(host string) Explanation {
	if f.Hosts == nil {
		return Explanation{"it waits for a free worker", "operators see more"}
	}
	if f.alive() == 0 {
		return Explanation{"no worker-host is alive", "start a worker-host: the job is kept"}
	}
	for _, kind := range []string{"start.", "pool."} {
		if b := f.open(kind + host); b != nil && host != "" { // other hosts may run a job without a session
			return Explanation{fmt.Sprintf("the circuit breaker %s is open%s", b.Name, lastFailure(b)), trial(b)}
		}
	}
	free, all := 0, 0
	for _, h := range f.Hosts {
		if h.State == dspex.HostServing && (host == "" || h.Host == host) {
			free, all = free+h.Free, all+h.Capacity
		}
	}
	of := "the hosts"
	if host != "" {
		of = "host " + host
	}
	switch {
	case all == 0:
		return Explanation{of + " takes no new work: it drains or stops", "`dspex hosts resume` lets a drained host serve again"}
	case free == 0:
		return Explanation{fmt.Sprintf("all %d slots of %s are busy", all, of), "it runs when one is free; more workers or hosts add slots"}
	}
	return Explanation{fmt.Sprintf("nothing holds it: %d of %d slots of %s are free", free, all, of), "it should start within a second; if it does not, `dspex doctor` looks for the reason"}
}

func (f Facts) alive() (n int) {
	for _, h := range f.Hosts {
		if h.State != dspex.HostGone {
			n++
		}
	}
	return n
}

// open is the first open breaker whose name begins so.
func (f Facts) open(prefix string) *dspex.Breaker {
	for i, b := range f.Breakers {
		if b.State == dspex.BreakerOpen && strings.HasPrefix(b.Name, prefix) {
			return &f.Breakers[i]
		}
	}
	return nil
}

func (f Facts) where() string {
	if f.Session == nil || f.Session.Host == "" {
		return ""
	}
	return " on host " + f.Session.Host
}

func lastFailure(b *dspex.Breaker) string {
	if b.LastFailure == nil {
		return ""
	}
	return ", last because of " + b.LastFailure.What
}

func trial(b *dspex.Breaker) string {
	return fmt.Sprintf("it lets a trial through in %s; `dspex breakers reset %s` does so now", Span(max(b.RetryIn, time.Second)), b.Name)
}

func attempts(n int) string {
	if n == 1 {
		return "1 attempt"
	}
	return fmt.Sprintf("%d attempts", n)
}
