package dispatch

import (
	"context"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/dspex/dspex/internal/affinity"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
	"github.com/dspex/dspex/internal/wire"
)

// Bounds of one list request: what it answers, and what it looks at for that.
const (
	listDefault = 100
	listMost    = 1000
	scanMost    = 10_000                // records
	scanTime    = 2 * time.Second       // then the page ends as it is
	pageRecords = 500                   // asked for at once
	pageBytes   = 4 << 20               // of these, in memory at a time
	idleMost    = 366 * 24 * time.Hour  // that a filter may ask for
	idleDefault = time.Hour             // of hosts that do not say theirs
	prefixShape = "text, 0 to 64 bytes" // a prefix of session ids
)

type listAsk struct {
	prefix, host, cursor string
	idle, limit          int64
	from                 uint64
}

func parseList(r micro.Request) (listAsk, *jobs.Error) {
	a := listAsk{limit: listDefault, from: 1}
	bad := readBody(r, `{"prefix": "...", "host": "...", "idle_ms": 0, "limit": 100, "cursor": "..."}`, map[string]*entry{
		"prefix":  textEntry(&a.prefix, prefixShape, func(s string) bool { return len(s) <= jobs.MaxSessionID }),
		"host":    textEntry(&a.host, "a host's name", jobs.ValidSession),
		"idle_ms": intEntry(&a.idle, "milliseconds", 0, idleMost.Milliseconds()),
		"limit":   intEntry(&a.limit, "sessions", 1, listMost),
		"cursor": textEntry(&a.cursor, "the cursor of the page before", func(s string) (ok bool) {
			var err error
			a.from, err = strconv.ParseUint(s, 10, 64)
			return err == nil && a.from > 0
		}),
	})
	return a, bad
}

// listSessions answers one page of the sessions that have a record, those not used for longest first. The cursor is the
// record's revision: a session that is used meanwhile moves to the end, so that none is missed, and one may come twice.
func (d *Dispatcher) listSessions(ctx context.Context, r micro.Request) {
	a, bad := parseList(r)
	if bad != nil {
		refuse(r, bad)
		return
	}
	owners, _, err := d.owners(ctx)
	if err != nil {
		refuse(r, unreadable(err))
		return
	}
	l := &listing{ask: a, owners: owners, idle: d.sessionIdle(), now: time.Now(), next: a.from, found: []map[string]any{}}
	for scanned, end := 0, l.now.Add(scanTime); l.next > 0 && len(l.found) < int(a.limit) && scanned < scanMost && time.Now().Before(end); {
		page := stream.Page{From: l.next, Messages: pageRecords, Bytes: pageBytes}
		next, err := d.records.Page(ctx, jobs.RecordKey("*"), page, func(key string, e stream.Entry) error {
			scanned++
			return l.look(key, e)
		})
		if err != nil && !errors.Is(err, errPageFull) {
			refuse(r, unreadable(err))
			return
		}
		if err == nil {
			l.next = next
		}
	}
	result := map[string]any{"sessions": l.found}
	if l.next > 0 {
		result["cursor"] = strconv.FormatUint(l.next, 10)
	}
	respondResult(r, result)
}

var errPageFull = errors.New("the page is full")

// listing collects the sessions that were asked for.
type listing struct {
	ask    listAsk
	owners map[int]string
	idle   time.Duration
	now    time.Time
	next   uint64
	found  []map[string]any
}

func (l *listing) look(key string, e stream.Entry) error {
	l.next = e.Revision + 1
	id := strings.TrimPrefix(key, jobs.RecordKey(""))
	partition := affinity.Partition(id, len(l.owners))
	if !e.Exists || !strings.HasPrefix(id, l.ask.prefix) || l.ask.host != "" && l.owners[partition] != l.ask.host {
		return nil
	}
	rec, err := jobs.ParseRecord(e.Value)
	if err != nil {
		l.found = append(l.found, map[string]any{"session_id": id, "host": l.owners[partition], "partition": partition, "unreadable": err.Error()})
	} else if !isEmpty(rec) && l.now.Sub(rec.Updated).Milliseconds() >= l.ask.idle {
		l.found = append(l.found, brief(id, rec, l.owners[partition], partition, l.idle, l.now))
	}
	if len(l.found) == int(l.ask.limit) {
		return errPageFull
	}
	return nil
}

// isEmpty reports whether a record is only there for the order of its session's jobs: after a cleanup.
func isEmpty(r *jobs.Record) bool { return r.StateVersion == 0 && r.Jobs == 0 }

// brief is what a list tells of a session.
func brief(id string, r *jobs.Record, host string, partition int, idle time.Duration, now time.Time) map[string]any {
	unused := max(now.Sub(r.Updated), 0)
	b := map[string]any{
		"session_id": id, "worker_id": orNil(r.Worker), "host": orNil(host), "partition": partition, "generation": r.Generation,
		"created_at": timeText(r.Created), "last_activity": timeText(r.Updated), "idle_ms": unused.Milliseconds(), "expired": unused > idle,
		"operations": r.Jobs, "programs_count": nil, "state_version": r.StateVersion, "state_bytes": len(r.State),
	}
	if c, err := jobs.ReadState(r.State); err == nil {
		b["programs_count"] = len(c.Programs)
	}
	return b
}

func orNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func timeText(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// sessionIdle is how long the hosts keep an idle session.
func (d *Dispatcher) sessionIdle() time.Duration {
	longest := time.Duration(0)
	for _, b := range d.hosts.live() {
		longest = max(longest, time.Duration(b.IdleMillis)*time.Millisecond)
	}
	if longest == 0 {
		return idleDefault
	}
	return longest
}

// readSession reads a session's record from the leader; nil if nothing of it is known.
func (d *Dispatcher) readSession(ctx context.Context, id string) (*jobs.Record, *jobs.Error) {
	e, err := d.records.Get(ctx, jobs.RecordKey(id))
	if err != nil {
		return nil, unreadable(err)
	}
	if !e.Exists {
		return nil, nil
	}
	rec, err := jobs.ParseRecord(e.Value)
	switch {
	case errors.Is(err, jobs.ErrNewer):
		return nil, jobs.Errorf(jobs.Session, jobs.CodeRecordNewer, "the session's record cannot be read: %v", err).
			WithHint("ask a dispatcher of the newer release")
	case err != nil:
		return nil, jobs.Errorf(jobs.Session, jobs.CodeRecordUnreadable, "the session's record cannot be read: %v", err)
	case isEmpty(rec):
		return nil, nil
	}
	return rec, nil
}

func unknownSession() *jobs.Error {
	return jobs.Errorf(jobs.Session, jobs.CodeSessionUnknown, "nothing is known of the session").
		WithHint("it was never used, has been cleaned up, or was idle for too long; `dspex sessions list` shows those that are known")
}

// getSession tells all about one session.
func (d *Dispatcher) getSession(ctx context.Context, r micro.Request) {
	var id string
	bad := readBody(r, `{"session": "..."}`, map[string]*entry{"session": sessionEntry(&id)})
	if bad == nil {
		var result map[string]any
		if result, bad = d.describe(ctx, id); bad == nil {
			respondResult(r, result)
			return
		}
	}
	refuse(r, bad)
}

func (d *Dispatcher) describe(ctx context.Context, id string) (map[string]any, *jobs.Error) {
	partition := affinity.Partition(id, d.partitions)
	owner, epoch, err := d.claims.Read(ctx, jobs.AssignmentKey(partition))
	if err != nil {
		return nil, unreadable(err)
	}
	rec, bad := d.readSession(ctx, id)
	if bad != nil {
		return nil, bad
	}
	queue, err := d.queue(ctx, id, partition)
	if err != nil {
		return nil, unreadable(err)
	}
	if rec == nil {
		if queue.waiting == 0 && queue.running == nil {
			return nil, unknownSession()
		}
		rec = &jobs.Record{Created: queue.oldest, Updated: queue.oldest}
	}
	now := time.Now()
	result := brief(id, rec, owner.Host, partition, d.sessionIdle(), now)
	result["epoch"], result["last_sequence"], result["age_ms"] = epoch, rec.LastSequence, max(now.Sub(rec.Created), 0).Milliseconds()
	result["waiting_jobs"], result["running"], result["oldest_waiting_ms"] = queue.waiting, queue.running, nil
	if queue.waiting > 0 {
		result["oldest_waiting_ms"] = max(now.Sub(queue.oldest), 0).Milliseconds()
	}
	addContents(result, rec)
	return result, nil
}

// addContents tells what the session's state holds; all is null if it cannot be read here.
func addContents(result map[string]any, rec *jobs.Record) {
	result["programs"], result["turns"], result["data_keys"], result["lm"] = nil, nil, nil, nil
	c, err := jobs.ReadState(rec.State)
	if err != nil {
		return
	}
	programs := []map[string]any{}
	for _, p := range c.Programs {
		programs = append(programs, map[string]any{
			"id": p.ID, "program_type": p.Type, "execution_count": p.Executions, "created_at": p.Created, "last_executed": orNil(p.LastExecuted),
		})
	}
	result["programs"], result["turns"], result["data_keys"] = programs, c.Turns, c.Data
	if c.LM != nil {
		result["lm"] = wire.Raw(c.LM)
	}
}

// queue is what waits and runs of a session.
type queue struct {
	waiting int
	oldest  time.Time // of what waits
	running map[string]any
}

func (d *Dispatcher) queue(ctx context.Context, id string, partition int) (q queue, err error) {
	subject := jobs.PartitionSubject(partition, id)
	s, err := d.js.Stream(ctx, stream.Jobs)
	if err != nil {
		return q, err
	}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(subject))
	if err != nil {
		return q, err
	}
	q.waiting = int(info.State.Subjects[subject])
	if q.waiting == 0 {
		return q, nil
	}
	first, err := stream.GetNext(ctx, d.nc, stream.Jobs, subject, 1)
	if errors.Is(err, stream.ErrNotFound) {
		return queue{}, nil // the last one has just ended
	}
	if err != nil {
		return q, err
	}
	q.oldest = first.Time
	outcome, attempt, bad := d.stage(ctx, id, first.Sequence)
	if bad != nil {
		return q, errors.New(bad.Message)
	}
	if outcome == "queued" {
		return q, nil
	}
	env, _ := jobs.ParseHeaders(first.Header, first.Sequence)
	q.running = map[string]any{"job": env.Job, "sequence": first.Sequence, "attempt": attempt, "outcome": outcome}
	if q.waiting--; q.waiting > 0 {
		second, err := stream.GetNext(ctx, d.nc, stream.Jobs, subject, first.Sequence+1)
		if err != nil && !errors.Is(err, stream.ErrNotFound) {
			return q, err
		}
		q.oldest = second.Time
	}
	return q, nil
}

// exportSchema is the version of the documents that exportSession makes.
const exportSchema = 1

// exportSession answers a document from which import makes the session again, here or in another deployment.
func (d *Dispatcher) exportSession(ctx context.Context, r micro.Request) {
	var id string
	bad := readBody(r, `{"session": "..."}`, map[string]*entry{"session": sessionEntry(&id)})
	var rec *jobs.Record
	if bad == nil {
		rec, bad = d.readSession(ctx, id)
	}
	if bad == nil && rec == nil {
		bad = unknownSession()
	}
	if bad == nil {
		bad = exportable(r, rec.State)
	}
	if bad != nil {
		refuse(r, bad)
		return
	}
	document := map[string]any{
		"schema": exportSchema, "session_id": id, "exported_at": timeText(time.Now()), "generation": rec.Generation,
		"created_at": timeText(rec.Created), "last_activity": timeText(rec.Updated), "operations": rec.Jobs, "state": nil,
	}
	if rec.State != nil {
		document["state"] = wire.Raw(rec.State)
	}
	respondResult(r, document)
}

// exportable refuses what the form that was asked for cannot keep.
func exportable(r micro.Request, state []byte) *jobs.Error {
	if state == nil {
		return nil
	}
	if err := wire.Check(state, wire.Pass); err != nil {
		return jobs.Errorf(jobs.Session, jobs.CodeRecordUnreadable, "the session's state cannot be read: %v", err)
	}
	if kind, bad := jobs.ContentType(r.Headers().Get(jobs.HeaderContentType)); bad != nil || kind != jobs.JSON {
		return bad
	}
	if lost := lostInJSON(state); lost != "" {
		return jobs.Errorf(jobs.Session, jobs.CodeNotJSON, "the session's state holds %s", lost).
			WithHint("ask for it in MessagePack (Content-Type: %s)", jobs.MsgPack)
	}
	return nil
}

// lostInJSON names what of a checked value JSON cannot spell, or could not give back.
func lostInJSON(b []byte) string {
	in := wire.NewReader(b)
	for left := 1; left > 0; left-- {
		switch in.Kind() {
		case wire.Bin:
			return "bytes"
		case wire.Float:
			if v, _ := in.Float(); math.IsNaN(v) || math.IsInf(v, 0) {
				return "a number that is not finite"
			}
		case wire.Array:
			n, _ := in.Array()
			left += n
		case wire.Map:
			n, _ := in.Map()
			left += 2 * n
		default:
			if in.Skip() != nil {
				return "an unreadable value"
			}
		}
	}
	return ""
}
