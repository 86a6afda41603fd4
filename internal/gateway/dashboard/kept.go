package dashboard

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/dspex/dspex"
)

// mostKeptPages bounds how far the list of kept jobs goes: the filters lead to the rest.
const mostKeptPages = 20

// keptView is the page of the jobs that wait, run, or have an outcome that is kept.
type keptView struct {
	Session, Outcome, Command string
	Outcomes                  []dspex.JobStatus
	Jobs                      []dspex.JobInfo
	Page                      int
	Next, Previous            string
}

func (s *Server) kept(ctx context.Context, r *http.Request, sc scope) (any, error) {
	q := r.URL.Query()
	v := keptView{
		Session: q.Get("session"), Outcome: q.Get("state"), Command: q.Get("command"), Page: min(pageOf(q.Get("page"), 1<<20), mostKeptPages),
		Outcomes: []dspex.JobStatus{dspex.JobQueued, dspex.JobRunning, dspex.JobRetrying, dspex.JobSucceeded, dspex.JobFailed, dspex.JobCancelled, dspex.JobExpired},
	}
	to := func(page int) string {
		return Root + "/kept?" + url.Values{"session": {v.Session}, "state": {v.Outcome}, "command": {v.Command}, "page": {strconv.Itoa(page)}}.Encode()
	}
	skip := (v.Page - 1) * pageSize
	filter := dspex.JobFilter{Session: v.Session, Status: dspex.JobStatus(v.Outcome), Command: v.Command, Limit: skip + pageSize + 1}
	n := 0
	for job, err := range sc.client.Admin().Jobs(ctx, filter) {
		if err != nil {
			return nil, err
		}
		if n++; n <= skip {
			continue
		}
		if len(v.Jobs) == pageSize {
			if v.Page < mostKeptPages {
				v.Next = to(v.Page + 1)
			}
			break
		}
		if sc.maySee(job.JobRef) == nil {
			v.Jobs = append(v.Jobs, job)
		}
	}
	if v.Page > 1 {
		v.Previous = to(v.Page - 1)
	}
	return v, nil
}
