package batches

import (
	"context"
	"slices"

	"github.com/dspex/dspex/internal/batch"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// view is a chunk with the outcomes that are there: stored with the batch, and results beside.
type view struct {
	first    int
	lines    []batch.Line
	outcomes map[int]batch.Outcome
	parts    int
	stored   map[int]bool // whose outcome is stored with the batch
}

func (v *view) isStored(index int) bool { return v.stored[index] }

// view reads a chunk; nil: the store does not hold it.
func (s *store) view(ctx context.Context, rec *batch.Record, first int) (*view, *jobs.Error) {
	c, bad := s.chunk(ctx, rec, first)
	if bad != nil || c == nil {
		return nil, bad
	}
	v := &view{first: first, lines: c.Lines, outcomes: map[int]batch.Outcome{}, stored: map[int]bool{}}
	if bad := s.readParts(ctx, rec, v); bad != nil {
		return nil, bad
	}
	for index := range v.outcomes {
		v.stored[index] = true
	}
	var open []int
	for i := range v.lines {
		index := first + i
		if _, has := v.outcomes[index]; !has && index < rec.Opened && len(v.lines[i].Bad) == 0 {
			open = append(open, index)
		}
	}
	seen, err := s.outcomesOf(ctx, rec, open, func(index int) string { return v.lines[index-first].Session })
	if err != nil {
		return nil, unreadable(err)
	}
	for _, o := range seen {
		v.outcomes[o.Index] = o
	}
	return v, nil
}

// readParts reads parts one after another, from the broker's leader: none is missed.
func (s *store) readParts(ctx context.Context, rec *batch.Record, v *view) *jobs.Error {
	for {
		e, err := s.Batches.Get(ctx, batch.PartKey(rec.Tenant, rec.Key, v.first, v.parts))
		switch {
		case err != nil:
			return unreadable(err)
		case !e.Exists:
			return nil
		}
		p, err := batch.ParsePart(e.Value)
		if err != nil {
			return jobs.Errorf(jobs.Session, jobs.CodeRecordUnreadable, "%v", err)
		}
		for _, o := range p.Outcomes {
			if _, has := v.outcomes[o.Index]; !has {
				v.outcomes[o.Index] = o
			}
		}
		v.parts++
	}
}

// manyResults bounds the results of one look at the broker.
const manyResults = 256

// outcomesOf reads what is known of jobs that were published.
func (s *store) outcomesOf(ctx context.Context, rec *batch.Record, indexes []int, session func(int) string) (found []batch.Outcome, err error) {
	for some := range slices.Chunk(indexes, manyResults) {
		of := make(map[string]int, len(some))
		keys := make([]string, 0, len(some))
		for _, index := range some {
			key := jobs.SessionRef{Tenant: rec.Tenant, ID: session(index)}.ResultKey(batch.JobID(rec.Key, index))
			of[key] = index
			keys = append(keys, key)
		}
		err := s.Results.Many(ctx, keys, func(key string, e stream.Entry) {
			if r, bad := jobs.ReadResult(jobs.SessionRef{Tenant: rec.Tenant, ID: session(of[key])}, batch.JobID(rec.Key, of[key]), e.Value); bad == nil {
				found = append(found, batch.Outcome{Index: of[key], Kind: r.Kind, Attempts: r.Attempt, Reply: r.Body})
			} else {
				s.Log.Warn("result_not_read", "job", key, "error", bad)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// chunk reads the jobs from an index on; nil: there are none.
func (s *store) chunk(ctx context.Context, r *batch.Record, first int) (*batch.Chunk, *jobs.Error) {
	e, err := s.Batches.Get(ctx, batch.ChunkKey(r.Tenant, r.Key, first))
	if err != nil {
		return nil, unreadable(err)
	}
	if !e.Exists {
		return nil, nil
	}
	c, err := batch.ParseChunk(e.Value)
	if err != nil {
		return nil, jobs.Errorf(jobs.Session, jobs.CodeRecordUnreadable, "%v", err)
	}
	return c, nil
}
