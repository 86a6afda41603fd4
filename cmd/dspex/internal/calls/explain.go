package calls

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/cmd/dspex/internal/cli"
)

func jobsExplainCommand(a *cli.App) *cobra.Command {
	var session string
	cmd := &cobra.Command{
		Use: "explain JOB", Short: "Say in a sentence why a job waits, or why it failed",
		Long: `Say in a sentence why a job waits and what would let it run, or how it ended. Sessions, hosts and breakers need the rights of an
operator; without them it says what the job itself shows.

Exit status: 0 also for a job that failed. Otherwise as for call.`,
		Example: "  dspex jobs explain order-1 --session user_123",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := cli.SessionGiven(cmd); err != nil {
				return err
			}
			return a.WithClient(cmd.Context(), func(ctx context.Context, c *dspex.Client) error {
				job, err := c.GetJob(ctx, dspex.JobRef{Session: session, ID: args[0]})
				if err != nil {
					return err
				}
				e := explain(look(ctx, c, job))
				if !a.Text() {
					return a.Say(map[string]any{"job": job.ID, "session": job.Session, "outcome": job.Status, "attempts": job.Attempts, "why": e.why, "next": e.next})
				}
				fmt.Fprintln(a.Out, cli.Word(e.why))
				if e.next != "" {
					fmt.Fprintln(a.Out, a.Paint(a.Out, cli.Dim, cli.Word(e.next)))
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&session, "session", "", "the job's session; without it the job is anonymous")
	return cmd
}

// facts are what is known of a job and of what it may wait for. What could not be read is nil.
type facts struct {
	job      dspex.Job
	session  *dspex.SessionDetails
	hosts    []dspex.HostInfo
	breakers []dspex.Breaker
}

// look reads what a job may wait for.
func look(ctx context.Context, c *dspex.Client, job dspex.Job) facts {
	f := facts{job: job}
	if job.Status.Final() {
		return f
	}
	if job.Session != "" {
		if s, err := c.Admin().GetSession(ctx, job.Session); err == nil {
			f.session = &s
		}
	}
	if h, err := c.Admin().Hosts(ctx); err == nil {
		f.hosts = append([]dspex.HostInfo{}, h.Hosts...)
	}
	f.breakers, _ = c.Admin().Breakers(ctx)
	return f
}

// explanation is why a job is where it is, and what comes next.
type explanation struct{ why, next string }

func explain(f facts) explanation {
	switch job := f.job; job.Status {
	case dspex.JobSucceeded:
		return explanation{"it succeeded in attempt " + fmt.Sprint(max(job.Attempts, 1)), ""}
	case dspex.JobCancelled:
		return explanation{fmt.Sprintf("it was cancelled after %s", attempts(job.Attempts)), ""}
	case dspex.JobExpired, dspex.JobFailed:
		return explainFailure(job)
	case dspex.JobRunning:
		return explanation{fmt.Sprintf("attempt %d runs%s", max(job.Attempts, 1), f.where()), "it ends with its result, its timeout, or `dspex jobs cancel`"}
	case dspex.JobRetrying:
		why := fmt.Sprintf("attempt %d failed, and the next one waits for its delay", max(job.Attempts, 1))
		if b := f.open("lm."); b != nil {
			return explanation{fmt.Sprintf("attempt %d failed, and the circuit breaker %s is open%s", max(job.Attempts, 1), b.Name, lastFailure(b)), trial(b)}
		}
		return explanation{why, "`dspex events --attempts` shows each attempt with its error"}
	}
	if f.job.Session != "" {
		return f.queuedInSession()
	}
	return f.queued("")
}

func explainFailure(job dspex.Job) explanation {
	verb := "failed"
	if job.Status == dspex.JobExpired {
		verb = "expired"
	}
	var e *dspex.Error
	if !errors.As(job.Err, &e) {
		return explanation{fmt.Sprintf("it %s after %s", verb, attempts(job.Attempts)), ""}
	}
	return explanation{fmt.Sprintf("it %s after %s: %s %s: %s", verb, attempts(job.Attempts), e.Category, e.Code, e.Message), e.Hint}
}

// queuedInSession is why a job of a session waits: the jobs before it, a session that nobody serves, or what any job waits for.
func (f facts) queuedInSession() explanation {
	s := f.session
	switch {
	case s == nil:
		return explanation{"it waits for its turn in the session, or for a free worker", "operators see more"}
	case s.Running != nil && s.Running.ID != f.job.ID:
		verb := "wait"
		if s.WaitingJobs == 1 {
			verb = "waits"
		}
		why := fmt.Sprintf("the session works on job %s (attempt %d), and %d %s", s.Running.ID, max(s.Running.Attempt, 1), s.WaitingJobs, verb)
		if s.OldestWaiting > 0 {
			why += ", the oldest for " + cli.Span(s.OldestWaiting)
		}
		return explanation{why, fmt.Sprintf("a session runs its jobs one at a time, in order: `dspex jobs explain %s --session %s` says what that one does", s.Running.ID, f.job.Session)}
	case s.Host == "" && f.hosts != nil && f.alive() == 0:
		return explanation{"no worker-host is alive", "start a worker-host: the job is kept"}
	case s.Host == "":
		return explanation{fmt.Sprintf("no host serves the session at the moment: its partition %d moves", s.Partition), "this takes seconds; `dspex top` shows the hosts"}
	}
	return f.queued(s.Host)
}

// queued is why a job waits that is next: a breaker, or slots. host "" stands for any.
func (f facts) queued(host string) explanation {
	if f.hosts == nil {
		return explanation{"it waits for a free worker", "operators see more"}
	}
	if f.alive() == 0 {
		return explanation{"no worker-host is alive", "start a worker-host: the job is kept"}
	}
	for _, kind := range []string{"start.", "pool."} {
		if b := f.open(kind + host); b != nil && host != "" { // other hosts may run a job without a session
			return explanation{fmt.Sprintf("the circuit breaker %s is open%s", b.Name, lastFailure(b)), trial(b)}
		}
	}
	free, all := 0, 0
	for _, h := range f.hosts {
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
		return explanation{of + " takes no new work: it drains or stops", "`dspex hosts resume` lets a drained host serve again"}
	case free == 0:
		return explanation{fmt.Sprintf("all %d slots of %s are busy", all, of), "it runs when one is free; more workers or hosts add slots"}
	}
	return explanation{fmt.Sprintf("nothing holds it: %d of %d slots of %s are free", free, all, of), "it should start within a second; if it does not, `dspex doctor` looks for the reason"}
}

func (f facts) alive() (n int) {
	for _, h := range f.hosts {
		if h.State != dspex.HostGone {
			n++
		}
	}
	return n
}

// open is the first open breaker whose name begins so.
func (f facts) open(prefix string) *dspex.Breaker {
	for i, b := range f.breakers {
		if b.State == dspex.BreakerOpen && strings.HasPrefix(b.Name, prefix) {
			return &f.breakers[i]
		}
	}
	return nil
}

func (f facts) where() string {
	if f.session == nil || f.session.Host == "" {
		return ""
	}
	return " on host " + f.session.Host
}

func lastFailure(b *dspex.Breaker) string {
	if b.LastFailure == nil {
		return ""
	}
	return ", last because of " + b.LastFailure.What
}

func trial(b *dspex.Breaker) string {
	return fmt.Sprintf("it lets a trial through in %s; `dspex breakers reset %s` does so now", cli.Span(max(b.RetryIn, time.Second)), b.Name)
}

func attempts(n int) string {
	if n == 1 {
		return "1 attempt"
	}
	return fmt.Sprintf("%d attempts", n)
}
