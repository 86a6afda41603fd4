package dispatch

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/dspex/dspex/internal/affinity"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
	"github.com/dspex/dspex/internal/wire"
)

const maxWait = 10 * time.Minute

type ask struct {
	session, job string
	wait         time.Duration
}

// parseAsk reads {"session", "job", "wait_ms"}.
func parseAsk(r micro.Request) (ask, *jobs.Error) {
	const shape = `{"session": "...", "job": "...", "wait_ms": 0}`
	var a ask
	kind, bad := jobs.ContentType(r.Headers().Get(jobs.HeaderContentType))
	if bad != nil {
		return a, bad
	}
	var body []byte
	var err error
	if kind == jobs.JSON {
		body, err = wire.FromJSON(r.Data(), wire.Request)
	} else {
		body, err = wire.Canonical(r.Data(), wire.Request)
	}
	wrong := jobs.Errorf(jobs.Python, jobs.CodeBadRequest, "the request cannot be read")
	wrong.Expected = shape
	if err != nil {
		return a, wrong
	}
	in := wire.NewReader(body)
	n, err := in.Map()
	if err != nil {
		return a, wrong
	}
	for range n {
		key, _ := in.Str()
		switch {
		case key == "session" && in.Kind() == wire.Str:
			a.session, _ = in.Str()
		case key == "session" && in.Nil():
		case key == "job" && in.Kind() == wire.Str:
			a.job, _ = in.Str()
		case key == "wait_ms" && in.Kind() == wire.Int:
			ms, err := in.Int()
			if err != nil || ms < 0 || ms > maxWait.Milliseconds() {
				wrong.Path, wrong.Expected = "wait_ms", "0 to 600000"
				return a, wrong
			}
			a.wait = time.Duration(ms) * time.Millisecond
		default:
			return a, wrong
		}
	}
	if _, sequence := jobs.JobSequence(a.job); !jobs.ValidJob(a.job) && !sequence && !validReplay(a.job) {
		wrong.Path, wrong.Expected = "job", "a job id"
		return a, wrong
	}
	if a.session != "" && !jobs.ValidSession(a.session) {
		wrong.Path, wrong.Expected = "session", "1 to 64 of A-Z a-z 0-9 _ -"
		return a, wrong
	}
	return a, nil
}

// validReplay accepts the ids of replays: a token that only the product may make.
func validReplay(id string) bool { return jobs.ValidSession(id) }

// getJob answers where a job stands, or waits for its outcome.
func (d *Dispatcher) getJob(ctx context.Context, r micro.Request) {
	a, bad := parseAsk(r)
	if bad != nil {
		refuse(r, bad)
		return
	}
	if a.wait > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, a.wait)
		defer cancel()
	}
	body, e := d.find(ctx, a)
	if e != nil {
		refuse(r, e)
		return
	}
	respond(r, body)
}

func (d *Dispatcher) find(ctx context.Context, a ask) ([]byte, *jobs.Error) {
	key := jobs.ResultKeyFor(a.session, a.job)
	var written chan *nats.Msg
	if a.wait > 0 { // listen first, then look: an outcome in between is not missed
		written = make(chan *nats.Msg, 4)
		sub, err := d.nc.ChanSubscribe(d.results.Subject(key), written)
		if err != nil {
			return nil, jobs.Errorf(jobs.Connection, jobs.CodeBroker, "cannot wait: %v", err).Again()
		}
		defer func() { _ = sub.Unsubscribe() }()
	}
	poll := time.NewTicker(5 * time.Second) // backstop for a message lost on the way
	defer poll.Stop()
	for {
		look := context.WithoutCancel(ctx)
		e, err := d.results.Get(look, key)
		if err != nil {
			return nil, jobs.Errorf(jobs.Connection, jobs.CodeBroker, "the outcome cannot be read: %v", err).Again()
		}
		if e.Exists {
			r, err := jobs.ParseResult(e.Value)
			if err != nil {
				return nil, jobs.Errorf(jobs.Session, jobs.CodeRecordUnreadable, "the outcome cannot be read: %v", err)
			}
			return found(a, string(r.Kind), r.Attempt, r.Body), nil
		}
		outcome, attempt, bad := d.open(look, a)
		if bad != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) && a.wait > 0 && bad.Code == jobs.CodeJobUnknown {
			bad = nil // it may be on its way; the deadline decides
			outcome = ""
		}
		if bad != nil {
			return nil, bad
		}
		if a.wait == 0 || ctx.Err() != nil {
			if outcome == "" {
				return nil, unknownJob(a)
			}
			return found(a, outcome, attempt, nil), nil
		}
		select {
		case <-ctx.Done():
		case <-written:
		case <-poll.C:
		}
	}
}

// found is the answer of jobs.get.
func found(a ask, outcome string, attempts int, reply []byte) []byte {
	fields := 3
	if a.session != "" {
		fields++
	}
	if reply != nil {
		fields++
	}
	b := wire.AppendMap(nil, 2)
	b = wire.AppendBool(wire.AppendStr(b, "ok"), true)
	b = wire.AppendMap(wire.AppendStr(b, "result"), fields)
	b = wire.AppendInt(wire.AppendStr(b, "attempts"), int64(attempts))
	b = wire.AppendStr(wire.AppendStr(b, "job"), a.job)
	b = wire.AppendStr(wire.AppendStr(b, "outcome"), outcome)
	if reply != nil {
		b = append(wire.AppendStr(b, "reply"), reply...)
	}
	if a.session != "" {
		b = wire.AppendStr(wire.AppendStr(b, "session"), a.session)
	}
	return b
}

func unknownJob(a ask) *jobs.Error {
	return jobs.Errorf(jobs.Session, jobs.CodeJobUnknown, "the job is not known").
		WithHint("outcomes are kept for 15 minutes after a call and 24 hours after a queued job; ids belong to their session")
}

// open finds a job that has no outcome yet: its message, and the head of its session.
func (d *Dispatcher) open(ctx context.Context, a ask) (outcome string, attempt int, bad *jobs.Error) {
	name, subjects := stream.Anonymous, []string{jobs.SubjectAnonymous + jobs.LaneInteractive, jobs.SubjectAnonymous + jobs.LaneBatch}
	if a.session != "" {
		name = stream.Jobs
		subjects = []string{jobs.PartitionSubject(affinity.Partition(a.session, d.partitions), a.session)}
	}
	for _, subject := range subjects {
		seq, err := d.sequenceOf(ctx, name, subject, a.job)
		if errors.Is(err, stream.ErrNotFound) {
			continue
		}
		if err != nil {
			return "", 0, jobs.Errorf(jobs.Connection, jobs.CodeBroker, "the job cannot be looked up: %v", err).Again()
		}
		if a.session == "" {
			return "queued", 0, nil
		}
		return d.stage(ctx, a.session, seq)
	}
	return "", 0, unknownJob(a)
}

func (d *Dispatcher) stage(ctx context.Context, session string, seq uint64) (string, int, *jobs.Error) {
	e, err := d.records.Get(ctx, jobs.HeadKey(session))
	if err != nil {
		return "", 0, jobs.Errorf(jobs.Connection, jobs.CodeBroker, "the job cannot be looked up: %v", err).Again()
	}
	if e.Exists {
		if h, err := jobs.ParseHead(e.Value); err == nil && h.Sequence == seq {
			if !h.NotBefore.IsZero() {
				return "retrying", h.Attempt, nil
			}
			return "running", h.Attempt, nil
		}
	}
	return "queued", 0, nil
}

// sequenceOf finds the earliest outstanding message of a job id: at most a session's queue is walked.
func (d *Dispatcher) sequenceOf(ctx context.Context, name, subject, job string) (uint64, error) {
	if seq, ok := jobs.JobSequence(job); ok {
		m, err := stream.GetSequence(ctx, d.nc, name, seq)
		if err == nil && m.Subject != subject {
			err = stream.ErrNotFound
		}
		return seq, err
	}
	const most = 4096
	next := uint64(1)
	for range most {
		m, err := stream.GetNext(ctx, d.nc, name, subject, next)
		if err != nil {
			return 0, err
		}
		if m.Header.Get(jobs.HeaderJob) == job {
			return m.Sequence, nil
		}
		next = m.Sequence + 1
	}
	return 0, stream.ErrNotFound
}
