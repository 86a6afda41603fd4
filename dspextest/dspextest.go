// Package dspextest is for tests of programs that use package dspex. Nothing has to be installed or started before: the broker runs
// in the test's own process, on a free port of the loopback interface, and ends with the test.
//
//	func TestSummarize(t *testing.T) {
//		fake := dspextest.NewFake(t)
//		fake.Handle("summarize", func(j dspextest.Job) (any, error) {
//			return map[string]any{"summary": "short"}, nil
//		})
//		got, err := summarize(t.Context(), fake.Client(), "user_123", "a long text")
//		...
//	}
//
// [NewFake] is a stand-in: the test itself answers each command. It takes milliseconds and needs no Python; it retries nothing,
// has no deadlines and keeps no order. [Open] is a whole deployment with all of the service's promises, in the mode that the
// environment variable TEST_MODE names: without Python by default, with Python workers, or with DSPy. A
// scenario answers, fails and delays what the test lists. [Start] is one with Python workers and the stub engine, whatever
// TEST_MODE is, for modules of Python.
package dspextest

import (
	"context"
	"errors"
	"testing"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/contract"
	"github.com/dspex/dspex/internal/natstest"
)

// Job is a job that a Fake received.
type Job struct {
	dspex.JobRef
	Command string
	Args    dspex.Args
	Options map[string]any // as on the wire: contract/job.md, "Request body"
}

// Handler answers a job. An *dspex.Error is the error of the reply; any other error is one of category ErrPython, code
// user_error, as if the program had raised it. The result is what encoding/json can write.
type Handler func(Job) (result any, err error)

// Fake answers jobs without a pool. predict answers with its argument question or text; other commands are unknown until Handle
// reports what they do. The pool is healthy, and has sessions, hosts and breakers that are made up.
type Fake struct {
	fake *natstest.Fake
	url  string
	t    testing.TB
}

// NewFake starts a broker with a Fake behind it. Both end with the test.
func NewFake(t testing.TB) *Fake {
	t.Helper()
	s := natstest.Run(t)
	return &Fake{natstest.StartFake(t, s), s.ClientURL(), t}
}

// URL is where clients connect.
func (f *Fake) URL() string { return f.url }

// Client connects a client and closes it when the test ends.
func (f *Fake) Client(options ...dspex.ConnectOption) *dspex.Client {
	f.t.Helper()
	return connect(f.t, f.url, options)
}

// Handle makes h answer the jobs of a command. It may be called while jobs run; h must be safe for concurrent use.
func (f *Fake) Handle(command string, h Handler) {
	f.fake.Handle(command, func(j natstest.FakeJob) (any, *natstest.FakeError) {
		result, err := h(job(j))
		if err == nil {
			return result, nil
		}
		e, ok := errors.AsType[*dspex.Error](err)
		if !ok {
			e = &dspex.Error{Category: dspex.ErrPython, Code: contract.CodeUserError, Message: err.Error(), Attempt: 1}
		}
		return nil, &natstest.FakeError{Body: e}
	})
}

// Jobs are the jobs that came so far, in the order in which they came.
func (f *Fake) Jobs() []Job {
	var jobs []Job
	for _, j := range f.fake.Jobs() {
		jobs = append(jobs, job(j))
	}
	return jobs
}

func job(j natstest.FakeJob) Job {
	return Job{dspex.JobRef{Session: j.Session, ID: j.Job}, j.Command, j.Args, j.Options}
}

func connect(t testing.TB, url string, options []dspex.ConnectOption) *dspex.Client {
	t.Helper()
	c, err := dspex.Connect(context.WithoutCancel(t.Context()), url, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}
