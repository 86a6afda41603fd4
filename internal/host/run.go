package host

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/wire"
)

// output is what one attempt brought.
type output struct {
	value   []byte
	usage   []byte
	state   []byte // nil: unchanged
	ver     uint64
	err     *jobs.Error
	worker  string
	slot    uint64 // the worker's id
	engine  string
	label   jobs.StateOf
	lm      []byte // the choice of language model, nil: none any more
	choseLM bool   // lm counts
	program []byte // what push_program or withdraw_program has checked
	ran     time.Duration

	answered bool         // the worker did, whatever it said
	calledLM use          // whether the language model of the task was called
	verdict  jobs.Verdict // of err: what it leads to
	stale    error        // why it was not started: it may have been run elsewhere
}

// use is what a worker says of the use that a call made of its language model.
type use int

const (
	notSaid use = iota
	unused
	used
)

func useOf(called bool) use {
	if called {
		return used
	}
	return unused
}

// run makes one attempt of a session job.
func (s *session) run(ctx context.Context, t *task, slot Slot) *output {
	h := s.p.h
	out := &output{worker: slot.WorkerName(), slot: slot.WorkerID(), engine: slot.Engine(), label: s.label(slot)}
	if out.err = t.needsState(s.record.StateVersion); out.err != nil {
		return out
	}
	call := frame.CallBody{Session: s.ref.String(), StateVersion: s.record.StateVersion, State: s.record.State}
	if out.label == jobs.Warm {
		call.State = nil
	}
	warm := s.prefers()
	if e := h.equip(t, slot, &call); e != nil {
		out.err = e
		return out
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	s.attempting(t, stop)
	defer s.attempting(nil, nil)
	defer s.lasts(t)()
	s.callIfMine(ctx, t, slot, call, out)
	if out.err != nil && out.err.Code == jobs.CodeStateMissing && call.State == nil && s.record.State != nil {
		warm, out.err, out.label, call.State = 0, nil, jobs.Restored, s.record.State
		s.callIfMine(ctx, t, slot, call, out)
	}
	if out.err != nil && out.err.Code == jobs.CodeRecordUnreadable && empties(t.req.Command) {
		out.err, call.State, call.StateVersion = nil, nil, 0 // what cannot be read can still be thrown away
		s.callIfMine(ctx, t, slot, call, out)
	}
	switch {
	case out.err != nil:
	case t.req.Command == importSession:
		out.err = h.importable(out)
	case t.req.Command == eraseSession:
		out.err = s.erased(ctx)
	}
	h.stats.countAffinity(warm, out.slot)
	return out
}

// callIfMine calls the worker, unless another host may have the session by now.
func (s *session) callIfMine(ctx context.Context, t *task, slot Slot, call frame.CallBody, out *output) {
	if out.stale = s.confirm(ctx, t); out.stale == nil {
		s.p.h.call(t, slot, call, out, func(ready <-chan struct{}, until time.Time) error { return s.serve(ctx, ready, until) })
	}
}

// needsState refuses a job that asks for state where there is none; an anonymous job has version 0.
func (t *task) needsState(version uint64) *jobs.Error {
	if !t.req.RequireState || version > 0 {
		return nil
	}
	return jobs.Errorf(jobs.Session, jobs.CodeStateRequired, "the job needs a session that has state").
		WithHint("options.require_state refuses to run on an empty session, and without one")
}

func (s *session) label(slot Slot) jobs.StateOf {
	switch {
	case s.lost:
		return jobs.Reset
	case s.record.StateVersion == 0:
		return jobs.None
	case s.worker == slot.WorkerID() && s.version == s.record.StateVersion:
		return jobs.Warm
	}
	return jobs.Restored
}

// equip makes the worker know what was pushed, and the task's language model.
func (h *Host) equip(t *task, slot Slot, call *frame.CallBody) *jobs.Error {
	if e := h.tellPrograms(slot); e != nil {
		return e
	}
	key, e := t.model.Key, t.noModel
	if e != nil && t.req.LM == "" && !jobs.UsesLM(t.req.Command) {
		return nil // a model that cannot be used keeps nobody from cleaning up
	}
	if e != nil || key == "" {
		return e
	}
	call.LM = key
	if !h.told.first(slot.WorkerID(), key) {
		return nil
	}
	if err := slot.Tell(frame.LM, frame.LMBody{Key: key, Profile: t.model.Profile}.AppendBody(nil)); err != nil {
		h.told.forget(slot.WorkerID(), key)
		return workerError(err, slot.WorkerName())
	}
	return nil
}

// call sends the CALL frame and turns what comes back into out.
func (h *Host) call(t *task, slot Slot, call frame.CallBody, out *output, wait waitUntil) {
	budget, late := t.budget(h)
	call.Command, call.Options = t.req.Command, t.req.Options
	if call.Args == nil {
		call.Args = t.req.Args
	}
	call.Job, call.Attempt, call.BudgetMS = t.env.Job, uint32(t.attempt), uint64(max(budget.Milliseconds(), 1))
	var partial func([]byte)
	if t.req.Stream && t.env.ReplyTo != "" {
		partial = func(body []byte) { h.sendPartial(t, body) }
	}
	started := time.Now()
	until := started.Add(budget)
	f, err := slot.Call(call.AppendBody(nil), partial, func(ready <-chan struct{}) error { return wait(ready, until) })
	out.ran += time.Since(started)
	out.answered = err == nil
	switch {
	case errors.Is(err, errCancelled):
		out.err = cancelled()
	case errors.Is(err, errTimeOver) && late:
		out.err = overdue()
	case errors.Is(err, errTimeOver):
		out.err = jobs.Errorf(jobs.Timeout, jobs.CodeOperationTimeout, "the attempt took longer than %v", budget.Round(time.Millisecond)).
			WithHint("options.timeout bounds one attempt").Again()
	case err != nil:
		out.err = workerError(err, slot.WorkerName())
	case f.Type == frame.Error:
		out.err, out.calledLM = errorFrame(f.Body, slot.WorkerName())
	default:
		h.readResult(f.Body, t.env.Type, out)
	}
}

func (h *Host) readResult(body []byte, contentType string, out *output) {
	r, err := frame.ParseResult(body)
	if err != nil {
		out.err = jobs.Errorf(jobs.Communication, jobs.CodeBadFrame, "the worker's result cannot be read: %v", err).Again()
		return
	}
	out.value, out.state, out.ver = r.Value, r.State, r.StateVersion
	if size, limit := len(r.Value), h.maxPayload/4; size > limit {
		out.err = jobs.Errorf(jobs.Session, jobs.CodeResultTooLarge, "the result has %d bytes", size).
			WithHint("an outcome may have at most %d bytes", limit)
	}
	if size, limit := replySize(r.Value, contentType, h.maxPayload), h.maxPayload/2; out.err == nil && size > limit {
		out.err = jobs.Errorf(jobs.Session, jobs.CodeResultTooLarge, "the result has %d bytes as JSON", size).
			WithHint("a reply in JSON may have at most %d bytes; ask in MessagePack", limit)
	}
	if limit := h.maxPayload / 2; len(r.State) > limit {
		out.err = jobs.Errorf(jobs.Session, jobs.CodeStateTooLarge, "the session's state would have %d bytes", len(r.State)).
			WithHint("a state may have at most %d bytes; the old one stays", limit)
	}
	in := wire.NewReader(r.Meta)
	n, _ := in.Map()
	for range n {
		key, _ := in.Str()
		kind := in.Kind()
		raw, err := in.Raw()
		switch {
		case err != nil:
			return
		case key == "usage" && kind == wire.Map:
			out.usage = raw
		case key == "lm_called" && kind == wire.Bool:
			out.calledLM = useOf(bytes.Equal(raw, yes))
		case key == "program" && kind == wire.Map:
			out.program = raw
		case key == "lm_choice" && kind == wire.Map:
			out.lm, out.choseLM = raw, true
		case key == "lm_choice" && kind == wire.Nil:
			out.lm, out.choseLM = nil, true
		}
	}
}

var yes = wire.AppendBool(nil, true)

// jsonGrowth is the most that a value grows from MessagePack to JSON: a control character becomes \u0000, false with its comma
// six bytes.
const jsonGrowth = 6

// replySize is the size of a result in the reply. Only where JSON could make it too large is it spelled out.
func replySize(value []byte, contentType string, maxPayload int) int {
	if contentType != jobs.JSON || len(value) <= maxPayload/2/jsonGrowth {
		return len(value)
	}
	text, err := wire.AppendJSON(nil, value)
	if err != nil {
		return len(value) // it goes out as MessagePack
	}
	return len(text)
}

// sendPartial passes a CHUNK on. At most once: a client that counts sees gaps.
func (h *Host) sendPartial(t *task, body []byte) {
	c, err := frame.ParseChunk(body)
	if err != nil {
		return
	}
	key := "status"
	fields := 1
	if c.Field != "" {
		key, fields = "chunk", 2
	}
	if c.Call > 0 {
		fields++
	}
	b := wire.AppendMap(nil, fields)
	b = wire.AppendStr(wire.AppendStr(b, key), c.Chunk)
	if c.Field != "" {
		b = wire.AppendStr(wire.AppendStr(b, "field"), c.Field)
	}
	if c.Call > 0 {
		b = wire.AppendUint(wire.AppendStr(b, "call"), c.Call)
	}
	m := h.message(t.env.ReplyTo, t.env.Type, t.env.Job, t.attempt, b)
	m.Header[jobs.HeaderPartial] = []string{strconv.FormatUint(c.N, 10)}
	_ = h.nc.PublishMsg(m)
}

// send publishes a job's last reply. It may be lost; the result is there to fetch.
func (h *Host) send(to, contentType, job string, attempt int, body []byte) {
	if h.tell(to, contentType, job, attempt, body) && jobs.Imported(to) {
		_ = h.nc.Publish(to, nil) // the broker forgets the call
	}
}

// tell publishes a reply that another one may follow, and says whether it was sent.
func (h *Host) tell(to, contentType, job string, attempt int, body []byte) bool {
	if to == "" {
		return false
	}
	if err := h.nc.PublishMsg(h.message(to, contentType, job, attempt, body)); err != nil {
		h.log.Warn("reply_not_sent", "job", job, "error", err)
		return false
	}
	return true
}

func (h *Host) message(to, contentType, job string, attempt int, body []byte) *nats.Msg {
	header, data := jobs.Answer(contentType, job, attempt, body)
	return &nats.Msg{Subject: to, Header: header, Data: data}
}
