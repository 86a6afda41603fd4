package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/echolm"
)

const (
	payload   = "canary-payload-4711" // stands in the inputs: no error may repeat it
	secretKey = "sk-canary-key-0815"  // of the language model
)

// failing runs dspex dev with commands that fail and language models that follow their script.
func failing(t *testing.T) (context.Context, *dspex.Client, *dev) {
	t.Helper()
	echo, err := echolm.New(echolm.Config{})
	if err != nil {
		t.Fatal(err)
	}
	serving, stop := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { _ = echo.Run(serving) })
	t.Cleanup(func() { stop(); done.Wait() })
	profiles := map[string]any{"well": profile(echo.URL(), 0)}
	for name, script := range map[string]string{
		"limited": "status=429,ra=7", "limited_twice": "status=429,ra=1,times=2", "down": "status=503", "refusing": "status=401", "slow": "lat=60000",
		"cut": "cut=head", "cut_body": "cut=body", "garbled": "bad=1",
	} {
		s, err := echolm.ParseScript(script)
		if err != nil {
			t.Fatal(err)
		}
		profiles[name] = profile(echo.ScriptURL(s), 500)
	}
	profiles["nobody"] = profile("http://127.0.0.1:1/v1", 0)
	file := filepath.Join(t.TempDir(), "profiles.json")
	text, err := json.Marshal(map[string]any{"default": "well", "profiles": profiles})
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	d, err := startDev([]string{"CANARY_KEY=" + secretKey}, "../../python/tests/modules", "--import", "failing", "--import", "misbehaving", "--slots", "4", "--breaker-failures", "1000", "--lm", file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Stop)
	ctx, c := connectTo(t, d.url)
	return ctx, c, d
}

func profile(base string, timeout int) map[string]any {
	p := map[string]any{"provider": "openai_compatible", "model": "echo", "api_base": base, "api_key": "env:CANARY_KEY"}
	if timeout > 0 {
		p["timeout_ms"] = timeout
	}
	return p
}

// provoked is a failure and what its error must contain.
type provoked struct {
	name     string
	category dspex.ErrorCategory
	code     string
	retry    bool
	after    time.Duration
	python   string // exception, "" if none
	where    string // in the traceback
	run      func(ctx context.Context, c *dspex.Client) error
}

func anonymous(command string, args dspex.Args, opts ...dspex.CallOption) func(context.Context, *dspex.Client) error {
	return func(ctx context.Context, c *dspex.Client) error {
		_, err := c.ExecuteAnonymous(ctx, command, args, append([]dspex.CallOption{dspex.WithMaxRetries(0)}, opts...)...)
		return err
	}
}

func asks(profile string) func(context.Context, *dspex.Client) error {
	return anonymous("predict", dspex.Args{"question": payload}, dspex.WithLM(profile))
}

var failures = []provoked{
	{"a worker that dies", dspex.ErrConnection, "worker_died", true, 0, "", "", anonymous("end_of_process", nil)},
	{"a model that cannot be reached", dspex.ErrConnection, "lm_connection", true, 0, "LMTransportError", "", asks("nobody")},
	{"a connection that breaks before the answer", dspex.ErrConnection, "lm_connection", true, 0, "LMTransportError", "", asks("cut")},
	{"a connection that breaks in the answer", dspex.ErrConnection, "lm_connection", true, 0, "LMTransportError", "", asks("cut_body")},
	{"garbage in the pipe", dspex.ErrCommunication, "bad_frame", true, 0, "", "", anonymous("garbage", nil)},
	{"an attempt that takes too long", dspex.ErrTimeout, "operation_timeout", true, 0, "", "", anonymous("busy", dspex.Args{"ms": 60000}, dspex.WithTimeout(300*time.Millisecond))},
	{"a model that is too slow", dspex.ErrTimeout, "lm_timeout", true, 0, "LMTransportError", "", asks("slow")},
	{"a model with a rate limit", dspex.ErrResource, "lm_rate_limit", true, 7 * time.Second, "LMRateLimitError", "", asks("limited")},
	{"a model that is down", dspex.ErrResource, "lm_server_error", true, 0, "LMServerError", "", asks("down")},
	{"a worker that does not answer", dspex.ErrHealthCheck, "worker_hung", true, 0, "", "block_the_loop", anonymous("block_the_loop", nil, dspex.WithTimeout(time.Minute))},
	{"an unknown id", dspex.ErrSession, "program_unknown", false, 0, "", "", func(ctx context.Context, c *dspex.Client) error {
		_, err := c.Execute(ctx, "failing", "execute_program", dspex.Args{"program_id": "none", "inputs": dspex.Args{"question": payload}})
		return err
	}},
	{"an exception", dspex.ErrPython, "user_error", false, 0, "ZeroDivisionError", "_fraction", anonymous("divide", dspex.Args{"a": 1, "b": 0, "note": payload})},
	{"an exception that may pass", dspex.ErrPython, "user_error", true, 0, "OSError", "unlucky", anonymous("unlucky", dspex.Args{"note": payload})},
	{"a key that is refused", dspex.ErrPython, "lm_auth", false, 0, "LMAuthError", "", asks("refusing")},
	{"an answer that is none", dspex.ErrPython, "lm_bad_answer", false, 0, "LMProviderError", "", asks("garbled")},
	{"a cancelled job", dspex.ErrSystem, "cancelled", false, 0, "", "", func(ctx context.Context, c *dspex.Client) error {
		r, err := c.Submit(ctx, "cancelling", "busy", dspex.Args{"ms": 60000, "note": payload}, dspex.WithMaxRetries(0))
		if err != nil {
			return err
		}
		_, err = c.Cancel(ctx, r.Job)
		if err == nil {
			_, err = c.Wait(ctx, r.Job)
		}
		return err
	}},
}

func TestEveryCategoryIsProvokedByWhatItMeans(t *testing.T) {
	ctx, c, d := failing(t)
	seen := map[dspex.ErrorCategory]bool{}
	for _, p := range failures {
		e, ok := errors.AsType[*dspex.Error](p.run(ctx, c))
		if !ok {
			t.Errorf("%s: no error of a job", p.name)
			continue
		}
		seen[p.category] = true
		p.check(t, e)
	}
	if e := noWorkerStarts(t); e != nil {
		seen[e.Category] = true
		provoked{name: "no worker starts", category: dspex.ErrInitialization, code: "worker_start_failed", retry: true, after: e.RetryAfter, where: "fragile.py"}.check(t, e)
	}
	for _, category := range []dspex.ErrorCategory{dspex.ErrInitialization, dspex.ErrConnection, dspex.ErrCommunication, dspex.ErrTimeout, dspex.ErrResource, dspex.ErrHealthCheck,
		dspex.ErrSession, dspex.ErrPython, dspex.ErrSystem} {
		if !seen[category] {
			t.Errorf("nothing provoked %s", category)
		}
	}
	if said := d.log.String(); strings.Contains(said, payload) || strings.Contains(said, secretKey) {
		t.Error("a log line holds a payload or a key")
	}
}

func (p provoked) check(t *testing.T, e *dspex.Error) {
	t.Helper()
	switch {
	case e.Category != p.category:
		t.Errorf("e.Category: got %v, want %v; %s: %s %s, retryable %v after %v, %q: want %+v", e.Category, p.category, p.name, e.Category, e.Code, e.Retryable, e.RetryAfter, e.PythonType, p)
	case e.Code != p.code:
		t.Errorf("e.Code: got %v, want %v; %s: %s %s, retryable %v after %v, %q: want %+v", e.Code, p.code, p.name, e.Category, e.Code, e.Retryable, e.RetryAfter, e.PythonType, p)
	case e.Retryable != p.retry:
		t.Errorf("e.Retryable: got %v, want %v; %s: %s %s, retryable %v after %v, %q: want %+v", e.Retryable, p.retry, p.name, e.Category, e.Code, e.Retryable, e.RetryAfter, e.PythonType, p)
	case e.RetryAfter != p.after:
		t.Errorf("e.RetryAfter: got %v, want %v; %s: %s %s, retryable %v after %v, %q: want %+v", e.RetryAfter, p.after, p.name, e.Category, e.Code, e.Retryable, e.RetryAfter, e.PythonType, p)
	case e.PythonType != p.python:
		t.Errorf("e.PythonType: got %v, want %v; %s: %s %s, retryable %v after %v, %q: want %+v", e.PythonType, p.python, p.name, e.Category, e.Code, e.Retryable, e.RetryAfter, e.PythonType, p)
	}
	ran := p.category != dspex.ErrInitialization && p.category != dspex.ErrSystem
	if e.Severity == "" || e.RecoveryStrategy == "" {
		t.Errorf("%s: got severity %q and strategy %q, want both", p.name, e.Severity, e.RecoveryStrategy)
	}
	if ran && (e.Attempt != 1 || e.Worker == "") {
		t.Errorf("%s: got attempt %d of worker %q, want attempt 1 of a worker", p.name, e.Attempt, e.Worker)
	}
	if !strings.Contains(e.Traceback, p.where) {
		t.Errorf("%s: the traceback must have %q, got %q", p.name, p.where, e.Traceback)
	}
	if n := len(e.Traceback); n > 32<<10 {
		t.Errorf("%s: the traceback must have at most 32 KiB, got %d bytes", p.name, n)
	}
	if p.python != "" && e.Traceback == "" && strings.HasPrefix(p.code, "user") {
		t.Errorf("%s: there is no traceback", p.name)
	}
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{payload, secretKey, "canary-on-stderr"} {
		if strings.Contains(string(text), secret) {
			t.Errorf("%s: %s stands in the error: %s", p.name, secret, text)
		}
	}
}

// noWorkerStarts makes a module that cannot be imported any more and takes the workers away.
func noWorkerStarts(t *testing.T) *dspex.Error {
	t.Helper()
	dir := t.TempDir()
	module := "import os\nfrom dspex_worker import command\n\nif os.path.exists(os.path.join(os.path.dirname(__file__), 'broken')):\n    raise RuntimeError('no more')\n\n" +
		"@command\ndef leave() -> None:\n    os._exit(3)\n"
	if err := os.WriteFile(filepath.Join(dir, "fragile.py"), []byte(module), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, c := connectTo(t, startIn(t, dir, "--engine", "stub", "--import", "fragile", "--workers", "1", "--slots", "1", "--start", "spawn", "--breaker-failures", "1000").url)
	if err := os.WriteFile(filepath.Join(dir, "broken"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for ctx.Err() == nil {
		_, err := c.Execute(ctx, "leaving", "leave", nil, dspex.WithMaxRetries(0))
		e, ok := errors.AsType[*dspex.Error](err)
		if !ok {
			t.Fatalf("leave: %v", err)
		}
		if e.Category == dspex.ErrInitialization {
			return e
		}
		if e.Code != "worker_died" && e.Code != "checkout_timeout" && e.Code != "attempt_crashed" {
			t.Fatalf("while the workers went: %+v", e)
		}
	}
	t.Error("workers start for ever")
	return nil
}

func TestAModelsRateLimitIsWaitedForAndTheJobGoesOn(t *testing.T) {
	ctx, c, _ := failing(t)
	r, err := c.Execute(ctx, "patient", "predict", dspex.Args{"question": "Still there?"}, dspex.WithLM("limited_twice"))
	if err != nil || r.Attempt != 3 || !strings.Contains(string(r.Result), "Still there?") {
		t.Errorf("%+v %v", r, err)
	}
}

func TestTheCallerIsAnsweredThoughPythonCannotBeStopped(t *testing.T) {
	ctx, c, _ := failing(t)
	_, err := c.Execute(ctx, "stuck", "hold_gil", nil, dspex.WithDeadline(time.Second))
	if e, ok := errors.AsType[*dspex.Error](err); !ok || e.Category != dspex.ErrTimeout || e.Code != "deadline_exceeded" {
		t.Errorf("%v", err)
	}
	if r, err := c.Execute(ctx, "stuck", "divide", dspex.Args{"a": 1, "b": 2}); err != nil || string(r.Result) != "0.5" {
		t.Errorf("the session's next job: %s %v", r.Result, err)
	}
}

func TestAnExclusiveFunctionHasItsWorkerToItself(t *testing.T) {
	ctx, c, _ := failing(t)
	call := func(command string, ms int) (r dspex.Reply, err error) {
		for { // a slow machine refuses some of a crowd, with the time when to come again
			r, err = c.ExecuteAnonymous(ctx, command, dspex.Args{"ms": ms})
			e, _ := errors.AsType[*dspex.Error](err)
			if e == nil || e.Code != "overloaded" {
				return r, err
			}
			select {
			case <-time.After(e.RetryAfter):
			case <-ctx.Done():
				return r, err
			}
		}
	}
	var wg sync.WaitGroup
	for range 24 {
		wg.Go(func() {
			if _, err := call("busy", 20); err != nil {
				t.Error(err)
			}
		})
	}
	for range 6 {
		wg.Go(func() {
			r, err := call("alone", 50)
			if err != nil || !strings.Contains(string(r.Result), `"others":[0,0]`) {
				t.Errorf("%s %v", r.Result, err)
			}
		})
	}
	wg.Wait()
}
