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

// Commands that concern a session as a whole. They run in its queue like all others; the owner does to the record, and to what
// other places hold of the session, what a worker cannot.
const (
	cleanupSession = "cleanup_session"
	eraseSession   = "erase_session"
	importSession  = "import_session"
)

// empties reports whether nothing of a session's state is left after the command.
func empties(command string) bool { return command == cleanupSession || command == eraseSession }

// empty begins a new generation. What orders the session's jobs stays: the last sequence, the early ends, the last outcome.
func empty(r *jobs.Record) {
	r.Generation++
	r.State, r.StateVersion, r.LM = nil, 0, nil
	r.Created, r.Jobs, r.Host, r.Worker = r.Updated, 0, "", ""
}

// erased is erase as a part of the attempt: what goes wrong is retried like any failure.
func (s *session) erased(ctx context.Context) *jobs.Error {
	err := s.erase(ctx)
	if err == nil {
		return nil
	}
	s.p.h.log.Warn("session_not_erased", "session", s.ref.String(), "error", err)
	return jobs.Errorf(jobs.Connection, jobs.CodeBroker, "outcomes and dead letters could not be erased: %v", err).
		WithHint("ask again; may the host purge them? (nats.conf)").Again()
}

// erase removes what is kept of the session outside of its record: outcomes, dead letters and the notes of their replays. It comes before the commit, so
// that a crash between the two repeats it. What a successor has written stays: it is later than what the erasers have noted,
// since the partition was still this epoch's after that.
func (s *session) erase(ctx context.Context) error {
	results, err := stream.NewEraser(ctx, s.p.h.js, stream.ResultsStream, stream.ResultsSubject(s.ref.ResultKey("*")))
	if err != nil {
		return err
	}
	letters, err := stream.NewEraser(ctx, s.p.h.js, stream.Dead, s.ref.DeadSubject())
	if err != nil {
		return err
	}
	notes, err := s.replays(ctx)
	if err != nil {
		return err
	}
	erasers := []*stream.Eraser{results}
	for _, subject := range append(notes, s.ref.DeadSubject()) { // the letters last: they tell of the notes
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
func (s *session) replays(ctx context.Context) (subjects []string, err error) {
	for next := uint64(1); ; {
		m, err := stream.GetNext(ctx, s.p.h.nc, stream.Dead, s.ref.DeadSubject(), next)
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
	if !out.choseLM || out.lm == nil {
		return nil
	}
	_, e := h.cfg.Models.Chosen(out.lm)
	if e != nil {
		e.Path = "args.document.state.lm"
	}
	return e
}
