package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/echolm"
)

// outages are language models that fail for five requests and are well then, and the code of their failure.
var outages = map[string]struct {
	script echolm.Script
	code   string
}{
	"limited":     {echolm.Script{Status: 429, RetryAfter: time.Second}, "lm_rate_limit"},
	"overloaded":  {echolm.Script{Status: 503}, "lm_server_error"},
	"unpaid":      {echolm.Script{Status: 402, Code: "insufficient_quota"}, "lm_billing"},
	"locked":      {echolm.Script{Status: 401}, "lm_auth"},
	"unreachable": {echolm.Script{Cut: echolm.CutAccept}, "lm_connection"},
	"broken":      {echolm.Script{Cut: echolm.CutBody}, "lm_connection"},
}

// withOutages starts a dspex dev whose language models fail.
func withOutages(t *testing.T) (*echolm.Server, *dev) {
	t.Helper()
	echo, err := echolm.New(echolm.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- echo.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	profiles := map[string]any{"fine": map[string]any{"provider": "openai_compatible", "model": "echo", "api_base": echo.URL()}}
	for name, o := range outages {
		o.script.Times, o.script.Name = 5, name
		profiles[name] = map[string]any{"provider": "openai_compatible", "model": "echo", "api_base": echo.ScriptURL(o.script)}
	}
	text, err := json.Marshal(map[string]any{"default": "fine", "profiles": profiles})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "profiles.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := startDev(nil, dir, "--lm", "profiles.json", "--breaker-timeout", "5s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Stop)
	return echo, d
}

func TestALanguageModelThatFailsIsLeftAloneUntilItHasRecovered(t *testing.T) {
	echo, d := withOutages(t)
	t.Run("outages", func(t *testing.T) { // returns when all of them are over
		for model, o := range outages {
			t.Run(model, func(t *testing.T) {
				t.Parallel()
				liveThroughOutage(t, d, model, o.code)
			})
		}
	})
	// Of each model five failures, the queued job and two calls that succeed, and a job of the other model: no more.
	if n, want := echo.Stats().Requests, uint64(len(outages)*(5+3+1)); n != want {
		t.Errorf("the models were asked %d times, expected %d", n, want)
	}
}

func liveThroughOutage(t *testing.T, d *dev, model, code string) {
	ctx, c := connectTo(t, d.url)
	ask := func(model string) error {
		_, err := c.Execute(ctx, "calls_"+model, "predict", dspex.Args{"question": "Well?"}, dspex.WithLM(model), dspex.WithMaxRetries(0))
		return err
	}
	for n := range 5 {
		var e *dspex.Error
		if err := ask(model); !errors.As(err, &e) || e.Code != code {
			t.Fatalf("call %d: %v", n+1, err)
		}
	}
	queued, err := c.Submit(ctx, "queue_"+model, "predict", dspex.Args{"question": "Well?"}, dspex.WithLM(model), dspex.WithMaxRetries(0))
	if err != nil {
		t.Fatal(err)
	}
	var e *dspex.Error
	switch err := ask(model); {
	case !errors.As(err, &e):
		t.Errorf("must hold: errors.As(err, &e); a call while the breaker is open: %v %+v", err, e)
	case e.Code != "breaker_open":
		t.Errorf(`e.Code must be "breaker_open", got %v; a call while the breaker is open: %v %+v`, e.Code, err, e)
	case !errors.Is(err, dspex.ErrResource):
		t.Errorf("must hold: errors.Is(err, dspex.ErrResource); a call while the breaker is open: %v %+v", err, e)
	case !e.Retryable:
		t.Errorf("must hold: e.Retryable; a call while the breaker is open: %v %+v", err, e)
	case e.RetryAfter <= 0:
		t.Errorf("e.RetryAfter must be > 0, got %v; a call while the breaker is open: %v %+v", e.RetryAfter, err, e)
	case e.RetryAfter > 5*time.Second:
		t.Errorf("e.RetryAfter must be <= 5*time.Second, got %v; a call while the breaker is open: %v %+v", e.RetryAfter, err, e)
	case e.Attempt != 0:
		t.Errorf("e.Attempt must be 0, got %v; a call while the breaker is open: %v %+v", e.Attempt, err, e)
	}
	if h, err := c.Health(ctx); err != nil || h.Status != dspex.HealthDegraded || !strings.Contains(strings.Join(h.Reasons, "; "), "name="+model+"/v1 is open") {
		t.Errorf("health: %+v %v", h, err)
	}
	if _, err := c.Execute(ctx, "fine_"+model, "predict", dspex.Args{"question": "Well?"}); err != nil {
		t.Errorf("a job of another model: %v", err)
	}
	if reply, err := c.Wait(ctx, queued.Job); err != nil || reply.Attempt != 1 {
		t.Errorf("the queued job: %+v %v", reply, err)
	}
	for range 2 {
		if err := ask(model); err != nil {
			t.Errorf("a trial: %v", err)
		}
	}
	list, err := c.Admin().Breakers(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range list {
		if !strings.Contains(b.Name, "name="+model) {
			continue
		}
		if b.State != dspex.BreakerClosed || b.LastFailure == nil || !strings.HasSuffix(b.LastFailure.What, "/"+code) {
			t.Errorf("after three successes: %+v", b)
		}
		return
	}
	t.Errorf("the model has no breaker: %+v", list)
}
