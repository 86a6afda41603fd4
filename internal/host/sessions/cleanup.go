package sessions

import (
	"context"
	"errors"
	"strconv"

	"github.com/dspex/dspex/internal/host/attempt"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// importSession is a command whose result a host has to judge.
const importSession = "import_session"

// erased is erase as a part of the attempt: what goes wrong is retried like any failure.
func (s scope) erased(ref jobs.SessionRef) *jobs.Error {
	err := s.erase(s.p.owned.Work, ref)
	if err == nil {
		return nil
	}
	s.p.on.Log.Warn("session_not_erased", "session", ref.String(), "error", err)
	return jobs.Errorf(jobs.Connection, jobs.CodeBroker, "outcomes and dead letters could not be erased: %v", err).
		WithHint("retry; check that the host has permission to purge them (nats.conf)").Again()
}

// erase removes what is kept of the session outside of its record: outcomes, large payloads, dead letters and the notes of their
// replays. It comes before the commit, so that a crash between the two repeats it. What a successor has written stays: it is
// later than what the erasers have noted, since the partition was still this epoch's after that.
func (s scope) erase(ctx context.Context, ref jobs.SessionRef) error {
	results, err := stream.NewEraser(ctx, s.p.on.JS, stream.ResultsStream, stream.ResultsSubject(ref.ResultKey("*")))
	if err != nil {
		return err
	}
	dead, err := stream.NewEraser(ctx, s.p.on.JS, stream.Dead, ref.DeadSubject())
	if err != nil {
		return err
	}
	notes, err := s.replays(ctx, ref)
	if err != nil {
		return err
	}
	objects, err := stream.NewObjectErasers(ctx, s.p.on.JS, ref.ObjectNames())
	if err != nil {
		return err
	}
	erasers := append(objects, results)
	for _, subject := range append(notes, ref.DeadSubject()) { // the dead letters last: they name the notes
		erasers = append(erasers, dead.Beside(subject))
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

// replays are the subjects of the notes that the session's dead letters were replayed.
func (s scope) replays(ctx context.Context, ref jobs.SessionRef) (subjects []string, err error) {
	for next := uint64(1); ; {
		m, err := stream.GetNext(ctx, s.p.on.NC, stream.Dead, ref.DeadSubject(), next)
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

// importable refuses an imported choice of language model that this host does not have.
func (s scope) importable(out *attempt.Output) *jobs.Error {
	if !out.ChoseLM || out.LM == nil {
		return nil
	}
	_, e := s.p.all.Models.Chosen(out.LM)
	if e != nil {
		e.Path = "args.document.state.lm"
	}
	return e
}
