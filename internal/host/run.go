package host

import (
	"bytes"
	"errors"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/host/workers"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
	"github.com/dspex/dspex/internal/wire"
)

// output is what one attempt brought.
type output struct {
	lifecycle.Output

	answered bool   // the worker did, whatever it said
	calledLM use    // whether the language model of the task was called
	program  []byte // what push_program or withdraw_program has checked
}

func newOutput(a *attempt) *output {
	out := &output{Output: lifecycle.Output{Label: a.Label}}
	out.Slot = lifecycle.Slot{WorkerID: a.slot.WorkerID(), Worker: a.slot.WorkerName(), Engine: a.slot.Engine()}
	return out
}

func (o *output) failed(code string) bool { return o.Err != nil && o.Err.Code == code }

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

// needsState refuses a job that asks for state where there is none; an anonymous job has version 0.
func needsState(a *attempt, version uint64) *jobs.Error {
	if !a.Req.RequireState || version > 0 {
		return nil
	}
	return jobs.Errorf(jobs.Session, jobs.CodeStateRequired, "the job needs a session that has state").
		WithHint("options.require_state refuses to run on an empty session, and without one")
}

// equip makes the worker know what was pushed, and the attempt's language model.
func (h *Host) equip(a *attempt, call *frame.CallBody) *jobs.Error {
	if e := h.tellPrograms(a.slot); e != nil {
		return e
	}
	key, e := a.model.Key, a.noModel
	if e != nil && a.Req.LM == "" && !jobs.UsesLM(a.Req.Command) {
		return nil // a model that cannot be used keeps nobody from cleaning up
	}
	if e != nil || key == "" {
		return e
	}
	call.LM = key
	err := h.sent.tell(a.slot.WorkerID(), key, func() error {
		return a.slot.Tell(frame.LM, frame.LMBody{Key: key, Profile: a.model.Profile}.AppendBody(nil))
	})
	if err != nil {
		return workers.CallError(err, a.slot.WorkerName())
	}
	return nil
}

// call sends the CALL frame and turns what comes back into out.
func (h *Host) call(a *attempt, call frame.CallBody, out *output) {
	call.Command, call.Options = a.Req.Command, a.Req.Options
	if call.Args == nil {
		call.Args = a.Req.Args
	}
	call.Job, call.Attempt, call.BudgetMS = a.Env.Job, uint32(a.Attempt), uint64(max(a.Budget.Milliseconds(), 1))
	var partial func([]byte)
	if a.Req.Stream && a.Env.ReplyTo != "" {
		partial = func(body []byte) { h.sendPartial(a, body) }
	}
	started := time.Now()
	f, err := a.slot.Call(call.AppendBody(nil), partial, a.wait)
	out.Ran += time.Since(started)
	out.answered = err == nil
	switch {
	case errors.Is(err, errCancelled), errors.Is(err, errTimeOver):
		out.GaveUp = true
	case err != nil:
		out.Err = workers.CallError(err, a.slot.WorkerName())
	case f.Type == frame.Error:
		out.Err, out.calledLM = errorFrame(f.Body, a.slot.WorkerName())
	default:
		h.readResult(f.Body, a.Env.Type, out)
	}
}

func (h *Host) readResult(body []byte, contentType string, out *output) {
	r, err := frame.ParseResult(body)
	if err != nil {
		out.Err = jobs.Errorf(jobs.Communication, jobs.CodeBadFrame, "the worker's result cannot be read: %v", err).Again()
		return
	}
	out.Value, out.State, out.Version = r.Value, r.State, r.StateVersion
	if size, limit := len(r.Value), h.maxPayload/4; size > limit {
		out.Err = jobs.Errorf(jobs.Session, jobs.CodeResultTooLarge, "the result has %d bytes", size).
			WithHint("an outcome may have at most %d bytes", limit)
	}
	if size, limit := replySize(r.Value, contentType, h.maxPayload), h.maxPayload/2; out.Err == nil && size > limit {
		out.Err = jobs.Errorf(jobs.Session, jobs.CodeResultTooLarge, "the result has %d bytes as JSON", size).
			WithHint("a reply in JSON may have at most %d bytes; ask in MessagePack", limit)
	}
	if limit := h.maxPayload / 2; len(r.State) > limit {
		out.Err = jobs.Errorf(jobs.Session, jobs.CodeStateTooLarge, "the session's state would have %d bytes", len(r.State)).
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
			out.Usage = raw
		case key == "lm_called" && kind == wire.Bool:
			out.calledLM = useOf(bytes.Equal(raw, yes))
		case key == "program" && kind == wire.Map:
			out.program = raw
		case key == "lm_choice" && kind == wire.Map:
			out.LM, out.ChoseLM = raw, true
		case key == "lm_choice" && kind == wire.Nil:
			out.LM, out.ChoseLM = nil, true
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
func (h *Host) sendPartial(a *attempt, body []byte) {
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
	m := h.message(a.Env.ReplyTo, a.Env.Type, a.Env.Job, a.Attempt, b)
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
