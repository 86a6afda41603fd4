package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// importSession is a command whose result a host has to judge.
const importSession = "import_session"

// erased is erase as a part of the attempt: what goes wrong is retried like any failure.
func (s sessions) erased(ref jobs.SessionRef) *jobs.Error {
	err := s.erase(s.p.ctx, ref)
	if err == nil {
		return nil
	}
	s.p.h.log.Warn("session_not_erased", "session", ref.String(), "error", err)
	return jobs.Errorf(jobs.Connection, jobs.CodeBroker, "outcomes and dead letters could not be erased: %v", err).
		WithHint("ask again; may the host purge them? (nats.conf)").Again()
}

// erase removes what is kept of the session outside of its record: outcomes, dead letters and the notes of their replays. It comes before the commit, so
// that a crash between the two repeats it. What a successor has written stays: it is later than what the erasers have noted,
// since the partition was still this epoch's after that.
func (s sessions) erase(ctx context.Context, ref jobs.SessionRef) error {
	results, err := stream.NewEraser(ctx, s.p.h.js, stream.ResultsStream, stream.ResultsSubject(ref.ResultKey("*")))
	if err != nil {
		return err
	}
	letters, err := stream.NewEraser(ctx, s.p.h.js, stream.Dead, ref.DeadSubject())
	if err != nil {
		return err
	}
	notes, err := s.replays(ctx, ref)
	if err != nil {
		return err
	}
	erasers := []*stream.Eraser{results}
	for _, subject := range append(notes, ref.DeadSubject()) { // the letters last: they tell of the notes
		erasers = append(erasers, letters.Beside(subject))
	}
	if err := s.p.mine(ctx); err != nil {
		return err
	}
	for _, e := range erasers {
		if err := e.Erase(ctx); err != nil {
			return err
		}
	}
	return nil
}

// replays are the subjects of the notes that the session's letters were replayed.
func (s sessions) replays(ctx context.Context, ref jobs.SessionRef) (subjects []string, err error) {
	for next := uint64(1); ; {
		m, err := stream.GetNext(ctx, s.p.h.nc, stream.Dead, ref.DeadSubject(), next)
		if errors.Is(err, stream.ErrNotFound) {
			return subjects, nil
		}
		if err != nil {
			return nil, err
		}
		subjects = append(subjects, jobs.DeadReplayed+strconv.FormatUint(m.Sequence, 10))
		next = m.Sequence + 1
	}
}

// dropEverywhere tells the workers of all hosts to forget what they hold of an erased session. It is told once: nothing reads
// what a worker that does not hear of it keeps, and others' states push it out.
func (h *Host) dropEverywhere(session jobs.SessionRef) {
	body, err := json.Marshal(jobs.Drop{Tenant: session.Tenant, Session: session.ID})
	if err == nil {
		err = h.nc.Publish(jobs.SubjectDrop, body)
	}
	if err != nil {
		h.log.Warn("session_not_dropped", "session", session.String(), "error", err)
	}
}

// hearDrops serves dspex.ctl.drop until stop is called.
func (h *Host) hearDrops() (stop func(), err error) {
	sub, err := h.nc.Subscribe(jobs.SubjectDrop, func(m *nats.Msg) {
		var d jobs.Drop
		if json.Unmarshal(m.Data, &d) == nil && d.Ref().Valid() {
			h.cfg.Pool.TellAll(frame.Drop, frame.DropBody{Session: d.Ref().String()}.AppendBody(nil))
		}
	})
	if err != nil {
		return nil, fmt.Errorf("subscribe to erased sessions: %w", err)
	}
	return func() { _ = sub.Unsubscribe() }, nil
}

// importable refuses an imported choice of language model that this host does not know.
func (h *Host) importable(out *output) *jobs.Error {
	if !out.ChoseLM || out.LM == nil {
		return nil
	}
	_, e := h.cfg.Models.Chosen(out.LM)
	if e != nil {
		e.Path = "args.document.state.lm"
	}
	return e
}
