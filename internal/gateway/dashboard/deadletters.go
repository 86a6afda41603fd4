package dashboard

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/contract"
)

// deadLettersView is the page of dead letters.
type deadLettersView struct {
	Filter     deadLetterFilter
	Categories []string
	Letters    []dspex.DeadLetter
	Next       string
	Filtered   bool
}

type deadLetterFilter struct{ Session, Category, Code, Replayed string }

var categories = []string{
	contract.Initialization, contract.Connection, contract.Communication, contract.Timeout, contract.Resource, contract.HealthCheck, contract.Session, contract.Python, contract.System,
}

func (s *Server) deadLetters(ctx context.Context, r *http.Request, sc scope) (any, error) {
	q := r.URL.Query()
	f := deadLetterFilter{q.Get("session"), q.Get("category"), q.Get("code"), q.Get("replayed")}
	filter := dspex.DeadLetterFilter{Session: f.Session, Category: dspex.ErrorCategory(f.Category), Code: f.Code, Limit: pageSize}
	if f.Replayed != "" {
		replayed := f.Replayed == "yes"
		filter.Replayed = &replayed
	}
	page, err := sc.client.Admin().DeadLettersPage(ctx, filter, q.Get("cursor"))
	if err != nil {
		return nil, err
	}
	v := deadLettersView{Filter: f, Categories: categories, Filtered: f != deadLetterFilter{}}
	for _, l := range page.Items {
		if sc.maySee(l.Job) == nil {
			v.Letters = append(v.Letters, l)
		}
	}
	if page.Next != "" {
		v.Next = Root + "/letters?" + url.Values{"cursor": {page.Next}, "session": {f.Session}, "category": {f.Category}, "code": {f.Code}, "replayed": {f.Replayed}}.Encode()
	}
	return v, nil
}

// difference is what a replay changed: the same thing of the dead letter and of the job that it became.
type difference struct {
	What, Before, After string
	Changed             bool
}

// deadLetterView is the page of one dead letter.
type deadLetterView struct {
	dspex.DeadLetterDetails
	Diff  []difference
	Shown string
	Show  string
	Acts  bool
}

func (s *Server) deadLetter(ctx context.Context, r *http.Request, sc scope) (any, error) {
	n, err := number(r.URL.Query().Get("seq"))
	if err != nil {
		return nil, err
	}
	l, err := sc.client.Admin().GetDeadLetter(ctx, n)
	if err != nil {
		return nil, err
	}
	if err := sc.maySee(l.Job); err != nil {
		return nil, err
	}
	v := deadLetterView{DeadLetterDetails: l, Acts: sc.operates, Show: fmt.Sprintf("%s/letter?seq=%d&show=request#request", Root, n)}
	if l.Replayed != nil {
		if job, err := sc.client.GetJob(ctx, l.Replayed.Job); err == nil {
			v.Diff = differences(l, job)
		}
	}
	if r.URL.Query().Get("show") == "request" {
		v.Shown = pretty(l.Request)
		if l.Request == nil {
			v.Shown = fmt.Sprintf("%d bytes that cannot be read", len(l.RequestBytes))
		}
	}
	return v, nil
}

// differences compares a dead letter with what became of its replay.
func differences(l dspex.DeadLetterDetails, job dspex.Job) (all []difference) {
	add := func(what, before, after string) {
		all = append(all, difference{what, before, after, before != after})
	}
	after := map[string]string{"error": "–", "message": "–", "worker": "–", "exception": "–"}
	if e := asError(job.Err); e != nil {
		after["error"], after["message"], after["worker"], after["exception"] = strings.TrimSpace(string(e.Category)+" "+e.Code), e.Message, dash(e.Worker), dash(e.PythonType)
	}
	if job.Reply != nil {
		after["worker"] = dash(job.Reply.Worker)
	}
	worker, exception := "–", "–"
	if n := len(l.Failures); n > 0 {
		worker, exception = dash(l.Failures[n-1].Worker), dash(l.Failures[n-1].PythonType)
	}
	add("Outcome", string(dspex.JobFailed), string(job.Status))
	add("Attempts", strconv.Itoa(l.Attempts), strconv.Itoa(job.Attempts))
	add("Error", string(l.Category)+" "+l.Code, after["error"])
	add("Message", l.Message, after["message"])
	add("Exception", exception, after["exception"])
	add("Worker", worker, after["worker"])
	return all
}

func replayDeadLetter(ctx context.Context, sc scope, f url.Values) (string, error) {
	n, err := number(f.Get("seq"))
	if err != nil {
		return "", err
	}
	l, err := sc.client.Admin().GetDeadLetter(ctx, n)
	if err == nil {
		err = sc.maySee(l.Job)
	}
	if err == nil {
		_, err = sc.client.Admin().ReplayDeadLetter(ctx, n)
	}
	return address("/letter", "replay", "seq", strconv.FormatUint(n, 10)), err
}

// dash stands for what is not there.
func dash(text string) string {
	if text == "" {
		return "–"
	}
	return text
}

// number reads the number of a dead letter.
func number(text string) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n == 0 {
		return 0, &dspex.Error{Code: "dead_letter_unknown", Message: "a dead letter must be a number, as the list shows it"}
	}
	return n, nil
}
