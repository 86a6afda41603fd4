package host

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/lifecycle"
	"github.com/dspex/dspex/internal/stream"
)

// sessions is what the drivers of a partition's sessions belong to.
type sessions struct{ p *partition }

// newSession makes the driver of a session. waits says that an earlier epoch's driver still works on it.
func (p *partition) newSession(ref jobs.SessionRef, waits bool) *driver {
	return &driver{h: p.h, ref: ref, life: sessions{p}, core: lifecycle.NewSession(&p.h.rules, ref, p.epoch, p.life, waits)}
}

func (s sessions) alone() bool              { return false }
func (s sessions) waits()                   {}
func (s sessions) seated()                  {}
func (s sessions) spawn(f func())           { s.p.wg.Go(f) }
func (s sessions) context() context.Context { return s.p.ctx }

// admits lets nothing start that could not be committed.
func (s sessions) admits(*attempt) (lifecycle.Reason, bool) {
	return lifecycle.NoRoom, s.p.h.full.Load() == 0
}

func (s sessions) began(*driver) {
	s.p.wg.Add(1)
	s.p.busy.Add(1)
}

func (s sessions) rested(*driver) { s.p.busy.Add(-1) }

// resting lets the partition forget a session of which nothing is known, and who waited for it begin.
func (s sessions) resting(d *driver) {
	defer s.p.wg.Done()
	s.p.earlier.rested(d)
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if s.p.sessions[d.ref] != d || s.p.closing {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.active && !d.core.Known() {
		s.p.forget(d.ref)
	}
}

// look reads the session's record and attempt record from the stream's leader, and only then whose the partition is: who takes it
// over later changes the revisions that this epoch's writes expect.
func (s sessions) look(ctx context.Context, d *driver, a *lifecycle.Action, ev *lifecycle.Event) (err error) {
	h := s.p.h
	if a.Check {
		if err := h.clock.Confirm(ctx, a.Job.Came); err != nil {
			return err
		}
	}
	if ev.Record, err = found(h.records.Get(ctx, d.ref.RecordKey())); err != nil {
		return err
	}
	if ev.Head, err = found(h.records.Get(ctx, d.ref.HeadKey())); err != nil {
		return err
	}
	if ev.Owner, err = s.owner(ctx); err != nil || ev.Record.Revision > 0 {
		return err
	}
	ev.Forgot, err = h.forgot(ctx)
	return err
}

func (s sessions) owner(ctx context.Context) (lifecycle.Owner, error) {
	owner, epoch, err := s.p.h.claims.Read(ctx, s.p.want.Key)
	switch {
	case err != nil || epoch == s.p.epoch:
		return lifecycle.Mine, err
	case owner.Host == s.p.h.cfg.Name:
		return lifecycle.Another, nil
	}
	return lifecycle.Foreign, nil
}

// giveUp ends the epoch: the partition is not its own any more.
func (s sessions) giveUp(o lifecycle.Owner) {
	if o == lifecycle.Foreign {
		s.p.fence(stream.ErrNotMine)
	}
	s.p.end(stream.ErrNotMine)
	s.p.shut()
}

// errFenced says that the partition is not the epoch's any more.
var errFenced = errors.New("fenced: the partition belongs to another epoch")

// mine reads the assignment again: errFenced if it moved on.
func (p *partition) mine(ctx context.Context) error {
	o, err := sessions{p}.owner(ctx)
	if err == nil && o != lifecycle.Mine {
		err = errFenced
	}
	return err
}

// run makes one attempt of a session's job.
func (s sessions) run(a *attempt) *output {
	h := s.p.h
	out := newOutput(a)
	if out.Err = needsState(a, a.StateVersion); out.Err != nil {
		return out
	}
	call := frame.CallBody{Session: a.Session.String(), StateVersion: a.StateVersion, State: a.State}
	if out.Label == jobs.Warm {
		call.State = nil
	}
	if out.Err = h.equip(a, &call); out.Err != nil {
		return out
	}
	warm := a.Prefer
	a.callIfMine(call, out)
	if out.failed(jobs.CodeStateMissing) && call.State == nil && a.State != nil {
		warm, out.Err, out.Label, call.State = 0, nil, jobs.Restored, a.State
		a.callIfMine(call, out)
	}
	if out.failed(jobs.CodeRecordUnreadable) && lifecycle.Empties(a.Req.Command) {
		out.Err, call.State, call.StateVersion = nil, nil, 0 // what cannot be read can still be thrown away
		a.callIfMine(call, out)
	}
	switch {
	case out.Err != nil || out.Stale || out.GaveUp:
	case a.Req.Command == importSession:
		out.Err = h.importable(out)
	case a.Req.Command == lifecycle.EraseSession:
		out.Err = s.erased(a.Session)
	}
	h.telemetry.Stats.Affinity(warm, out.Slot.WorkerID)
	return out
}

// payloadBudget bounds the bytes of waiting payloads that a host keeps; beyond it they are read again when they start.
const payloadBudget = 8 << 20

func (h *Host) parseJob(m jetstream.Msg, meta *jetstream.MsgMetadata) (j *lifecycle.Job, from jobs.Source) {
	j = &lifecycle.Job{Sequence: meta.Sequence.Stream, Stored: meta.Timestamp, Came: h.clock.Mono(), Delivery: m.Reply(), Size: len(m.Data()), Data: m.Data()}
	from, j.Env, j.Bad = jobs.ParseStored(m.Subject(), m.Headers(), j.Sequence, h.accounts.Load())
	return j, from
}

// newJob is a session's job.
func (h *Host) newJob(m jetstream.Msg, meta *jetstream.MsgMetadata) (*lifecycle.Job, jobs.SessionRef) {
	j, from := h.parseJob(m, meta)
	if h.held.Add(int64(j.Size)) > payloadBudget {
		j.Weigh(&h.rules) // what is known of the deadline later must be learnt now
		h.release(j)
	}
	return j, from.Session
}

// body returns the payload, reading it again when it was not kept.
func (h *Host) body(ctx context.Context, j *lifecycle.Job) ([]byte, error) {
	if j.Data != nil || j.Size == 0 {
		return j.Data, nil
	}
	m, err := stream.GetSequence(ctx, h.nc, stream.Jobs, j.Sequence)
	return m.Data, err
}

func (h *Host) release(j *lifecycle.Job) {
	if j.Data != nil {
		h.held.Add(-int64(j.Size))
		j.Data = nil
	}
}
