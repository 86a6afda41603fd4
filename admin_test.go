package dspex_test

import (
	"testing"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/natstest"
)

func TestBreakersAreListedAndReset(t *testing.T) {
	c, _ := start(t)
	ctx := t.Context()
	list, err := c.Admin().Breakers(ctx)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "breakers", len(list), 2)
	model, pool := list[0], list[1]
	equal(t, "name of the second", pool.Name, "pool.h1")
	equal(t, "its state", pool.State, dspex.BreakerClosed)
	equal(t, "its last failure", pool.LastFailure, nil)
	at := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)
	equal(t, "name", model.Name, "lm.openai/gpt-4o")
	equal(t, "state", model.State, dspex.BreakerOpen)
	equal(t, "failures", model.FailureCount, 5)
	equal(t, "retry in", model.RetryIn, 42*time.Second)
	equal(t, "last failure", *model.LastFailure, dspex.BreakerFailure{What: "resource_error/lm_rate_limit", At: at})
	equal(t, "last change", model.LastStateChange, at)
	equal(t, "thresholds", model.Config, dspex.BreakerConfig{FailureThreshold: 5, SuccessThreshold: 3, Timeout: time.Minute})
	closed, err := c.Admin().ResetBreaker(ctx, "lm.openai/gpt-4o")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "state after the reset", closed.State, dspex.BreakerClosed)
	equal(t, "failures after the reset", closed.FailureCount, 0)
	_, err = c.Admin().ResetBreaker(ctx, "lm.nobody/x")
	failsWith(t, "another name", err, "breaker_unknown")
	is(t, "another name", err, dspex.ErrSession)
}

func TestOperatorsCallOnEndpointsOfTheirOwn(t *testing.T) {
	s := natstest.Run(t)
	natstest.StartFake(t, s)
	listener := natstest.Connect(t, s)
	c := dspex.New(natstest.Connect(t, s))
	for session, want := range map[string]string{"s": "dspex.rpc.admin.session.s", "": "dspex.rpc.admin.anonymous"} {
		sub, err := listener.SubscribeSync(want)
		if err != nil {
			t.Fatal(err)
		}
		if err := listener.Flush(); err != nil {
			t.Fatal(err)
		}
		call := func() (dspex.Reply, error) {
			if session == "" {
				return c.Admin().ExecuteAnonymous(t.Context(), "echo", dspex.Args{"x": 1})
			}
			return c.Admin().Execute(t.Context(), session, "echo", dspex.Args{"x": 1})
		}
		if r, err := call(); err != nil || string(r.Result) != `{"x":1}` {
			t.Errorf("%s: %s %v", want, r.Result, err)
		}
		if _, err := sub.NextMsg(time.Minute); err != nil {
			t.Errorf("%s: %v", want, err)
		}
	}
	_, err := c.Admin().Execute(t.Context(), "a b", "echo", nil)
	failsWith(t, "a session that is none", err, dspex.CodeBadSession)
}
