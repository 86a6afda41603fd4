package outcomes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dspex/dspex/internal/dispatch/endpoint"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// List lists a tenant's jobs. It keeps nothing for that: it reads the queues, and the outcomes that are kept.
type List struct{ Broker *stream.Access }

// Bounds of one request: what it answers, and what it reads for that.
const (
	listDefault = 100
	listMost    = 500
	listScan    = 10_000          // messages and outcomes
	listTime    = 2 * time.Second // then the page ends as it is
	listRecords = 250             // read at once
	listBytes   = 4 << 20         // of these
	listShape   = `{"session": "...", "outcome": "queued", "command": "...", "limit": 100, "cursor": "..."}`
	mostCommand = 256 // bytes of a filter
)

// stages are where a job stands that has no outcome.
var stages = []string{"queued", "running", "retrying"}

var kinds = []string{string(jobs.Succeeded), string(jobs.Failed), string(jobs.Cancelled), string(jobs.Expired)}

// listing is one request under way.
type listing struct {
	broker           *stream.Access
	of               jobs.SessionRef // without an id: of the whole tenant
	anonymous        bool
	outcome, command string
	older, newer     int64 // ms since the job was accepted, or ended
	limit            int64
	at               int    // the source that is read
	from             uint64 // and the first sequence there; 0: its beginning
	scanned          int
	found            []map[string]any
}

// source is a part of what is listed.
type source struct {
	stream, subject string // of a queue; of outcomes the pattern of their keys
}

func parseListing(r endpoint.Request) (*listing, *jobs.Error) {
	l := &listing{of: endpoint.SessionOf(r, ""), limit: listDefault, found: []map[string]any{}}
	all := slices.Concat(stages, kinds)
	bad := endpoint.ReadBody(r, listShape, map[string]*endpoint.Entry{
		"session":       endpoint.Text(&l.of.ID, endpoint.SessionShape, jobs.ValidSession),
		"anonymous":     endpoint.Bool(&l.anonymous),
		"outcome":       endpoint.Text(&l.outcome, strings.Join(all, ", "), func(s string) bool { return slices.Contains(all, s) }),
		"command":       endpoint.Text(&l.command, "a command", func(s string) bool { return s != "" && len(s) <= mostCommand }),
		"older_than_ms": endpoint.Int(&l.older, "milliseconds", 1, endpoint.AgeMost.Milliseconds()),
		"newer_than_ms": endpoint.Int(&l.newer, "milliseconds", 1, endpoint.AgeMost.Milliseconds()),
		"limit":         endpoint.Int(&l.limit, "jobs", 1, listMost),
		"cursor": endpoint.Text(new(string), "the cursor of the page before", func(s string) bool {
			_, err := fmt.Sscanf(s, "%d-%d", &l.at, &l.from)
			return err == nil && l.at >= 0 && fmt.Sprintf("%d-%d", l.at, l.from) == s
		}),
	})
	switch {
	case bad != nil:
		return nil, bad
	case l.of.ID != "" && l.anonymous:
		return nil, jobs.Refused(jobs.CodeBadRequest, "anonymous", "either a session or anonymous", "an anonymous job has no session")
	case l.command != "" && slices.Contains(kinds, l.outcome):
		return nil, jobs.Refused(jobs.CodeBadRequest, "command", strings.Join(stages, ", ")+" as outcome, or none", "outcomes do not keep the job's command")
	}
	return l, nil
}

// sources are what is read, in order: jobs without outcome, then outcomes.
func (l *listing) sources() (all []source) {
	sessions := l.of
	if sessions.ID == "" {
		sessions.ID = "*"
	}
	anonymous := jobs.Anonymous(l.of.Tenant)
	if !slices.Contains(kinds, l.outcome) {
		for _, subject := range sessions.QueueSubjects() {
			all = append(all, source{stream.Jobs, subject})
		}
		for _, subject := range anonymous.QueueSubjects() {
			all = append(all, source{stream.Anonymous, subject})
		}
	}
	if !slices.Contains(stages, l.outcome) && l.command == "" {
		all = append(all, source{stream.Results, sessions.ResultKey("*")}, source{stream.Results, anonymous.ResultKey("*")})
	}
	return slices.DeleteFunc(all, func(s source) bool {
		ofAnonymous := s.stream == stream.Anonymous || s.subject == anonymous.ResultKey("*")
		return l.anonymous && !ofAnonymous || l.of.ID != "" && ofAnonymous
	})
}

// Answer answers one page of the jobs.
func (l List) Answer(ctx context.Context, r endpoint.Request) {
	q, bad := parseListing(r)
	if bad != nil {
		endpoint.Refuse(r, bad)
		return
	}
	q.broker = l.Broker
	if err := q.read(ctx); err != nil {
		endpoint.Refuse(r, endpoint.Unreadable(err))
		return
	}
	result := map[string]any{"jobs": q.found}
	if q.at < len(q.sources()) {
		result["cursor"] = fmt.Sprintf("%d-%d", q.at, q.from)
	}
	endpoint.RespondResult(r, result)
}

var errListed = errors.New("the page is full")

// read fills the page, and leaves at and from where the next one begins.
func (l *listing) read(ctx context.Context) error {
	all, end := l.sources(), time.Now().Add(listTime)
	for l.at < len(all) && len(l.found) < int(l.limit) && l.scanned < listScan && time.Now().Before(end) {
		p := stream.Page{From: l.from, Messages: listRecords, Bytes: listBytes}
		if l.newer > 0 {
			p.Since = l.broker.Clock.Now().Add(-time.Duration(l.newer) * time.Millisecond)
		}
		page := l.queue
		if all[l.at].stream == stream.Results {
			page = l.outcomes
		}
		next, err := page(ctx, all[l.at], p)
		switch {
		case errors.Is(err, errListed): // from is behind the last one
		case err != nil:
			return err
		case next == 0:
			l.at, l.from = l.at+1, 0
		default:
			l.from = next
		}
	}
	return nil
}

// fits reports whether the job's age is requested.
func (l *listing) fits(stored time.Time) bool {
	age := l.broker.Clock.Age(stored).Milliseconds()
	return (l.older == 0 || age >= l.older) && (l.newer == 0 || age <= l.newer)
}

// add adds a job to the page.
func (l *listing) add(job map[string]any, sequence uint64) error {
	l.found = append(l.found, job)
	l.from = sequence + 1
	if len(l.found) == int(l.limit) {
		return errListed
	}
	return nil
}

// outcomes reads a page of outcomes.
func (l *listing) outcomes(ctx context.Context, of source, p stream.Page) (uint64, error) {
	return l.broker.Results.Page(ctx, of.subject, p, func(key string, e stream.Entry) error {
		l.scanned++
		if !e.Exists || !l.fits(e.Stored) {
			return nil
		}
		r, ours := l.outcomeAt(key, e.Value)
		if !ours || l.outcome != "" && string(r.Kind) != l.outcome {
			return nil
		}
		code := ""
		if e, failed := jobs.ErrorOf(r.Body); failed {
			code = e.Code
		}
		return l.add(map[string]any{"job": r.Job, "session": endpoint.OrNil(r.Session), "outcome": string(r.Kind), "attempts": r.Attempt,
			"ended_at": endpoint.TimeText(e.Stored), "code": endpoint.OrNil(code)}, e.Revision)
	})
}

// outcomeAt reads an outcome. A foreign value under the key is none: the health check reports it.
func (l *listing) outcomeAt(key string, value []byte) (r *jobs.Result, ours bool) {
	r, err := jobs.ParseResult(value)
	if err != nil {
		return nil, false
	}
	return r, jobs.SessionRef{Tenant: l.of.Tenant, ID: r.Session}.ResultKey(r.Job) == key
}
