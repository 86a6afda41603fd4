package dspex_test

import (
	"errors"
	"testing"
	"time"

	"github.com/dspex/dspex"
)

func TestBreakersAreListedAndReset(t *testing.T) {
	c, _ := start(t)
	ctx := t.Context()
	list, err := c.Breakers(ctx)
	if err != nil || len(list) != 2 || list[1].Name != "pool.h1" || list[1].State != dspex.BreakerClosed || list[1].LastFailure != nil {
		t.Fatalf("%+v %v", list, err)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)
	if b := list[0]; b.Name != "lm.openai/gpt-4o" || b.State != dspex.BreakerOpen || b.FailureCount != 5 || b.TimeUntilRetry != 42_000 || b.LastFailure.What != "resource_error/lm_rate_limit" ||
		!b.LastFailure.At.Equal(at) || !b.LastStateChange.Equal(at) || b.Config != (dspex.BreakerConfig{FailureThreshold: 5, SuccessThreshold: 3, Timeout: 60_000}) || len(b.Raw) == 0 {
		t.Errorf("%+v", b)
	}
	if b, err := c.ResetBreaker(ctx, "lm.openai/gpt-4o"); err != nil || b.State != dspex.BreakerClosed || b.FailureCount != 0 {
		t.Errorf("%+v %v", b, err)
	}
	if _, err := c.ResetBreaker(ctx, "lm.nobody/x"); !errors.Is(err, dspex.ErrSession) || code(err) != "breaker_unknown" {
		t.Errorf("another name: %v", err)
	}
}
