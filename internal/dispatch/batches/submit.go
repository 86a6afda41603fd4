package batches

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dspex/dspex/internal/batch"
	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
	"github.com/dspex/dspex/internal/wire"
)

// Upload stores jobs of a batch that is not submitted yet.
func (s *Service) Upload(ctx context.Context, r Request) Answer {
	var id string
	var first int64
	var list []byte
	skip := false
	b, bad := newBody(r.Type, r.Body)
	if bad != nil {
		return refused(bad)
	}
	b.batch(&id)
	b.number("from", 0, batch.MaxJobs-1, &first)
	b.may("jobs", "a list of jobs", func(in *wire.Reader) bool { list = in.Rest(); return in.Kind() == wire.Array })
	b.flag("skip_invalid", &skip)
	if bad := b.read("batch", "from", "jobs"); bad != nil {
		return refused(bad)
	}
	c, invalid, bad := s.readLines(r.Tenant, int(first), list)
	if bad != nil {
		return refused(bad)
	}
	if len(invalid) > 0 && !skip {
		return Answer{Err: badBatch(len(invalid)), Invalid: invalid}
	}
	h, bad := s.begin(ctx, r.Tenant, id)
	if bad != nil {
		return refused(bad)
	}
	again, bad := s.keep(ctx, h.rec, c)
	if bad != nil {
		return refused(bad)
	}
	out := wire.AppendMap(nil, 3)
	out = wire.AppendBool(wire.AppendStr(out, "again"), again)
	out = wire.AppendStr(wire.AppendStr(out, "batch"), id)
	out = wire.AppendInt(wire.AppendStr(out, "received"), first+int64(len(c.Lines)))
	return Answer{Result: out, Invalid: invalid}
}

func badBatch(n int) *jobs.Error {
	those := "1 job is"
	if n > 1 {
		those = fmt.Sprintf("%d jobs are", n)
	}
	return jobs.Errorf(jobs.Python, jobs.CodeBadBatch, "%s invalid: nothing of the request was stored", those).
		WithHint("`invalid` lists them with their errors; with skip_invalid they fail, and the others run")
}

// begin is the batch's record; it is made if there is none.
func (s *Service) begin(ctx context.Context, tenant, id string) (*held, *jobs.Error) {
	for range writeTries {
		h, rev, bad := s.read(ctx, tenant, id)
		switch {
		case bad != nil:
			return nil, bad
		case h != nil && h.rec.Phase == batch.Removing:
			return nil, conflict("an earlier batch of this id is being removed").WithHint("retry in a moment").Again()
		case h != nil:
			return h, nil
		}
		if bad := s.room(tenant, id, 0); bad != nil {
			return nil, bad
		}
		rec := &batch.Record{Batch: id, Tenant: tenant, Key: batch.NewKey(), Phase: batch.Uploading, Created: s.Clock.Now().UTC()}
		rev, err := s.write(rec, rev)
		switch {
		case err == nil:
			return &held{rec, rev}, nil
		case errors.Is(err, stream.ErrWrongRevision): // another request was faster
		default:
			return nil, notStored(err)
		}
	}
	return nil, jobs.Errorf(jobs.Connection, jobs.CodeBroker, "the batch was not submitted").Again()
}

// keep creates a chunk. One that is there must be the same.
func (s *Service) keep(ctx context.Context, r *batch.Record, c *batch.Chunk) (again bool, bad *jobs.Error) {
	key, value := batch.ChunkKey(r.Tenant, r.Key, c.First), c.Append(nil)
	if r.Phase == batch.Uploading {
		_, err := s.Batches.PutSync(key, value, 0, strayLifetime)
		switch {
		case err == nil:
			return false, nil
		case errors.Is(err, stream.ErrWrongRevision), errors.Is(err, stream.ErrUnknown):
		default:
			return false, notStored(err)
		}
	}
	e, err := s.Batches.Get(ctx, key)
	switch {
	case err != nil:
		return false, unreadable(err)
	case e.Exists && isStored(e.Value, c):
		return true, nil
	case !e.Exists && r.Phase == batch.Uploading:
		return false, notStored(stream.ErrUnknown)
	}
	return false, conflict("the batch has other jobs from index %d on", c.First).
		WithHint("choose another id for other jobs, and send the same jobs in the same pieces; `batches.erase` removes an upload that is not submitted")
}

// isStored reports whether a stored chunk has these jobs.
func isStored(value []byte, c *batch.Chunk) bool {
	is, err := batch.ParseChunk(value)
	return err == nil && is.Same(c)
}

// Bounds of what a submission chooses.
const (
	defaultKeep = 7 * 24 * time.Hour
	leastKeep   = time.Minute
	mostKeep    = 30 * 24 * time.Hour
)

// Submit begins the run of a batch: of jobs that were uploaded, or of the few that it brings.
func (s *Service) Submit(ctx context.Context, r Request) Answer {
	var id, replyTo string
	var count int64
	var list []byte
	skip := false
	concurrency, keep := int64(batch.DefaultConcurrency), defaultKeep.Milliseconds()
	b, bad := newBody(r.Type, r.Body)
	if bad != nil {
		return refused(bad)
	}
	b.batch(&id)
	b.may("jobs", "a list of jobs, or the number of those that were uploaded", func(in *wire.Reader) bool {
		if in.Kind() == wire.Array {
			list = in.Rest()
			return true
		}
		if in.Kind() != wire.Int {
			return false
		}
		v, err := in.Int()
		count = v
		return err == nil && v >= 1 && v <= batch.MaxJobs
	})
	b.number("concurrency", 1, batch.MaxConcurrency, &concurrency)
	b.number("keep_ms", leastKeep.Milliseconds(), mostKeep.Milliseconds(), &keep)
	b.text("reply_to", "a subject without wildcards under dspex.reply., or under _INBOX. where clients have no accounts", &replyTo, s.mayReply)
	b.flag("skip_invalid", &skip)
	if bad := b.read("batch", "jobs"); bad != nil {
		return refused(bad)
	}
	var invalid []Invalid
	if list != nil {
		var c *batch.Chunk
		if c, invalid, bad = s.readLines(r.Tenant, 0, list); bad != nil {
			return refused(bad)
		}
		if len(invalid) > 0 && !skip {
			return Answer{Err: badBatch(len(invalid)), Invalid: invalid}
		}
		h, bad := s.begin(ctx, r.Tenant, id)
		if bad == nil {
			_, bad = s.keep(ctx, h.rec, c)
		}
		if bad != nil {
			return refused(bad)
		}
		count = int64(len(c.Lines))
	}
	rec, again, bad := s.seal(ctx, r.Tenant, id, int(count), func(rec *batch.Record) {
		rec.Concurrency, rec.Keep, rec.ReplyTo = int(concurrency), time.Duration(keep)*time.Millisecond, replyTo
		if _, _, _, ok := contract.ParseTraceparent(r.Trace); ok {
			rec.Trace = r.Trace
		}
	})
	if bad != nil {
		return refused(bad)
	}
	return Answer{Result: appendBatch(nil, rec, &again), Invalid: invalid}
}

// seal makes a batch of what was uploaded. Jobs that were submitted before are compared by their number: each of them was compared when it came.
func (s *Service) seal(ctx context.Context, tenant, id string, count int, choose func(*batch.Record)) (rec *batch.Record, again bool, bad *jobs.Error) {
	rec, bad = s.change(ctx, tenant, id, func(r *batch.Record) (bool, *jobs.Error) {
		again = r.Phase != batch.Uploading
		switch {
		case r.Phase == batch.Removing:
			return false, conflict("the batch is being removed").Again()
		case again && r.Jobs == count:
			return false, nil
		case again:
			return false, conflict("the batch was submitted with %d jobs, got %d", r.Jobs, count)
		}
		if bad := s.room(tenant, id, count); bad != nil {
			return false, bad
		}
		digest, bad := s.sum(ctx, r, count)
		if bad != nil {
			return false, bad
		}
		choose(r)
		r.Jobs, r.Digest, r.Phase, r.Submitted = count, digest.String(), batch.Running, s.Clock.Now().UTC()
		return true, nil
	})
	return rec, again, bad
}

// sum reads the jobs of an upload, a chunk at a time: all of them must be there.
func (s *Service) sum(ctx context.Context, r *batch.Record, count int) (d batch.Digest, bad *jobs.Error) {
	for at := 0; at < count; {
		c, bad := s.chunk(ctx, r, at)
		if bad != nil {
			return d, bad
		}
		if c == nil || at+len(c.Lines) > count {
			e := jobs.Refused(jobs.CodeBadRequest, "jobs", "the number of jobs that were uploaded", "the jobs from index %d on are missing, or are more than %d", at, count)
			return d, e.WithHint("upload them; stored jobs may be sent again")
		}
		d = d.Add(c)
		at += len(c.Lines)
	}
	switch more, bad := s.chunk(ctx, r, count); {
	case bad != nil:
		return d, bad
	case more != nil:
		return d, jobs.Refused(jobs.CodeBadRequest, "jobs", "the number of jobs that were uploaded", "more than %d jobs were uploaded", count)
	}
	return d, nil
}
