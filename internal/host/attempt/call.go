package attempt

import (
	"bytes"
	"errors"
	"strconv"
	"time"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/host/workers"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/wire"
)

// Equip gives the worker what was pushed, and the attempt's language model.
func (r *Runner) Equip(a *Attempt, call *frame.CallBody) *jobs.Error {
	if e := r.Provision.Worker(a.slot); e != nil {
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
	return r.Provision.Model(a.slot, a.model)
}

// call sends the CALL frame and turns what comes back into out.
func (r *Runner) call(a *Attempt, call frame.CallBody, out *Output) {
	call.Command, call.Options = a.Req.Command, a.Req.Options
	if call.Args == nil {
		call.Args = a.Req.Args
	}
	call.Job, call.Attempt, call.BudgetMS = a.Env.Job, uint32(a.Attempt), uint64(max(a.Budget.Milliseconds(), 1))
	var partial func([]byte)
	if a.Req.Stream && a.Env.ReplyTo != "" {
		partial = func(body []byte) { r.sendPartial(a, body) }
	}
	call.Trace = r.Telemetry.ReportFlags(&a.Task)
	started := time.Now()
	if out.began.IsZero() {
		out.began = started
	}
	r.Telemetry.Progress.Began(a.Req.Timeout)
	f, err := a.slot.Call(call.AppendBody(nil), partial, a.wait)
	took := time.Since(started)
	out.Ran += took
	out.answered = err == nil
	r.Telemetry.Progress.Ended(out.answered, a.Req.Timeout, took)
	switch {
	case errors.Is(err, errCancelled), errors.Is(err, errTimeOver):
		out.GaveUp = true
	case err != nil:
		out.Err = workers.CallError(err, a.slot.WorkerName())
	case f.Type == frame.Error:
		out.Err, out.called, out.spans = errorFrame(f.Body, a.slot.WorkerName())
	default:
		r.readResult(f.Body, out)
		storeLarge(a, out)
	}
}

func (r *Runner) readResult(body []byte, out *Output) {
	result, err := frame.ParseResult(body)
	if err != nil {
		out.Err = jobs.Errorf(jobs.Communication, jobs.CodeBadFrame, "the worker's result cannot be read: %v", err).Again()
		return
	}
	out.Value, out.State, out.Version = result.Value, result.State, result.StateVersion
	if limit := r.On.MaxPayload / 2; len(result.State) > limit {
		out.Err = jobs.Errorf(jobs.Session, jobs.CodeStateTooLarge, "the session's state would have %d bytes", len(result.State)).
			WithHint("a state may have at most %d bytes; the old one stays", limit)
	}
	in := wire.NewReader(result.Meta)
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
		case key == "spans" && kind == wire.Array:
			out.spans = raw
		case key == "lm_called" && kind == wire.Bool:
			out.called = useOf(bytes.Equal(raw, yes))
		case key == "program" && kind == wire.Map:
			out.Program = raw
		case key == "lm_choice" && kind == wire.Map:
			out.LM, out.ChoseLM = raw, true
		case key == "lm_choice" && kind == wire.Nil:
			out.LM, out.ChoseLM = nil, true
		}
	}
}

var yes = wire.AppendBool(nil, true)

// sendPartial passes a CHUNK on. At most once: a client that counts sees gaps.
func (r *Runner) sendPartial(a *Attempt, body []byte) {
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
	header, data := jobs.Answer(a.Env.Type, a.Env.Job, a.Attempt, b)
	header[jobs.HeaderPartial] = []string{strconv.FormatUint(c.N, 10)}
	_ = r.On.Send(a.Env.ReplyTo, header, data)
	r.Telemetry.Progress.Partial()
}
