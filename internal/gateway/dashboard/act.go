package dashboard

import (
	"context"
	"net/http"
	"net/url"

	"github.com/dspex/dspex"
)

// action is something that an operator does.
type action struct {
	fleet bool // it concerns the service as a whole
	do    func(context.Context, scope, url.Values) (back string, err error)
}

var actions = map[string]action{
	"cancel": {false, cancelJob},
	"replay": {false, replayDeadLetter},
	"batch":  {false, cancelBatch},
	"drain":  {true, drainHost},
	"resume": {true, resumeHost},
	"reset":  {true, resetBreaker},
}

// notices are the texts of a page after an action.
var notices = map[string]string{
	"cancel": "The job was cancelled, or had ended before.",
	"replay": "The dead letter was replayed as a new job.",
	"batch":  "The batch is being cancelled.",
	"drain":  "The host's sessions move as soon as their jobs allow it.",
	"resume": "The host serves again. Sessions come back to it as partitions are balanced.",
	"reset":  "The circuit breaker is closed on all hosts.",
}

func notice(done string) string { return notices[done] }

// act does what a form requests, and goes back to its page.
func (s *Server) act(w http.ResponseWriter, r *http.Request) {
	sc, err := s.scopeOf(r)
	if err != nil {
		noAnswer(w, err)
		return
	}
	if err := r.ParseForm(); err != nil {
		refuse(w, http.StatusBadRequest, "Not a form", "The request is not a form of the dashboard.")
		return
	}
	name := r.PostForm.Get("do")
	a, ok := actions[name]
	switch {
	case !ok:
		refuse(w, http.StatusBadRequest, "Unknown action", "The form names an action that the dashboard does not have.")
		return
	case !sc.operates || a.fleet && !sc.fleet():
		refuse(w, http.StatusForbidden, "Read only", "The token may not do this: it needs the role operate.")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 6*requestTime)
	defer cancel()
	back, err := a.do(ctx, sc, r.PostForm)
	if err != nil {
		noAnswer(w, err)
		return
	}
	http.Redirect(w, r, back, http.StatusSeeOther)
}

func cancelJob(ctx context.Context, sc scope, f url.Values) (string, error) {
	ref := dspex.JobRef{Session: f.Get("session"), ID: f.Get("id")}
	if err := sc.maySee(ref); err != nil {
		return "", err
	}
	_, err := sc.client.Cancel(ctx, ref)
	return address("/job", "cancel", "id", ref.ID, "session", ref.Session), err
}
