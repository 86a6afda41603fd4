package batches

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"strconv"
	"strings"
	"sync"

	"github.com/dspex/dspex/internal/batch"
	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
	"github.com/dspex/dspex/internal/wire"
)

// runner carries out what one batch's Run decides. One goroutine steps it; whatever takes time answers with a happening.
type runner struct {
	s      *store
	tenant string
	key    string
	id     string
	trace  string // traceparent of its jobs, "" if there is none
	rev    uint64
	run    *batch.Run
	views  map[int]*view // open chunks
	// replies are outcomes that are not stored with the batch yet.
	replies map[int]batch.Outcome
	events  chan happening
	answers chan happening // replies of hosts, which may be lost
	inbox   string         // prefix of their subjects, "": none come
	writes  bool           // one is under way
	most    int            // as Run knows its bound in the lane
	opened  int            // by earlier leaders
	asides  sync.WaitGroup
}

// happening is an event, and what of it is not for Run.
type happening struct {
	event   batch.Event
	found   []batch.Outcome
	view    *view
	rev     uint64
	cleared []batch.End // of a part that was stored
}

// mostEvents is more than there may be answers under way: one for each job of the window, each chunk, and some more.
const mostEvents = 2 * batch.MaxConcurrency

// look notifies Run of a change that is not its own.
func (r *runner) look(ctx context.Context) happening {
	if !r.writes && r.s.changed(r.tenant, r.id, r.rev) {
		if e := r.readAgain(ctx); e.event != (batch.NotWritten{}) {
			return e
		}
	}
	return happening{event: batch.Tick{}}
}

// readAgain reads the record as the broker's leader has it.
func (r *runner) readAgain(ctx context.Context) happening {
	h, _, bad := r.s.read(ctx, r.tenant, r.id)
	switch {
	case bad != nil:
		return happening{event: batch.NotWritten{}}
	case h == nil:
		return happening{event: batch.Changed{}}
	}
	return happening{event: batch.Changed{Record: h.rec}, rev: h.rev}
}

// takeAll takes an event and others that are there, up to a bound: Run decides once for them.
func (r *runner) takeAll(e happening) (events []batch.Event) {
	for {
		r.take(e)
		if events = append(events, e.event); len(events) == mostEvents {
			return events
		}
		select {
		case e = <-r.events:
		case e = <-r.answers:
		default:
			return events
		}
	}
}

// take keeps what Run does not.
func (r *runner) take(e happening) {
	if e.rev != 0 {
		r.rev = e.rev
	}
	switch e.event.(type) {
	case batch.Written, batch.NotWritten, batch.Changed:
		r.writes = false
	case batch.Loaded:
		r.views[e.view.first] = e.view
		maps.Copy(r.replies, e.view.outcomes)
	}
	for _, o := range e.found {
		if _, has := r.replies[o.Index]; !has && r.line(o.Index) != nil {
			r.replies[o.Index] = o
		}
	}
	for _, end := range e.cleared {
		delete(r.replies, end.Index)
	}
}

// forget removes chunks that are closed.
func (r *runner) forget() {
	stored := r.run.Stored()
	for first, v := range r.views {
		if first < stored {
			for i := range v.lines {
				delete(r.replies, first+i)
			}
			delete(r.views, first)
		}
	}
}

func (r *runner) line(index int) *batch.Line {
	for first, v := range r.views {
		if index >= first && index < first+len(v.lines) {
			return &v.lines[index-first]
		}
	}
	return nil
}

func (r *runner) post(event batch.Event) { r.events <- happening{event: event} }

func (r *runner) carryOut(ctx context.Context, do batch.Action) {
	switch do := do.(type) {
	case batch.Open:
		r.asides.Go(func() { r.open(ctx, do.First) })
	case batch.Feed:
		r.feed(do.Index)
	case batch.Look:
		sessions := make(map[int]string, len(do.Indexes))
		for _, index := range do.Indexes {
			sessions[index] = r.line(index).Session
		}
		r.asides.Go(func() { r.lookAt(ctx, do.Indexes, sessions) })
	case batch.Cancel:
		line := *r.line(do.Index)
		r.asides.Go(func() { r.cancel(ctx, do.Index, line) })
	case batch.Save:
		r.save(do)
	case batch.Write:
		r.writes = true
		rev := r.rev
		r.asides.Go(func() { r.write(ctx, &do.Record, rev) })
	case batch.Announce:
		r.announce(&do.Record)
	}
}

func (r *runner) record() *batch.Record {
	return &batch.Record{Tenant: r.tenant, Batch: r.id, Key: r.key, Opened: r.opened}
}

func (r *runner) open(ctx context.Context, first int) {
	v, bad := r.s.view(ctx, r.record(), first)
	switch {
	case bad != nil:
		r.s.Log.Debug("batch_not_read", "batch", r.id, "error", bad)
		r.post(batch.NotLoaded{First: first})
		return
	case v == nil:
		r.s.Log.Error("batch_jobs_lost", "batch", r.id, "from", first)
		r.post(batch.NotLoaded{First: first, Gone: true})
		return
	}
	e := batch.Loaded{First: first, Lines: v.lines, Parts: v.parts}
	for index, o := range v.outcomes {
		if v.isStored(index) {
			e.Ended = append(e.Ended, end(o))
		} else {
			e.Seen = append(e.Seen, end(o))
		}
	}
	r.events <- happening{event: e, view: v}
}

func end(o batch.Outcome) batch.End {
	code, usage := batch.Facts(o.Reply)
	return batch.End{Index: o.Index, Kind: o.Kind, Code: code, Usage: usage, Bytes: len(o.Reply)}
}

// feed publishes a job where clients publish. Its id is always the same.
func (r *runner) feed(index int) {
	line := r.line(index)
	subject := jobs.SessionRef{Tenant: r.tenant, ID: line.Session}.PublishSubject(jobs.LaneBatch)
	header := map[string][]string{jobs.HeaderJob: {batch.JobID(r.key, index)}, jobs.HeaderContentType: {jobs.MsgPack}}
	if r.inbox != "" {
		header[jobs.HeaderReplyTo] = []string{r.inbox + strconv.Itoa(index)}
	}
	if r.trace != "" {
		header[contract.HeaderTraceparent] = []string{r.trace}
	}
	r.s.Writer.Send(subject, header, line.Body, func(_ stream.Ack, err error) {
		if err != nil {
			r.s.Log.Debug("batch_job_not_published", "batch", r.id, "index", index, "error", err)
			r.post(batch.NotFed{Index: index})
			return
		}
		r.post(batch.Fed{Index: index})
	})
}

func (r *runner) lookAt(ctx context.Context, indexes []int, sessions map[int]string) {
	found, err := r.s.outcomesOf(ctx, r.record(), indexes, func(index int) string { return sessions[index] })
	if err != nil {
		r.s.Log.Debug("batch_results_not_read", "batch", r.id, "error", err)
	}
	e := batch.Looked{}
	for _, o := range found {
		e.Ended = append(e.Ended, end(o))
	}
	r.events <- happening{event: e, found: found}
}

// cancel ends a job that may be at the broker. One without a session is given its outcome here, if no host holds it: a host that takes it later
// finds that.
func (r *runner) cancel(ctx context.Context, index int, line batch.Line) {
	of, job := jobs.SessionRef{Tenant: r.tenant, ID: line.Session}, batch.JobID(r.key, index)
	bad := r.s.cfg.Cancel(ctx, of, job)
	switch {
	case bad == nil:
	case bad.Code != jobs.CodeJobUnknown:
		r.post(batch.NotStopped{Index: index})
		return
	case line.Session != "":
		r.post(batch.Stopped{Index: index})
		return
	default:
		if !r.endUntaken(of, job, line) {
			r.post(batch.NotStopped{Index: index})
			return
		}
	}
	found, err := r.s.outcomesOf(ctx, r.record(), []int{index}, func(int) string { return line.Session })
	if err == nil && len(found) == 0 {
		var o *jobs.Outcome
		if o, err = r.s.cfg.Decided(ctx, of, job); o != nil {
			found = []batch.Outcome{{Index: index, Kind: o.Kind, Attempts: o.Attempt, Reply: o.Body}}
		}
	}
	if err != nil || len(found) == 0 {
		r.post(batch.NotStopped{Index: index})
		return
	}
	e := end(found[0])
	r.events <- happening{event: batch.Stopped{Index: index, Ended: &e}, found: found}
}

// endUntaken creates the outcome of a job without session: the first one that is created counts.
func (r *runner) endUntaken(of jobs.SessionRef, job string, line batch.Line) bool {
	req, _ := jobs.ParseRequest(jobs.MsgPack, line.Body, 0)
	reply := jobs.Reply{Job: job, Err: jobs.Errorf(jobs.System, jobs.CodeCancelled, "its batch was cancelled before the job began")}
	res := &jobs.Result{Job: job, Hash: req.Hash, Kind: jobs.Cancelled, Body: reply.Append(nil), Stored: r.s.Clock.Now()}
	_, err := r.s.Results.PutSync(of.ResultKey(job), res.Append(nil), 0, jobs.ResultTTL(jobs.ModeQueue))
	return err == nil || errors.Is(err, stream.ErrWrongRevision)
}

// save creates a part. Of two leaders the first one counts.
func (r *runner) save(do batch.Save) {
	p := &batch.Part{}
	for _, e := range do.Ended {
		o, has := r.replies[e.Index]
		if !has || e.Unrun {
			o = batch.Outcome{Index: e.Index, Kind: e.Kind, Reply: batch.CancelledReply()}
			if bad := r.line(e.Index).Bad; len(bad) > 0 {
				o.Reply = bad
			}
		}
		p.Outcomes = append(p.Outcomes, o)
	}
	key := batch.PartKey(r.tenant, r.key, do.First, do.Part)
	r.s.Batches.Put(key, p.Append(nil), 0, strayLifetime, func(_ uint64, err error) {
		if err != nil {
			r.s.Log.Debug("batch_outcomes_not_stored", "batch", r.id, "error", err)
			r.post(batch.NotSaved{First: do.First, Part: do.Part, Taken: errors.Is(err, stream.ErrWrongRevision)})
			return
		}
		r.events <- happening{event: batch.Saved{First: do.First, Part: do.Part}, cleared: do.Ended}
	})
}

func (r *runner) write(ctx context.Context, rec *batch.Record, over uint64) {
	rev, err := r.s.write(rec, over)
	if err == nil {
		r.events <- happening{event: batch.Written{}, rev: rev}
		return
	}
	if errors.Is(err, stream.ErrStoreFull) {
		r.post(batch.NotWritten{})
		return
	}
	r.events <- r.readAgain(ctx)
}

// announce publishes the end of the batch: to all subscribers, and to the subject that its submission named.
func (r *runner) announce(rec *batch.Record) {
	text, err := wire.AppendJSON(nil, appendBatch(nil, rec, nil))
	if err == nil {
		header := map[string][]string{jobs.HeaderContentType: {jobs.JSON}}
		if to := replyOf(rec, r.s.Accounts()); to != "" {
			err = r.s.Send(to, header, text)
		}
		var event []byte
		if event, _ = json.Marshal(map[string]any{"event": "dspex.batch.ended", "at": stamp(r.s.Clock.Now()), "tenant": rec.Tenant, "batch": json.RawMessage(text)}); err == nil {
			err = r.s.Send(contract.SubjectBatchEnded, nil, event)
		}
	}
	if err != nil {
		r.s.Log.Warn("batch_end_not_sent", "batch", r.id, "error", err)
	}
	r.post(batch.Announced{})
}

// replyOf is where the end is sent: tenants with accounts receive what the service exports to them.
func replyOf(rec *batch.Record, accounts bool) string {
	rest, exported := strings.CutPrefix(rec.ReplyTo, contract.SubjectReply)
	if exported && accounts {
		return contract.SubjectReply + rec.Tenant + "." + rest
	}
	return rec.ReplyTo
}
