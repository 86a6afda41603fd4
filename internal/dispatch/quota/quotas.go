// Package quota bounds what a tenant may have at a time, by what is measured now and then and what was accepted since.
package quota

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/dispatch/fleet"

	"github.com/dspex/dspex/internal/dispatch/endpoint"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// Bound bounds what one tenant may have at a time; 0 is no bound.
type Bound struct {
	Jobs     int64 `json:"jobs"`     // that wait and run, published ones included: beyond it calls are refused
	Sessions int64 `json:"sessions"` // with a record: beyond it calls of new ones are refused

	Batches   int64 `json:"batches"`    // that have not ended; 0: as package batches has it
	BatchJobs int64 `json:"batch_jobs"` // of them that wait; 0: the same
}

// Bounds are the tenants' bounds by name, under "*" those of all others.
type Bounds map[string]Bound

// Read reads a file {"*": {"jobs": 1000, "sessions": 10000}, "acme": {...}}.
func Read(path string) (Bounds, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	in := json.NewDecoder(bytes.NewReader(b))
	in.DisallowUnknownFields()
	var q Bounds
	if err := in.Decode(&q); err != nil {
		return nil, fmt.Errorf("%s must be like {\"*\": {\"jobs\": 1000, \"sessions\": 10000}}: %w", path, err)
	}
	for tenant, of := range q {
		if tenant != "*" && !jobs.ValidTenant(tenant) {
			return nil, fmt.Errorf("%s: a tenant must have 1 to 64 of A-Z a-z 0-9 _ -, or be \"*\" for all others, got %q", path, tenant)
		}
		for name, n := range map[string]int64{"jobs": of.Jobs, "sessions": of.Sessions, "batches": of.Batches, "batch_jobs": of.BatchJobs} {
			if n < 0 {
				return nil, fmt.Errorf("%s: %s of %s must be 0 (not set) or more, got %d", path, name, tenant, n)
			}
		}
	}
	return q, nil
}

func (q Bounds) of(tenant string) Bound {
	if own, ok := q[tenant]; ok {
		return own
	}
	return q["*"]
}

// Times of quotas.
const (
	quotaPause    = 100 * time.Millisecond // between measurements of jobs, while a tenant is past half of its bound
	sessionsPause = 2 * time.Second        // between measurements of sessions
	quotaFilePace = 5 * time.Second        // between looks at the file
)

// Meter judge calls by what was measured a moment ago and what was accepted here since. Between two measurements other
// dispatchers accept calls, too: the bound is kept to within what comes in that time.
type Meter struct {
	broker  *stream.Access
	hosts   *fleet.Fleet
	log     *slog.Logger
	file    string // "": there are no bounds
	mu      sync.Mutex
	bounds  Bounds
	usage   map[string]*usage
	pressed chan struct{} // capacity 1: a tenant is past half of its bound
	looks   chan struct{} // a place for each look whether a session is there
}

// mostLooks bounds the looks whether a session is there.
const mostLooks = 256

// usage is what a tenant has.
type usage struct {
	jobs     int64 // as measured last
	accepted int64 // calls, since that measurement began
	sessions int64
	sought   bool // calls came since sessions were measured last
}

// New reads the file, if there is one.
func New(file string, broker *stream.Access, hosts *fleet.Fleet, log *slog.Logger) (*Meter, error) {
	q := of(nil)
	q.broker, q.hosts, q.log, q.file = broker, hosts, log, file
	var err error
	if file != "" {
		q.bounds, err = Read(file)
	}
	return q, err
}

func of(bounds Bounds) *Meter {
	return &Meter{bounds: bounds, usage: map[string]*usage{}, pressed: make(chan struct{}, 1), looks: make(chan struct{}, mostLooks)}
}

func (q *Meter) ofLocked(tenant string) *usage {
	u := q.usage[tenant]
	if u == nil {
		u = &usage{}
		q.usage[tenant] = u
	}
	return u
}

// AdmitAll counts jobs that are stored together, or refuses them. As of jobs that clients publish, sessions are not counted.
func (q *Meter) AdmitAll(tenant string, number int) *jobs.Error {
	_, bad := q.admit(tenant, int64(number))
	return bad
}

// Admit counts a call, or refuses it. full reports that only calls of sessions that are there already may pass.
func (q *Meter) Admit(tenant string) (full bool, bad *jobs.Error) { return q.admit(tenant, 1) }

func (q *Meter) admit(tenant string, number int64) (full bool, bad *jobs.Error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	bound := q.bounds.of(tenant)
	if bound == (Bound{}) {
		return false, nil
	}
	u := q.ofLocked(tenant)
	u.sought = true
	if has := u.jobs + u.accepted; bound.Jobs > 0 {
		if has >= bound.Jobs/2 {
			select {
			case q.pressed <- struct{}{}:
			default:
			}
		}
		switch {
		case has >= bound.Jobs:
			return false, overQuota(quotaPause, "the tenant may have at most %[2]d jobs that wait or run, got %[1]d", has, bound.Jobs)
		case has+number > bound.Jobs:
			return false, overQuota(quotaPause, "the tenant may have at most %d jobs that wait or run, got %d and %d more", bound.Jobs, has, number)
		}
	}
	u.accepted += number
	return bound.Sessions > 0 && u.sessions >= bound.Sessions, nil
}

func overQuota(again time.Duration, format string, args ...any) *jobs.Error {
	e := jobs.Errorf(jobs.Resource, jobs.CodeQuota, format, args...).Again().
		WithHint("retry after retry_after_ms; operators set the bound (--tenant-quotas of the dispatcher)")
	e.RetryAfter = again
	return e
}

// Batches are the bounds of a tenant's batches and of their jobs that wait, 0 where none is set.
func (q *Meter) Batches(tenant string) (batches, jobs int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	bound := q.bounds.of(tenant)
	return bound.Batches, bound.BatchJobs
}

// measuring begins a measurement: what is accepted from now on is not in it.
func (q *Meter) measuring() map[string]int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	before := map[string]int64{}
	for tenant, u := range q.usage {
		before[tenant] = u.accepted
	}
	return before
}

// measured ends one.
func (q *Meter) measured(before, have map[string]int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for tenant, u := range q.usage {
		u.jobs = have[tenant]
		u.accepted -= before[tenant]
	}
}

// boundless reports whether no tenant has a bound.
func (q *Meter) boundless() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.bounds) == 0
}

// Follow measures what tenants have, until ctx ends.
func (q *Meter) Follow(ctx context.Context) {
	if q.file == "" {
		return
	}
	read, sessions, file := time.NewTicker(time.Second), time.NewTicker(sessionsPause), time.NewTicker(quotaFilePace)
	defer read.Stop()
	defer sessions.Stop()
	defer file.Stop()
	var changed time.Time
	for {
		pressed := false
		select {
		case <-ctx.Done():
			return
		case <-file.C:
			changed = q.rereadQuotas(changed)
			continue
		case <-sessions.C:
			q.measureSessions(ctx)
			continue
		case <-read.C:
		case <-q.pressed:
			pressed = true
		}
		if q.boundless() {
			continue
		}
		q.measureJobs(ctx)
		if pressed { // not more often than this
			select {
			case <-ctx.Done():
			case <-time.After(quotaPause):
			}
		}
	}
}

// rereadQuotas takes a file that has changed; one that cannot be read changes nothing.
func (q *Meter) rereadQuotas(last time.Time) time.Time {
	at, err := os.Stat(q.file)
	if err == nil && at.ModTime().Equal(last) {
		return last
	}
	var bounds Bounds
	if err == nil {
		bounds, err = Read(q.file)
	}
	if err != nil {
		q.log.Warn("quotas_not_read", "error", err)
		return last
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.bounds = bounds
	return at.ModTime()
}

// measureJobs counts the jobs that wait and run: of sessions by the hosts' reports, of those without session as in the stream.
func (q *Meter) measureJobs(ctx context.Context) {
	before := q.measuring()
	ctx, cancel := context.WithTimeout(ctx, stream.AckTimeout)
	defer cancel()
	have, err := q.anonymousJobs(ctx)
	if err != nil {
		q.log.Debug("quotas_not_measured", "error", err)
		return
	}
	beats, _ := q.hosts.Measure()
	for tenant, n := range fleet.ByTenant(beats) {
		have[tenant] += n.Jobs
	}
	q.measured(before, have)
}

// anonymousJobs are the jobs without session that have no outcome, by tenant.
func (q *Meter) anonymousJobs(ctx context.Context) (map[string]int64, error) {
	waiting, err := q.broker.Messages(ctx, stream.Anonymous, ">")
	if err != nil {
		return nil, err
	}
	have := map[string]int64{}
	for subject, n := range waiting {
		have[jobs.SourceOf(subject).Session.Tenant] += int64(n)
	}
	return have, nil
}

// measureSessions counts the sessions of tenants that have a bound and are in use.
func (q *Meter) measureSessions(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, stream.AckTimeout)
	defer cancel()
	for _, tenant := range q.soughtTenants() {
		n, err := q.countSessions(ctx, tenant)
		if err != nil {
			q.log.Debug("quotas_not_measured", "error", err)
			return
		}
		q.mu.Lock()
		q.ofLocked(tenant).sessions = n
		q.mu.Unlock()
	}
}

func (q *Meter) soughtTenants() (tenants []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for tenant, u := range q.usage {
		if u.sought && q.bounds.of(tenant).Sessions > 0 {
			tenants = append(tenants, tenant)
			u.sought = false
		}
	}
	return tenants
}

func (q *Meter) countSessions(ctx context.Context, tenant string) (int64, error) {
	keys := q.broker.Records.Subject(jobs.SessionRef{Tenant: tenant, ID: "*"}.RecordKey())
	records, err := q.broker.Messages(ctx, stream.RecordsStream, keys)
	if err != nil {
		return 0, err
	}
	return int64(len(records)), nil
}

// Look takes a place for a look whether a session is there, until done is called.
func (q *Meter) Look() (done func(), bad *jobs.Error) {
	select {
	case q.looks <- struct{}{}:
		return func() { <-q.looks }, nil
	default:
		return nil, overQuota(quotaPause, "the tenant has reached its limit of sessions, and %d calls are looking up theirs", mostLooks)
	}
}

// KnownSession refuses the call of a session that is not there.
func (q *Meter) KnownSession(of jobs.SessionRef) *jobs.Error {
	ctx, cancel := context.WithTimeout(context.Background(), stream.AckTimeout)
	defer cancel()
	e, err := q.broker.Records.Get(ctx, of.RecordKey())
	switch {
	case err != nil:
		return endpoint.Unreadable(err)
	case !e.Exists:
		return overQuota(sessionsPause, "the tenant has reached its limit of sessions, and this one would be new").
			WithHint("erase sessions, or let them expire; operators set the bound (--tenant-quotas of the dispatcher)")
	}
	return nil
}
