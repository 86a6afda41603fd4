package host

import (
	"errors"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/stream"
)

// answerWith answers a job whose id has a result already: same payload, same answer; another one is a conflict. A result that
// cannot be read is no reason to run the job again: it has had its effect.
func (h *Host) answerWith(t *task, e stream.Entry) error {
	r, err := jobs.ParseResult(e.Value)
	var bad *jobs.Error
	switch {
	case errors.Is(err, jobs.ErrNewer):
		return err
	case err != nil:
		h.log.Error("result_unreadable", "session", t.session.String(), "job", t.env.Job, "error", err)
		bad = jobs.Errorf(jobs.Session, jobs.CodeRecordUnreadable, "the job id %s has an outcome that cannot be read", t.env.Job).
			WithHint("the job is not run again; a new id makes a new job")
	case r.Hash != t.req.Hash:
		bad = jobs.Errorf(jobs.Session, jobs.CodeConflict, "the job id %s was used with another payload", t.env.Job).
			WithHint("choose a new id for a new request; the first outcome stays")
	default:
		h.send(t.env.ReplyTo, t.env.Type, r.Job, r.Attempt, r.Body)
		return nil
	}
	reply := jobs.Reply{Job: t.env.Job, Session: t.session.ID, Host: h.cfg.Name, State: jobs.None, Err: bad}
	h.send(t.env.ReplyTo, t.env.Type, t.env.Job, 0, reply.Append(nil))
	return nil
}
