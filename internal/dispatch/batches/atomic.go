package batches

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/dspex/dspex/internal/batch"
	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
	"github.com/dspex/dspex/internal/wire"
)

// Atomic stores jobs that are wanted all or none, as a client publishes each (contract/job.md, jobs.submit; ADR 71).
type Atomic struct {
	*store
	open places
}

// NewAtomic makes one. It has no state of its own.
func NewAtomic(cfg Config) *Atomic {
	return &Atomic{store: &store{Access: cfg.Broker, cfg: cfg}, open: places{of: map[string]int{}}}
}

// The broker lets a stream have 50 atomic batches open at a time, whose they may be. So of these, several dispatchers may have several tenants'.
const (
	mostOpen         = 12 // of all tenants
	mostOpenOfTenant = 2
)

// places counts the submissions that are being stored.
type places struct {
	mu  sync.Mutex
	all int
	of  map[string]int // by tenant
}

func (p *places) take(tenant string) *jobs.Error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all >= mostOpen || p.of[tenant] >= mostOpenOfTenant {
		e := jobs.Errorf(jobs.Resource, jobs.CodeOverloaded, "too many submissions at once: at most %d of a tenant, and %d of all", mostOpenOfTenant, mostOpen).
			WithHint("retry after retry_after_ms").Again()
		e.RetryAfter = waitPause
		return e
	}
	p.all++
	p.of[tenant]++
	return nil
}

func (p *places) leave(tenant string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all--
	if p.of[tenant]--; p.of[tenant] == 0 {
		delete(p.of, tenant)
	}
}

// entry is a job of a submission.
type entry struct {
	batch.Line
	job, lane, replyTo string
}

// Submit stores all jobs of a request, or none. Stored ones may be submitted again: the owner of the session, or of the lane, knows their ids.
func (a *Atomic) Submit(ctx context.Context, r Request) Answer {
	all, invalid, bad := a.read(r)
	switch {
	case bad != nil:
		return refused(bad)
	case len(invalid) > 0:
		e := badBatch(len(invalid))
		e.Hint = "`invalid` lists them with their errors"
		return Answer{Err: e, Invalid: invalid}
	}
	to := streamOf(all[0])
	if bad := cmp.Or(oneStream(all), a.cfg.Refusal(to)); bad != nil {
		return refused(bad)
	}
	if bad := a.open.take(r.Tenant); bad != nil {
		return refused(bad)
	}
	defer a.open.leave(r.Tenant)
	if bad := a.cfg.Admit(r.Tenant, len(all)); bad != nil {
		return refused(bad)
	}
	if bad := a.keep(ctx, r, to, all); bad != nil {
		return refused(bad)
	}
	out := wire.AppendArray(wire.AppendStr(wire.AppendMap(nil, 1), "jobs"), len(all))
	for _, j := range all {
		out = wire.AppendStr(out, j.job)
	}
	return Answer{Result: out}
}

func streamOf(j entry) string {
	if j.Session == "" {
		return stream.Anonymous
	}
	return stream.Jobs
}

// oneStream refuses jobs that the broker cannot store all or none.
func oneStream(all []entry) *jobs.Error {
	for i, j := range all {
		if (j.Session == "") != (all[0].Session == "") {
			return jobs.Refused(jobs.CodeBadRequest, "jobs", "all jobs with a session, or all without", "job 0 and job %d differ in whether they have a session", i).
				WithHint("submit them in two requests, or as a batch (dspex.rpc.batches.submit), which takes both kinds")
		}
	}
	return nil
}

var (
	submittedShape    = `{"job": "...", "session": "...", "command": "...", "args": {...}, "options": {...}}`
	expectedSubmitted = fmt.Sprintf("a list of 1 to %d jobs", contract.MaxTogether)
)

// read checks each job as one that comes alone.
func (a *Atomic) read(r Request) (all []entry, invalid []Invalid, bad *jobs.Error) {
	var list []byte
	b, bad := newBody(r.Type, r.Body)
	if bad != nil {
		return nil, nil, bad
	}
	b.may("jobs", expectedSubmitted, func(in *wire.Reader) bool { list = in.Rest(); return in.Kind() == wire.Array })
	if bad := b.read("jobs"); bad != nil {
		return nil, nil, bad
	}
	in := wire.NewReader(list)
	n, err := in.Array()
	if err != nil || n < 1 || n > contract.MaxTogether {
		return nil, nil, jobs.Refused(jobs.CodeBadRequest, "jobs", expectedSubmitted, "the request has %d jobs", n).
			WithHint("a batch (dspex.rpc.batches.submit) takes up to %d", batch.MaxJobs)
	}
	type name struct{ session, job string }
	first := make(map[name]int, n)
	all = make([]entry, n)
	for i := range all {
		raw, err := in.Raw()
		if err != nil {
			return nil, nil, jobs.Unreadable(err)
		}
		j := &all[i]
		bad := a.readEntry(r.Tenant, raw, j)
		if bad == nil {
			if before, has := first[name{j.Session, j.job}]; has {
				bad = jobs.Refused(jobs.CodeBadJob, "job", "an id of its own", "job %d of the list has the same id", before)
			}
		}
		if bad != nil {
			invalid = append(invalid, Invalid{i, bad})
			continue
		}
		first[name{j.Session, j.job}] = i
	}
	return all, invalid, nil
}

func (a *Atomic) readEntry(tenant string, raw []byte, j *entry) (bad *jobs.Error) {
	j.Body, bad = takeApart(raw, submittedShape, func(key string, value []byte) (own bool, bad *jobs.Error) {
		if key == "session" {
			return true, named(&j.Line, key, value)
		}
		return a.field(j, key, value)
	})
	switch {
	case bad != nil:
		return bad
	case j.job == "":
		return jobs.Refused(jobs.CodeBadJob, "job", contract.ExpectedJob, "the job has no id").WithHint("the id makes it possible to submit the jobs again")
	}
	if bad := a.check(tenant, &j.Line); bad != nil {
		return bad
	}
	if j.Session != "" && j.lane != "" {
		return jobs.Refused(jobs.CodeBadRequest, "lane", "no lane, or no session", "a job of a session has no lane")
	}
	j.lane = cmp.Or(j.lane, jobs.LaneBatch)
	return nil
}

// field takes a key of a job that stands beside its request.
func (a *Atomic) field(j *entry, key string, value []byte) (own bool, bad *jobs.Error) {
	in := wire.NewReader(value)
	var to *string
	code := jobs.CodeBadRequest
	var expected string
	var allowed func(string) bool
	switch key {
	case "job":
		to, code, expected, allowed = &j.job, jobs.CodeBadJob, contract.ExpectedJob, contract.ValidJob
	case "lane":
		to, expected = &j.lane, jobs.LaneInteractive+" or "+jobs.LaneBatch
		allowed = func(v string) bool { return v == jobs.LaneInteractive || v == jobs.LaneBatch }
	case "reply_to":
		to, code, expected, allowed = &j.replyTo, jobs.CodeBadReply, contract.ExpectedReply, a.mayReply
	default:
		return false, nil
	}
	if in.Nil() {
		return true, nil
	}
	text, err := in.Str()
	if err != nil || !allowed(text) {
		return true, jobs.Refused(code, key, expected, "%s is not allowed", key)
	}
	*to = text
	return true, nil
}

// keep stores the jobs where clients publish.
func (a *Atomic) keep(ctx context.Context, r Request, to string, all []entry) *jobs.Error {
	kind, _ := jobs.ContentType(r.Type)
	messages := make([]stream.Message, len(all))
	for i, j := range all {
		body := j.Body
		if kind == jobs.JSON {
			inJSON, err := wire.AppendJSON(nil, j.Body)
			if err != nil {
				return jobs.Unreadable(err)
			}
			body = inJSON
		}
		header := map[string][]string{jobs.HeaderJob: {j.job}, jobs.HeaderContentType: {kind}}
		if j.replyTo != "" {
			header[jobs.HeaderReplyTo] = []string{j.replyTo}
		}
		if _, _, _, ok := contract.ParseTraceparent(r.Trace); ok {
			header[contract.HeaderTraceparent] = []string{r.Trace}
		}
		messages[i] = stream.Message{Subject: jobs.SessionRef{Tenant: r.Tenant, ID: j.Session}.PublishSubject(j.lane), Header: header, Data: body}
	}
	err := a.StoreTogether(ctx, to, messages, queuesOf(r.Tenant, all))
	if err == nil {
		return nil
	}
	if errors.Is(err, stream.ErrSubjectFull) {
		if bad := a.tooManyOfOne(ctx, to, all); bad != nil {
			return bad
		}
	}
	if errors.Is(err, stream.ErrRefused) {
		return jobs.Errorf(jobs.Connection, jobs.CodeBroker, "the jobs were not accepted: %v", err).WithHint("nothing was stored; operators: `dspex doctor --fix` mends the streams")
	}
	return a.cfg.Missed(to, err)
}

// queuesOf are those of the sessions.
func queuesOf(tenant string, all []entry) (queues []stream.Queue) {
	at := map[string]int{}
	for i, j := range all {
		if j.Session == "" {
			continue
		}
		n, has := at[j.Session]
		if !has {
			n = len(queues)
			at[j.Session] = n
			queues = append(queues, stream.Queue{Subject: jobs.SessionRef{Tenant: tenant, ID: j.Session}.PublishedSubjects(), First: i})
		}
		queues[n].Number++
	}
	return queues
}

// tooManyOfOne refuses a submission that does not even fit into an empty queue.
func (a *Atomic) tooManyOfOne(ctx context.Context, to string, all []entry) *jobs.Error {
	most, err := a.SubjectBound(ctx, to)
	if err != nil || most < 1 {
		return nil //nolint:nilerr // the refusal that led here is reported
	}
	count := map[string]int64{}
	for _, j := range all {
		if count[j.Session]++; count[j.Session] > most {
			return jobs.Refused(jobs.CodeBadRequest, "jobs", fmt.Sprintf("at most %d jobs of one session", most), "session %s has more", j.Session).
				WithHint("a batch (dspex.rpc.batches.submit) takes any number")
		}
	}
	return nil
}
