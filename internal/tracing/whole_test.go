package tracing_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/dspextest"
	"github.com/dspex/dspex/internal/devserver"
	"github.com/dspex/dspex/internal/mock"
	"github.com/dspex/dspex/internal/pyenv"
	"github.com/dspex/dspex/internal/tracing"
)

// receiver is a collector that keeps what it gets.
type receiver struct {
	*httptest.Server

	mu   sync.Mutex
	all  []*spans.Span
	came chan struct{}
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{came: make(chan struct{}, 1)}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var got collector.ExportTraceServiceRequest
		raw, err := io.ReadAll(req.Body)
		if err == nil {
			err = proto.Unmarshal(raw, &got)
		}
		if err != nil || req.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", req.URL.Path, err)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		r.mu.Lock()
		for _, of := range got.GetResourceSpans() {
			for _, scope := range of.GetScopeSpans() {
				r.all = append(r.all, scope.GetSpans()...)
			}
		}
		r.mu.Unlock()
		select {
		case r.came <- struct{}{}:
		default:
		}
	}))
	t.Cleanup(r.Close)
	return r
}

// of are the spans of a trace.
func (r *receiver) of(trace string) (found []*spans.Span) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.all {
		if hex.EncodeToString(s.GetTraceId()) == trace {
			found = append(found, s)
		}
	}
	return found
}

// tree writes the spans of a trace below each other, brothers by their begin.
func (r *receiver) tree(trace, parent string, shown ...string) string {
	all := r.of(trace)
	slices.SortStableFunc(all, func(a, b *spans.Span) int { return int(a.GetStartTimeUnixNano()) - int(b.GetStartTimeUnixNano()) })
	var b strings.Builder
	var below func(id, indent string)
	below = func(id, indent string) {
		for _, s := range all {
			if hex.EncodeToString(s.GetParentSpanId()) != id {
				continue
			}
			fmt.Fprintf(&b, "%s%s", indent, s.GetName())
			for _, key := range shown {
				if v := attribute(s, key); v != "" {
					fmt.Fprintf(&b, " %s=%s", key, v)
				}
			}
			b.WriteByte('\n')
			below(hex.EncodeToString(s.GetSpanId()), indent+"  ")
		}
	}
	below(parent, "")
	return b.String()
}

func attribute(s *spans.Span, key string) string {
	for _, kv := range s.GetAttributes() {
		if kv.GetKey() == key {
			switch v := kv.GetValue().GetValue().(type) {
			case *common.AnyValue_StringValue:
				return v.StringValue
			case *common.AnyValue_IntValue:
				return fmt.Sprint(v.IntValue)
			case *common.AnyValue_BoolValue:
				return fmt.Sprint(v.BoolValue)
			case *common.AnyValue_DoubleValue:
				return fmt.Sprint(v.DoubleValue)
			}
		}
	}
	return ""
}

// expect waits until the tree is the expected one.
func (r *receiver) expect(t *testing.T, trace, parent, want string, shown ...string) {
	t.Helper()
	want = strings.TrimPrefix(want, "\n")
	for end := time.After(30 * time.Second); ; {
		have := r.tree(trace, parent, shown...)
		if have == want {
			return
		}
		select {
		case <-r.came:
		case <-end:
			t.Fatalf("the tree is\n%swant\n%s", have, want)
		}
	}
}

const module = `
import os
import time

import dspy

from dspex_worker import WorkerError, command, current_job


@command("fails_once")
def fails_once() -> str:
    if current_job().attempt == 1:
        raise WorkerError("python", "flaky", "once", retryable=True)
    return "done"


@command("until")
def until(path: str) -> str:
    while not os.path.exists(path):
        time.sleep(0.01)
    return "done"


@command("dies_once")
def dies_once() -> str:
    if current_job().attempt == 1:
        os.kill(os.getpid(), 9)
    return "done"


def weather(city: str) -> str:
    """The weather."""
    return "sunny"


@command("looks")
def looks(question: str) -> str:
    return dspy.Tool(weather)(city=question)
`

// deployment is a whole dspex whose spans come to a receiver, and how clients connect to it.
func deployment(t *testing.T, set func(*tracing.Config)) (r *receiver, connect func(...dspex.ConnectOption) *dspex.Client) {
	t.Helper()
	python := os.Getenv("DSPEX_TEST_PYTHON")
	if python == "" {
		t.Fatal("set DSPEX_TEST_PYTHON to the Python of `make setup`")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "traced.py"), []byte(module), 0o600); err != nil {
		t.Fatal(err)
	}
	r = newReceiver(t)
	cfg := tracing.Config{Endpoint: r.URL, Ratio: 1}
	if set != nil {
		set(&cfg)
	}
	tracer, err := tracing.Open(cfg, func(string) string { return "" }, "dev", "dev", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tracer.Close)
	ready, ended := make(chan string, 1), make(chan error, 1)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	go func() {
		ended <- devserver.Run(ctx, devserver.Config{Listen: "127.0.0.1:0", Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler), Python: python, Workers: 1, Traces: tracer,
			Test: mock.Options{Mode: string(dspextest.FullIntegration)}, Modules: pyenv.Modules{Paths: []string{dir}, Names: []string{"traced"}}, Ready: func(i devserver.Info) { ready <- i.URL }})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the deployment ended with %v", err)
		}
	})
	select {
	case url := <-ready:
		return r, func(options ...dspex.ConnectOption) *dspex.Client {
			c, err := dspex.Connect(t.Context(), url, options...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(c.Close)
			return c
		}
	case err := <-ended:
		ended <- nil
		t.Fatalf("the deployment did not start: %v", err)
		return nil, nil
	}
}

const (
	clientSpan = "00f067aa0ba902b7"
	shown      = "dspex.attempt"
)

// traceID makes those of the tests: each its own.
func traceID(n int) string { return fmt.Sprintf("4bf92f3577b34da6a3ce929d0e0e%04x", n) }

func parent(n int) dspex.JobOption {
	return dspex.WithTraceparent("00-" + traceID(n) + "-" + clientSpan + "-01")
}

func TestTheSpansOfAJobAreATreeFromItsClientToTheModel(t *testing.T) {
	r, connect := deployment(t, nil)
	c, ctx := connect(), t.Context()
	traced := connect(dspex.WithPropagator(func(context.Context) string { return "00-" + traceID(8) + "-" + clientSpan + "-01" }))
	call := func(n int, command string, args dspex.Args, more ...dspex.CallOption) {
		t.Helper()
		if _, err := c.Execute(ctx, fmt.Sprint("s", n), command, args, append(more, parent(n))...); err != nil {
			t.Fatal(command, err)
		}
	}
	call(1, "predict", dspex.Args{"question": "What is the capital of France?"})
	r.expect(t, traceID(1), clientSpan, `
accept predict
  job predict dspex.outcome=succeeded
    queue
    checkout dspex.attempt=1
    attempt dspex.attempt=1
      program predict
        chat echo gen_ai.operation.name=chat gen_ai.request.model=echo
`, shown, "dspex.outcome", "gen_ai.operation.name", "gen_ai.request.model")
	for _, s := range r.of(traceID(1)) {
		if s.GetName() == "chat echo" && (s.GetKind() != spans.Span_SPAN_KIND_CLIENT || attribute(s, "gen_ai.usage.input_tokens") == "") {
			t.Errorf("the model's call: %v", s)
		}
		for _, kv := range s.GetAttributes() {
			if v := attribute(s, kv.GetKey()); strings.Contains(v, "capital") || strings.Contains(v, "France") {
				t.Errorf("%s has a text of the prompt: %s", s.GetName(), v)
			}
		}
	}
	call(2, "fails_once", nil)
	r.expect(t, traceID(2), clientSpan, `
accept fails_once
  job fails_once
    queue
    checkout dspex.attempt=1
    attempt dspex.attempt=1 error.type=flaky
      program fails_once error.type=flaky
    checkout dspex.attempt=2
    attempt dspex.attempt=2
      program fails_once
`, shown, "error.type")
	call(3, "dies_once", nil)
	r.expect(t, traceID(3), clientSpan, `
accept dies_once
  job dies_once
    queue
    checkout dspex.attempt=1
    attempt dspex.attempt=1 error.type=worker_died
    checkout dspex.attempt=2
    attempt dspex.attempt=2
      program dies_once
`, shown, "error.type")
	call(4, "looks", dspex.Args{"question": "Paris"})
	r.expect(t, traceID(4), clientSpan, `
accept looks
  job looks
    queue
    checkout
    attempt
      program looks
        execute_tool weather gen_ai.tool.name=weather
`, "gen_ai.tool.name")
	submitted, err := c.Submit(ctx, "s5", "predict", dspex.Args{"question": "x"}, parent(5))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Wait(ctx, submitted.Job); err != nil {
		t.Fatal(err)
	}
	r.expect(t, traceID(5), clientSpan, `
job predict
  queue
  checkout
  attempt
    program predict
      chat echo
`)
	batch := func(yield func(dspex.BatchJob, error) bool) {
		for _, q := range []string{"a", "b"} {
			if !yield(dspex.BatchJob{Command: "predict", Args: dspex.Args{"question": q}}, nil) {
				return
			}
		}
	}
	if _, err := traced.SubmitBatch(ctx, "b8", batch); err != nil {
		t.Fatal(err)
	}
	if _, err := c.WaitBatch(ctx, "b8"); err != nil {
		t.Fatal(err)
	}
	job := "job predict\n  queue\n  checkout\n  attempt\n    program predict\n      chat echo\n"
	r.expect(t, traceID(8), clientSpan, job+job)
	// One whose client samples nothing has no spans, whatever the ratio.
	if _, err := c.Execute(ctx, "s6", "predict", dspex.Args{"question": "x"}, dspex.WithTraceparent("00-"+traceID(6)+"-"+clientSpan+"-00")); err != nil {
		t.Fatal(err)
	}
	call(7, "predict", dspex.Args{"question": "y"}) // after it: its spans come later
	r.expect(t, traceID(7), clientSpan, r.tree(traceID(7), clientSpan))
	if found := r.of(traceID(6)); len(found) != 0 {
		t.Errorf("%d spans of a trace that is not sampled", len(found))
	}
}

// TestATraceIsFoundByItsJob looks the trace of a job up while it runs and when it has ended, in a session and without one, with a span of its
// client and without.
func TestATraceIsFoundByItsJob(t *testing.T) {
	r, connect := deployment(t, nil)
	c, ctx := connect(), t.Context()
	unsampled := dspex.WithTraceparent("00-" + traceID(3) + "-" + clientSpan + "-00")
	for n, row := range map[int]struct {
		session string
		trace   []dspex.SubmitOption
		want    string
	}{1: {"s1", []dspex.SubmitOption{parent(1)}, traceID(1)}, 2: {"", []dspex.SubmitOption{parent(2)}, traceID(2)}, 3: {"s3", []dspex.SubmitOption{unsampled}, traceID(3)}, 4: {"s4", nil, ""}, 5: {"", nil, ""}} {
		path := filepath.Join(t.TempDir(), "done")
		submit := c.Submit
		if row.session == "" {
			submit = func(ctx context.Context, _, command string, args dspex.Args, opts ...dspex.SubmitOption) (dspex.Receipt, error) {
				return c.SubmitAnonymous(ctx, dspex.LaneInteractive, command, args, opts...)
			}
		}
		job, err := submit(ctx, row.session, "until", dspex.Args{"path": path}, row.trace...)
		if err != nil {
			t.Fatal(err)
		}
		if waits, err := c.GetJob(ctx, job.Job); err != nil || waits.Status.Final() || waits.TraceID != row.want {
			t.Errorf("%d runs: %+v, %v", n, waits, err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Wait(ctx, job.Job); err != nil {
			t.Fatal(err)
		}
		ended, err := c.GetJob(ctx, job.Job)
		if err != nil || row.want != "" && ended.TraceID != row.want {
			t.Errorf("%d has ended: %+v, %v", n, ended, err)
		}
		if n == 3 { // has no spans
			continue
		}
		within := "job until\n  queue\n  checkout\n  attempt\n    program until\n"
		if row.want == "" {
			r.expect(t, ended.TraceID, "", within)
		} else {
			r.expect(t, ended.TraceID, clientSpan, within)
		}
	}
}

// TestACallThatIsNotSampledHasNoTrace looks up a call whose trace its dispatcher has not sampled: there is nothing to find under an id.
func TestACallThatIsNotSampledHasNoTrace(t *testing.T) {
	r, connect := deployment(t, func(cfg *tracing.Config) { cfg.Ratio = 0 })
	c, ctx := connect(), t.Context()
	for _, session := range []string{"s1", ""} {
		call := func(opts ...dspex.CallOption) dspex.Job {
			t.Helper()
			var reply dspex.Reply
			var err error
			if session == "" {
				reply, err = c.ExecuteAnonymous(ctx, "looks", dspex.Args{"question": "x"}, opts...)
			} else {
				reply, err = c.Execute(ctx, session, "looks", dspex.Args{"question": "x"}, opts...)
			}
			if err != nil {
				t.Fatal(err)
			}
			ended, err := c.GetJob(ctx, reply.Job)
			if err != nil {
				t.Fatal(err)
			}
			return ended
		}
		if ended := call(dspex.WithJobID("plain")); ended.TraceID != "" {
			t.Errorf("in %q: the trace %s, which has no spans", session, ended.TraceID)
		}
		if ended := call(dspex.WithJobID("sampled"), parent(9)); ended.TraceID != traceID(9) {
			t.Errorf("in %q: the trace %q of a client that samples", session, ended.TraceID)
		}
	}
	within := "accept looks\n  job looks\n    queue\n    checkout\n    attempt\n      program looks\n        execute_tool weather\n"
	r.expect(t, traceID(9), clientSpan, within+within)
	found := len(r.of(traceID(9)))
	r.mu.Lock()
	defer r.mu.Unlock()
	if others := len(r.all) - found; others != 0 {
		t.Errorf("%d spans of traces that are not sampled", others)
	}
}
