package gateway

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/contract"
)

// problem is the body of an error: RFC 9457, with the fields of contract/job.md, "Reply". Its detail is the contract's message.
type problem struct {
	Title            string   `json:"title" doc:"The status in words"`
	Status           int      `json:"status" doc:"The HTTP status: the number of the code"`
	Detail           string   `json:"detail" doc:"What went wrong, for people"`
	Code             string   `json:"code" doc:"Stable, for programs"`
	Category         string   `json:"error_category,omitempty" doc:"One of the nine kinds of failure; missing where no job and no broker failed"`
	Hint             string   `json:"hint,omitempty" doc:"What to do about it"`
	Retryable        bool     `json:"retryable" doc:"The same request may succeed later"`
	RetryAfterMS     int64    `json:"retry_after_ms,omitempty" doc:"As the header Retry-After, in milliseconds"`
	Severity         string   `json:"severity,omitempty"`
	RecoveryStrategy string   `json:"recovery_strategy,omitempty"`
	Expected         string   `json:"expected,omitempty" doc:"Of bad input: what would be valid"`
	Path             string   `json:"path,omitempty" doc:"Of bad input: where"`
	Session          string   `json:"session,omitempty"`
	Job              string   `json:"job,omitempty"`
	Attempt          int      `json:"attempt,omitempty"`
	Worker           string   `json:"worker,omitempty"`
	PythonType       string   `json:"python_type,omitempty" doc:"The exception's class"`
	Traceback        string   `json:"traceback,omitempty"`
	Trace            string   `json:"trace_id,omitempty" doc:"The trace that the request belongs to, if it has one"`
	Errors           []detail `json:"errors,omitempty" doc:"Of an invalid request: all its errors"`
}

// detail is one thing that is wrong with a request. It holds no values: they may be secret.
type detail struct {
	Message  string `json:"message"`
	Path     string `json:"path,omitempty"`
	Expected string `json:"expected,omitempty"`
}

// expectedAt reports what may stand where more than one form may.
var expectedAt = map[string]string{
	"options.timeout": expectedDuration, "options.deadline": expectedDuration, "options.backoff_cap": expectedDuration,
	"options.backoff": "linear, exponential or a list of 1 to 20 delays in milliseconds",
}

const expectedDuration = "milliseconds, or text with a unit, such as 30s"

func (p *problem) Error() string             { return p.Code + ": " + p.Detail }
func (p *problem) GetStatus() int            { return p.Status }
func (p *problem) ContentType(string) string { return problemType }

const problemType = "application/problem+json"

// GetHeaders are those that an answer with the problem has.
func (p *problem) GetHeaders() http.Header {
	h := http.Header{}
	if p.RetryAfterMS > 0 {
		h.Set("Retry-After", strconv.FormatInt((p.RetryAfterMS+999)/1000, 10)) // whole seconds, never too early
	}
	if p.Job != "" {
		h.Set(contract.HeaderJob, p.Job)
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="dspex"`)
	}
	return h
}

// asProblem is the problem of an error of the client. job is the one that was requested.
func asProblem(err error, job dspex.JobRef) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	e, ok := errors.AsType[*dspex.Error](err)
	if !ok {
		e = &dspex.Error{Category: dspex.ErrSystem, Code: contract.CodeBug, Message: "the gateway failed"}
	}
	p := &problem{
		Detail: e.Message, Code: e.Code, Category: string(e.Category), Hint: e.Hint, Retryable: e.Retryable, RetryAfterMS: e.RetryAfter.Milliseconds(),
		Severity: e.Severity, RecoveryStrategy: e.RecoveryStrategy, Expected: e.Expected, Path: e.Path, Session: job.Session, Job: job.ID,
		Attempt: e.Attempt, Worker: e.Worker, PythonType: e.PythonType, Traceback: e.Traceback,
	}
	switch e.Code { // the client's hints name functions of Go
	case dspex.CodeClientTimeout, dspex.CodeClientCancelled:
		if p.Hint = ""; job.ID != "" {
			p.Hint = "the job may still run: GET " + location(job) + " has its state"
		}
	case dspex.CodePoolUnavailable, dspex.CodeBroker:
		p.Hint = "retry later: GET /readyz shows when"
	}
	if e.Code == dspex.CodeClientCancelled { // the client of the gateway went away
		return p.withStatus(contract.Number(p.Category, contract.CodeCancelled))
	}
	return p.withStatus(contract.Number(string(e.Category), e.Code))
}

func (p *problem) withStatus(status int) *problem {
	p.Status, p.Title = status, http.StatusText(status)
	if p.Title == "" {
		p.Title = "Cancelled" // 499 has no name of its own
	}
	return p
}

// location is where a job is found.
func location(job dspex.JobRef) string {
	path := "/v1/jobs/" + url.PathEscape(job.ID)
	if job.Session != "" {
		path += "?session=" + url.QueryEscape(job.Session)
	}
	return path
}

// refused is a problem of the request itself.
func refused(status int, code, path, expected, text string) *problem {
	p := &problem{Detail: text, Code: code, Path: path, Expected: expected}
	return p.withStatus(status)
}

// refusal is what huma has found wrong with a request.
func refusal(status int, text string, causes []error) *problem {
	code := contract.CodeBadRequest
	switch {
	case status == http.StatusUnprocessableEntity:
		status = http.StatusBadRequest // the number of the contract's bad_request
	case status == http.StatusRequestEntityTooLarge:
		code = contract.CodeTooLarge
	case status == http.StatusUnsupportedMediaType:
		code = contract.CodeBadHeader
	case status >= http.StatusInternalServerError:
		code = contract.CodeBug
	}
	p := refused(status, code, "", "", text)
	for _, cause := range causes {
		if cause == nil {
			continue
		}
		if d, ok := errors.AsType[*huma.ErrorDetail](cause); ok {
			path := strings.TrimPrefix(d.Location, "body.") // the contract's paths begin in the body
			p.Errors = append(p.Errors, detail{d.Message, path, expectedAt[path]})
		} else {
			p.Errors = append(p.Errors, detail{Message: cause.Error()})
		}
	}
	if len(p.Errors) > 0 {
		p.Detail, p.Path, p.Expected = p.Errors[0].Message, p.Errors[0].Path, p.Errors[0].Expected
	}
	return p
}

// write answers with the problem, outside of huma.
func (p *problem) write(w http.ResponseWriter, trace string) {
	p.Trace = trace
	maps.Copy(w.Header(), p.GetHeaders())
	w.Header().Set("Content-Type", problemType)
	w.WriteHeader(p.Status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false) // as huma does
	_ = e.Encode(p)        // a client that went away needs no answer
}

// Codes that only this side of the contract has.
const (
	codePath   = "path_unknown"
	codeMethod = "method_unknown"

	codeToken   = "token_required"
	codeTenant  = "tenant_unknown"
	codeSession = "session_denied"
)

// busy refuses a request because there are too many.
func busy(text string) *problem {
	p := &problem{Detail: text, Code: contract.CodeOverloaded, Category: contract.Resource, Retryable: true, RetryAfterMS: busyRetry.Milliseconds()}
	return p.withStatus(contract.Number(contract.Resource, contract.CodeOverloaded))
}

const busyRetry = time.Second
