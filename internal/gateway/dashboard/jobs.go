package dashboard

import (
	"bytes"
	"cmp"
	"container/list"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/insight"
)

const pageSize = 50 // rows of a list

var errBusy = errors.New("the gateway has as many viewers as it may: close other pages, or try again later")

// jobFilter chooses among the jobs that were seen.
type jobFilter struct{ Session, State, Command string }

func (f jobFilter) match(t *track) bool {
	return strings.HasPrefix(t.Session, f.Session) && (f.State == "" || f.State == t.State() || f.State == "failed" && t.failed != nil) && (f.Command == "" || f.Command == t.Command)
}

// list returns some of the jobs that were seen, the newest first, and whether there are more.
func (t *tail) list(match func(*track) bool, skip, most int) (found []track, more bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.latest == nil {
		return nil, false
	}
	all := make([]*track, 0, len(t.jobs))
	for _, j := range t.jobs {
		if len(j.Attempts) > 0 && match(j) {
			all = append(all, j)
		}
	}
	slices.SortFunc(all, func(a, b *track) int { return cmp.Or(b.At.Compare(a.At), strings.Compare(a.Job, b.Job)) })
	for _, j := range all[min(skip, len(all)):] {
		if len(found) == most {
			return found, true
		}
		found = append(found, j.copy())
	}
	return found, false
}

func (t *track) copy() track {
	c := *t
	c.Attempts = slices.Clone(t.Attempts)
	slices.SortFunc(c.Attempts, func(a, b attempt) int { return a.Number - b.Number })
	c.place, c.failed = nil, (*list.Element)(nil)
	return c
}

// jobRows is the list of jobs, as a page and as the part of it that moves.
type jobRows struct {
	Rows     []track
	Page     int
	Next     string // address of the next page
	Previous string
	Filtered bool
	Lost     int
	Tenants  bool // of several tenants
}

func (w *watch) jobList(f jobFilter, page int) jobRows {
	rows, more := w.tail.list(f.match, (page-1)*pageSize, pageSize)
	out := jobRows{Rows: rows, Page: page, Filtered: f != jobFilter{}, Tenants: len(w.tenants()) > 1 && !w.scope.filtered}
	address := func(n int) string {
		q := url.Values{"page": {strconv.Itoa(n)}}
		for key, value := range map[string]string{"session": f.Session, "state": f.State, "command": f.Command} {
			if value != "" {
				q.Set(key, value)
			}
		}
		return Root + "/jobs?" + q.Encode()
	}
	if more {
		out.Next = address(page + 1)
	}
	if page > 1 {
		out.Previous = address(page - 1)
	}
	w.tail.mu.Lock()
	out.Lost = w.tail.lost
	w.tail.mu.Unlock()
	return out
}

// jobs is the list of the latest jobs, and a form that finds one by its id.
func (s *Server) jobs(_ context.Context, r *http.Request, sc scope) (any, error) {
	w, err := s.watch(sc)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	f := jobFilter{q.Get("session"), q.Get("state"), q.Get("command")}
	page := pageOf(q.Get("page"), mostJobs+mostFailed)
	return struct {
		Fleet  bool
		Filter jobFilter
		States []string
		List   jobRows
		Live   bool
	}{sc.fleet(), f, []string{"running", "succeeded", "failed"}, w.jobList(f, page), f == jobFilter{} && page == 1}, nil
}

func pageOf(text string, most int) int {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 1
	}
	return min(n, most/pageSize+1)
}

// jobView is everything about one job.
type jobView struct {
	Job      dspex.Job
	Why      insight.Explanation
	Attempts []attempt
	Error    *dspex.Error
	Line     timeline
	Letter   *dspex.DeadLetter
	Shown    string // the result, once it was requested
	Size     int
	Show     string // address that shows it
	Live     bool
	Cancel   bool
	Trace    string // address of its trace
	Command  string
}

// traceID is what the id of a trace is like.
var traceID = regexp.MustCompile(`^[0-9a-f]{32}$`)

// job is the page of one job.
func (s *Server) job(ctx context.Context, r *http.Request, sc scope) (any, error) {
	q := r.URL.Query()
	ref := dspex.JobRef{Session: q.Get("session"), ID: q.Get("id")}
	if err := sc.maySee(ref); err != nil {
		return nil, err
	}
	found, err := sc.client.GetJob(ctx, ref)
	if err != nil {
		return nil, err
	}
	v := jobView{Job: found, Live: !found.Status.Final(), Error: asError(found.Err)}
	v.Cancel = v.Live && sc.operates
	if s.Trace != "" && traceID.MatchString(found.TraceID) {
		v.Trace = strings.ReplaceAll(s.Trace, TraceID, found.TraceID)
	}
	v.Why = insight.Explain(sc.facts(ctx, found))
	if w, err := s.watch(sc); err == nil {
		v.Attempts, v.Command = w.tail.attempts(sc, ref)
	}
	if sc.operates && found.Status == dspex.JobFailed {
		v.Letter = sc.deadLetterOf(ctx, ref)
	}
	if v.Letter != nil {
		if all, err := sc.client.Admin().GetDeadLetter(ctx, v.Letter.Sequence); err == nil {
			v.Attempts = withFailures(v.Attempts, all.Failures)
			v.Command = all.Command
		}
	}
	if found.Reply != nil {
		v.Attempts = withReply(v.Attempts, found)
		v.Size = len(found.Reply.Result)
		if q.Get("show") == "result" {
			v.Shown = pretty(found.Reply.Result)
		}
	}
	v.Line = lineOf(pieces(v.Attempts, v.queued(), v.accepted(), time.Now()))
	v.Show = Root + "/job?" + url.Values{"id": {ref.ID}, "session": {ref.Session}, "show": {"result"}}.Encode() + "#result"
	return v, nil
}

// accepted is when the job was accepted, zero if that is not known.
func (v jobView) accepted() time.Time {
	if v.Letter != nil {
		return v.Letter.AcceptedAt
	}
	return time.Time{}
}

// queued is how long the job waited for its last attempt.
func (v jobView) queued() time.Duration {
	if v.Job.Reply == nil {
		return 0
	}
	return v.Job.Reply.Queued
}

// maySee refuses a job or session that is not the caller's.
func (sc scope) maySee(job dspex.JobRef) error {
	name := cmp.Or(job.Session, job.ID)
	if !strings.HasPrefix(name, sc.prefix) {
		return &dspex.Error{Category: dspex.ErrSession, Code: "job_unknown", Message: "the token is for other sessions and jobs", Hint: "their names begin with " + sc.prefix}
	}
	return nil
}

// facts are what the job may wait for, as far as the caller may see it.
func (sc scope) facts(ctx context.Context, job dspex.Job) insight.Facts {
	if !sc.operates {
		return insight.Facts{Job: job}
	}
	if !sc.fleet() || sc.filtered { // a tenant's client does not query hosts
		f := insight.Facts{Job: job}
		if session, err := sc.client.Admin().GetSession(ctx, job.Session); job.Session != "" && !job.Status.Final() && err == nil {
			f.Session = &session
		}
		return f
	}
	return insight.Look(ctx, sc.client, job)
}

// attempts are those that were seen of a job.
func (t *tail) attempts(sc scope, job dspex.JobRef) ([]attempt, string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	j := t.jobs[jobKey{sc.tenant, job.Session, job.ID}]
	if j == nil {
		return nil, ""
	}
	c := j.copy()
	return c.Attempts, c.Command
}

// deadLetterOf is the dead letter of a job, if one of the latest of its session is.
func (sc scope) deadLetterOf(ctx context.Context, job dspex.JobRef) *dspex.DeadLetter {
	page, err := sc.client.Admin().DeadLettersPage(ctx, dspex.DeadLetterFilter{Session: job.Session, Anonymous: job.Session == "", Limit: 100}, "")
	if err != nil {
		return nil
	}
	for i, l := range page.Items {
		if l.Job.ID == job.ID {
			return &page.Items[i]
		}
	}
	return nil
}

// withFailures adds the failed attempts in a dead letter.
func withFailures(seen []attempt, failures []dspex.AttemptFailure) []attempt {
	for _, f := range failures {
		if i := slices.IndexFunc(seen, func(a attempt) bool { return a.Number == f.Attempt }); i >= 0 {
			seen[i].Category, seen[i].Code, seen[i].Worker = string(f.Category), f.Code, cmp.Or(seen[i].Worker, f.Worker)
			continue
		}
		seen = append(seen, attempt{Number: f.Attempt, Worker: f.Worker, At: f.At, Category: string(f.Category), Code: f.Code})
	}
	slices.SortFunc(seen, func(a, b attempt) int { return a.Number - b.Number })
	return seen
}

// withReply adds the last attempt, which the reply describes.
func withReply(seen []attempt, job dspex.Job) []attempt {
	r := job.Reply
	if r.Attempt < 1 || slices.ContainsFunc(seen, func(a attempt) bool { return a.Number == r.Attempt }) {
		return seen
	}
	a := attempt{Number: r.Attempt, Host: r.Host, Worker: r.Worker, Ran: float64(r.Run.Microseconds()) / 1000}
	if e := asError(job.Err); e != nil {
		a.Category, a.Code = string(e.Category), e.Code
	}
	return append(seen, a)
}

// mostShown bounds what a page shows of a body.
const mostShown = 32 << 10

// pretty is a body for reading.
func pretty(raw json.RawMessage) string {
	var b bytes.Buffer
	if json.Indent(&b, raw, "", "  ") != nil {
		b.Reset()
		b.Write(raw)
	}
	if b.Len() > mostShown {
		return b.String()[:mostShown] + "\n… (" + insight.Size(b.Len()-mostShown) + " more: `dspex jobs get` shows all)"
	}
	return b.String()
}

// overview is the first page: all of it moves.
func (s *Server) overview(_ context.Context, _ *http.Request, sc scope) (any, error) {
	w, err := s.watch(sc)
	if err != nil {
		return nil, err
	}
	failed, _ := w.tail.list(func(t *track) bool { return t.failed != nil }, 0, 8)
	return struct{ Failed []track }{failed}, nil
}
