// Package batches carries out what package batch decides: it answers the requests about batches, and runs them in the dispatcher that
// leads (contract/batch.md, ADR 55).
package batches

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/batch"
	"github.com/dspex/dspex/internal/fair"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// Config is what batches need of their dispatcher.
type Config struct {
	Broker *stream.Access
	Leads  func() bool
	// Cancel ends a job that may be at the broker. An error of code job_unknown reports that it is not.
	Cancel func(ctx context.Context, of jobs.SessionRef, job string) *jobs.Error
	// Decided is the outcome that a session's record has of a job, nil: none.
	Decided func(ctx context.Context, of jobs.SessionRef, job string) (*jobs.Outcome, error)
	// Bounds are a tenant's: batches that have not ended, and their jobs that wait. 0 stands for the usual ones.
	Bounds func(tenant string) (batches, jobs int64)
	// Slots is how many jobs of the lane batch the hosts can run at a time.
	Slots func() int
	// Weights are those of tenants.
	Weights func() fair.Weights
	// Admit counts jobs of a tenant that are about to be stored, or refuses them.
	Admit func(tenant string, number int) *jobs.Error
	// Refusal is why a stream is known to store nothing now; nil: it may.
	Refusal func(stream string) *jobs.Error
	// Missed finds out why a stream has not stored something.
	Missed func(stream string, err error) *jobs.Error
}

// Service answers requests about batches, and runs them while its dispatcher leads. Make it with New.
type Service struct{ *store }

// store reads and writes batches, and has the records of all.
type store struct {
	*stream.Access
	cfg Config

	mu    sync.Mutex
	known map[string]*held // record key -> what is stored
}

// held is a record and its revision.
type held struct {
	rec *batch.Record
	rev uint64
}

// New makes a service that has read nothing yet.
func New(cfg Config) *Service {
	return &Service{&store{Access: cfg.Broker, cfg: cfg, known: map[string]*held{}}}
}

// Bounds of what is kept.
const (
	openBatches    = 100            // of a tenant, that have not ended, if its quota has no other number
	keptBatches    = 10_000         // of a tenant
	uploadLifetime = 24 * time.Hour // of jobs that are not submitted
	longestRun     = 30 * 24 * time.Hour
	strayLifetime  = 100 * 24 * time.Hour // of jobs and outcomes whose record is lost: longer than any batch lives
)

// see takes what is stored under a record's key.
func (s *store) see(key string, e stream.Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !e.Exists {
		delete(s.known, key)
		return
	}
	r, err := batch.ParseRecord(e.Value)
	if err != nil {
		s.Log.Warn("batch_not_read", "key", key, "error", err)
		return
	}
	if was := s.known[key]; was == nil || e.Revision > was.rev || r.Key != was.rec.Key {
		s.known[key] = &held{r, e.Revision}
	}
}

// read is the record as the broker's leader has it; nil: there is none.
func (s *store) read(ctx context.Context, tenant, id string) (*held, uint64, *jobs.Error) {
	e, err := s.Batches.Get(ctx, batch.RecordKey(tenant, id))
	if err != nil {
		return nil, 0, unreadable(err)
	}
	if !e.Exists || len(e.Value) == 0 {
		return nil, e.Revision, nil
	}
	r, err := batch.ParseRecord(e.Value)
	if err != nil {
		return nil, 0, jobs.Errorf(jobs.Session, jobs.CodeRecordNewer, "the batch cannot be read: %v", err)
	}
	return &held{r, e.Revision}, e.Revision, nil
}

// must is read for a batch that has to be there.
func (s *store) must(ctx context.Context, tenant, id string) (*held, *jobs.Error) {
	h, _, bad := s.read(ctx, tenant, id)
	if bad == nil && h == nil {
		bad = jobs.Errorf(jobs.Session, jobs.CodeBatchUnknown, "the batch is not known").
			WithHint("batches are removed when their time is over (expires_at), and uploads that are not submitted after 24 hours")
	}
	return h, bad
}

// write stores a record over a revision and returns the new one.
func (s *store) write(r *batch.Record, rev uint64) (uint64, error) {
	b, err := r.Append()
	if err != nil {
		return 0, err
	}
	key := batch.RecordKey(r.Tenant, r.Batch)
	rev, err = s.Batches.PutSync(key, b, rev, 0)
	if err == nil { // it will be announced, too
		s.see(key, stream.Entry{Value: b, Revision: rev, Exists: true})
	}
	return rev, err
}

// writeTries bounds how often a change that met another one is made again.
const writeTries = 8

// change changes a batch's record until that meets no other change. f returns false when there is nothing to change.
func (s *store) change(ctx context.Context, tenant, id string, f func(*batch.Record) (bool, *jobs.Error)) (*batch.Record, *jobs.Error) {
	for range writeTries {
		h, bad := s.must(ctx, tenant, id)
		if bad != nil {
			return nil, bad
		}
		if changes, bad := f(h.rec); bad != nil || !changes {
			return h.rec, bad
		}
		switch _, err := s.write(h.rec, h.rev); {
		case err == nil:
			return h.rec, nil
		case errors.Is(err, stream.ErrWrongRevision), errors.Is(err, stream.ErrUnknown) && !errors.Is(err, stream.ErrNoStream):
		default:
			return nil, notStored(err)
		}
	}
	return nil, jobs.Errorf(jobs.Connection, jobs.CodeBroker, "the batch was not changed: too many concurrent changes").Again()
}

func unreadable(err error) *jobs.Error {
	return jobs.Errorf(jobs.Connection, jobs.CodeBroker, "the broker did not answer: %v", err).Again()
}

func notStored(err error) *jobs.Error {
	if errors.Is(err, stream.ErrStoreFull) {
		return jobs.Errorf(jobs.Resource, jobs.CodeStoreFull, "there is no room for batches: %v", err).
			WithHint("erase batches that have ended, or wait until they expire; operators: --batches-size of the dispatcher").Again()
	}
	return jobs.Errorf(jobs.Connection, jobs.CodeBroker, "it was not stored: %v", err).WithHint("it may have been stored: send the same request again").Again()
}

func conflict(format string, args ...any) *jobs.Error {
	return jobs.Errorf(jobs.Session, jobs.CodeConflict, format, args...)
}

// room refuses a batch, or more jobs, of a tenant that has as many as it may have. known is by a moment behind what is stored.
func (s *store) room(tenant, id string, more int) *jobs.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	open, kept, waiting := int64(0), 0, int64(more)
	mostOpen, mostWaiting := s.cfg.Bounds(tenant)
	mostOpen, mostWaiting = cmp.Or(mostOpen, openBatches), cmp.Or(mostWaiting, batch.MaxJobs)
	for _, h := range s.known {
		if h.rec.Tenant != tenant || h.rec.Batch == id {
			continue
		}
		kept++
		if h.rec.Phase != batch.Ended && h.rec.Phase != batch.Removing {
			open++
			waiting += int64(h.rec.Jobs - h.rec.Stored)
		}
	}
	var text string
	switch {
	case open >= mostOpen:
		text = fmt.Sprintf("the tenant may have at most %[2]d batches that have not ended, got %[1]d", open, mostOpen)
	case kept >= keptBatches:
		text = fmt.Sprintf("the tenant may have at most %[2]d batches, got %[1]d", kept, keptBatches)
	case waiting > mostWaiting:
		text = fmt.Sprintf("the tenant may have at most %[2]d waiting jobs of batches, got %[1]d", waiting, mostWaiting)
	default:
		return nil
	}
	e := jobs.Errorf(jobs.Resource, jobs.CodeQuota, "%s", text).WithHint("wait until some have ended, or cancel or erase some").Again()
	e.RetryAfter = time.Minute
	return e
}

// changed reports whether a later revision of a batch was seen, or none any more.
func (s *store) changed(tenant, id string, rev uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.known[batch.RecordKey(tenant, id)]
	return h == nil || h.rev != rev
}

// place orders batches by their age.
func place(r *batch.Record) string {
	return strconv.FormatInt(r.Created.UnixMilli(), 10) + "." + r.Key
}

// of are the tenant's batches, the newest first.
func (s *store) of(tenant string) (all []*batch.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range s.known {
		if h.rec.Tenant == tenant && h.rec.Phase != batch.Removing {
			all = append(all, h.rec)
		}
	}
	slices.SortFunc(all, func(a, b *batch.Record) int { return cmp.Compare(place(b), place(a)) })
	return all
}
