package batches

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dspex/dspex/internal/batch"
	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/wire"
)

const (
	mostWait  = 10 * time.Minute
	waitPause = 100 * time.Millisecond // between looks at a batch that is waited for
)

// Get reports where a batch stands, at once or when it has ended.
func (s *Service) Get(ctx context.Context, r Request) Answer {
	var id string
	var wait int64
	b, bad := newBody(r.Type, r.Body)
	if bad != nil {
		return refused(bad)
	}
	b.batch(&id)
	b.number("wait_ms", 0, mostWait.Milliseconds(), &wait)
	if bad := b.read("batch"); bad != nil {
		return refused(bad)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(wait)*time.Millisecond)
	defer cancel()
	t := time.NewTicker(waitPause)
	defer t.Stop()
	for {
		h, bad := s.must(context.WithoutCancel(ctx), r.Tenant, id)
		switch {
		case bad != nil:
			return refused(bad)
		case h.rec.Phase == batch.Ended || ctx.Err() != nil || wait == 0:
			return Answer{Result: appendBatch(nil, h.rec, nil)}
		}
		for waits := true; waits; {
			select {
			case <-ctx.Done():
				waits = false
			case <-t.C:
				waits = !s.changed(r.Tenant, id, h.rev)
			}
		}
	}
}

const mostListed = 200

// List returns all batches of a tenant, the newest first.
func (s *Service) List(_ context.Context, r Request) Answer {
	limit, cursor := int64(100), ""
	b, bad := newBody(r.Type, r.Body)
	if bad != nil {
		return refused(bad)
	}
	b.number("limit", 1, mostListed, &limit)
	b.text("cursor", "the cursor of the previous answer", &cursor, func(v string) bool { return len(v) <= 128 })
	if bad := b.read(); bad != nil {
		return refused(bad)
	}
	all := s.of(r.Tenant)
	if cursor != "" {
		at := slices.IndexFunc(all, func(r *batch.Record) bool { return place(r) < cursor })
		if at < 0 {
			at = len(all)
		}
		all = all[at:]
	}
	more := len(all) > int(limit)
	all = all[:min(len(all), int(limit))]
	fields := 1
	if more {
		fields++
	}
	out := wire.AppendMap(nil, fields)
	out = wire.AppendArray(wire.AppendStr(out, "batches"), len(all))
	for _, rec := range all {
		out = appendBatch(out, rec, nil)
	}
	if more {
		out = wire.AppendStr(wire.AppendStr(out, "cursor"), place(all[len(all)-1]))
	}
	return Answer{Result: out}
}

// Cancel ends a batch early; one that was not submitted is removed.
func (s *Service) Cancel(ctx context.Context, r Request) Answer {
	return s.end(ctx, r, func(*body) {}, func(rec *batch.Record) (bool, *jobs.Error) {
		switch rec.Phase {
		case batch.Uploading:
			rec.Phase = batch.Removing
			return true, nil
		case batch.Running:
			rec.Phase = batch.Cancelling
			return true, nil
		}
		return false, nil
	})
}

// Erase removes a batch with its jobs and outcomes; for an upload, only one that is not submitted.
func (s *Service) Erase(ctx context.Context, r Request) Answer {
	upload := false
	flags := func(b *body) { b.flag("upload", &upload) }
	return s.end(ctx, r, flags, func(rec *batch.Record) (bool, *jobs.Error) {
		switch {
		case rec.Phase == batch.Removing:
			return false, nil
		case rec.Phase == batch.Uploading, rec.Phase == batch.Ended && !upload:
			rec.Phase = batch.Removing
			return true, nil
		case upload:
			return false, conflict("the batch was submitted")
		}
		return false, conflict("the batch is %s", rec.Phase).WithHint("cancel it, and erase it when it has ended")
	})
}

func (s *Service) end(ctx context.Context, r Request, more func(*body), f func(*batch.Record) (bool, *jobs.Error)) Answer {
	var id string
	b, bad := newBody(r.Type, r.Body)
	if bad != nil {
		return refused(bad)
	}
	b.batch(&id)
	more(b)
	if bad := b.read("batch"); bad != nil {
		return refused(bad)
	}
	rec, bad := s.change(ctx, r.Tenant, id, f)
	if bad != nil {
		return refused(bad)
	}
	return Answer{Result: appendBatch(nil, rec, nil)}
}

// appendBatch writes a batch as requests about it are answered.
func appendBatch(out []byte, r *batch.Record, again *bool) []byte {
	tally := r.Seen
	if r.Phase == batch.Ended {
		tally = r.Tally
	}
	m := map[string]any{
		"batch": r.Batch, "phase": string(r.Phase), "jobs": r.Jobs, "created_at": stamp(r.Created),
		"outcomes": map[string]any{"succeeded": tally.Succeeded, "failed": tally.Failed, "cancelled": tally.Cancelled, "expired": tally.Expired},
		"errors":   tally.Errors, "usage": tally.Usage,
	}
	if tally.Errors == nil {
		m["errors"] = map[string]any{}
	}
	if tally.Usage == nil {
		m["usage"] = map[string]any{}
	}
	if again != nil {
		m["again"] = *again
	}
	if r.Phase == batch.Removing {
		m["phase"] = "removed"
	}
	if !r.Submitted.IsZero() {
		m["submitted_at"], m["digest"], m["concurrency"], m["keep_ms"] = stamp(r.Submitted), r.Digest, r.Concurrency, r.Keep.Milliseconds()
	}
	if !r.Finished.IsZero() {
		m["ended_at"], m["expires_at"] = stamp(r.Finished), stamp(r.Expires)
	}
	if r.Lost {
		m["lost"] = true
	}
	b, err := wire.Encode(m)
	if err != nil {
		b, _ = wire.Encode(map[string]any{"batch": r.Batch, "phase": string(r.Phase)})
	}
	return append(out, b...)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// query is what of a batch's results is requested.
type query struct {
	first, index int // the chunk, and the first job in it
	limit        int
	outcomes     []string // nil: all but pending
	inputs       bool
}

const (
	mostResults = 1000
	pending     = "pending"
)

var outcomeNames = []string{string(jobs.Succeeded), string(jobs.Failed), string(jobs.Cancelled), string(jobs.Expired), pending}

// Results reports how jobs ended, in their order, a page at a time.
func (s *Service) Results(ctx context.Context, r Request) Answer {
	var id, cursor string
	limit, q := int64(mostResults), query{}
	b, bad := newBody(r.Type, r.Body)
	if bad != nil {
		return refused(bad)
	}
	b.batch(&id)
	b.text("cursor", "the cursor of the previous answer", &cursor, func(v string) bool {
		first, index, ok := strings.Cut(v, ".")
		var err, err2 error
		q.first, err = strconv.Atoi(first)
		q.index, err2 = strconv.Atoi(index)
		return ok && err == nil && err2 == nil && contract.Digits(first) && contract.Digits(index) && q.index >= q.first
	})
	b.number("limit", 1, mostResults, &limit)
	b.flag("inputs", &q.inputs)
	b.may("outcomes", "a list of "+strings.Join(outcomeNames, ", "), func(in *wire.Reader) bool {
		n, err := in.Array()
		if err != nil || n == 0 || n > len(outcomeNames) {
			return false
		}
		for range n {
			v, err := in.Str()
			if err != nil || !slices.Contains(outcomeNames, v) {
				return false
			}
			q.outcomes = append(q.outcomes, v)
		}
		return true
	})
	if bad := b.read("batch"); bad != nil {
		return refused(bad)
	}
	q.limit = int(limit)
	h, bad := s.must(ctx, r.Tenant, id)
	if bad != nil {
		return refused(bad)
	}
	if h.rec.Phase == batch.Uploading || h.rec.Phase == batch.Removing {
		return refused(conflict("the batch is %s: it has no results", h.rec.Phase))
	}
	return s.page(ctx, h.rec, q)
}

// page collects entries, chunk by chunk, until there are enough.
func (s *Service) page(ctx context.Context, rec *batch.Record, q query) Answer {
	var entries []byte
	n, next := 0, ""
	for first, from := q.first, q.index; first < rec.Jobs; {
		v, bad := s.view(ctx, rec, first)
		if bad != nil {
			return refused(bad)
		}
		if v == nil { // lost
			break
		}
		for i := from - first; i < len(v.lines) && next == ""; i++ {
			if n >= q.limit || len(entries) > s.MaxPayload/8 {
				next = strconv.Itoa(first) + "." + strconv.Itoa(first+i)
				break
			}
			if e := v.entry(rec, first+i, q); e != nil {
				entries = append(entries, e...)
				n++
			}
		}
		if next != "" {
			break
		}
		first += len(v.lines)
		from = first
	}
	fields := 1
	if next != "" {
		fields++
	}
	out := wire.AppendMap(nil, fields)
	if next != "" {
		out = wire.AppendStr(wire.AppendStr(out, "cursor"), next)
	}
	out = wire.AppendArray(wire.AppendStr(out, "results"), n)
	return Answer{Result: append(out, entries...)}
}

// entry is a job in a page; nil: it is not requested.
func (v *view) entry(rec *batch.Record, index int, q query) []byte {
	line := v.lines[index-v.first]
	o, has := v.outcomes[index]
	switch {
	case has:
	case index < rec.Opened && len(line.Bad) > 0: // else it may still be cancelled
		o, has = batch.Outcome{Kind: jobs.Failed, Reply: line.Bad}, true
	case index >= rec.Opened && rec.Phase == batch.Ended:
		o, has = batch.Outcome{Kind: jobs.Cancelled, Reply: batch.CancelledReply()}, true
	}
	outcome := pending
	if has {
		outcome = string(o.Kind)
	}
	if q.outcomes == nil && !has || q.outcomes != nil && !slices.Contains(q.outcomes, outcome) {
		return nil
	}
	fields := 3
	for _, is := range []bool{line.ID != "", line.Session != "", has, has, q.inputs && len(line.Body) > 0} {
		if is {
			fields++
		}
	}
	out := wire.AppendMap(nil, fields)
	if has {
		out = wire.AppendInt(wire.AppendStr(out, "attempts"), int64(o.Attempts))
	}
	if line.ID != "" {
		out = wire.AppendStr(wire.AppendStr(out, "id"), line.ID)
	}
	out = wire.AppendInt(wire.AppendStr(out, "index"), int64(index))
	out = wire.AppendStr(wire.AppendStr(out, "job"), batch.JobID(rec.Key, index))
	out = wire.AppendStr(wire.AppendStr(out, "outcome"), outcome)
	if has {
		out = append(wire.AppendStr(out, "reply"), o.Reply...)
	}
	if q.inputs && len(line.Body) > 0 {
		out = append(wire.AppendStr(out, "request"), line.Body...)
	}
	if line.Session != "" {
		out = wire.AppendStr(wire.AppendStr(out, "session"), line.Session)
	}
	return out
}
