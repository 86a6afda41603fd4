package gateway_test

import (
	"bytes"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/dspextest"
	"github.com/dspex/dspex/internal/gateway"
	"github.com/dspex/dspex/internal/natstest"
	"github.com/dspex/dspex/internal/tracing"
)

// traced is a gateway with a tracer whose spans finish returns.
func traced(t *testing.T, ratio float64) (url string, finish func() map[string]*spans.Span) {
	var mu sync.Mutex
	all := map[string]*spans.Span{}
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var got collector.ExportTraceServiceRequest
		if body, err := io.ReadAll(r.Body); err != nil || proto.Unmarshal(body, &got) != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, of := range got.GetResourceSpans() {
			for _, scope := range of.GetScopeSpans() {
				for _, span := range scope.GetSpans() {
					all[hex.EncodeToString(span.GetSpanId())] = span
				}
			}
		}
	}))
	t.Cleanup(s.Close)
	none := func(string) string { return "" }
	traces, err := tracing.Open(tracing.Config{Endpoint: s.URL, Ratio: ratio}, none, "gateway", "g", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	url = serve(t, dspextest.NewFake(t).Client(dspex.WithPropagator(gateway.Traceparent)), gateway.Config{Traces: traces})
	return url, func() map[string]*spans.Span {
		traces.Close()
		mu.Lock()
		defer mu.Unlock()
		return all
	}
}

// given is the traceparent that the fake has got with a job.
func given(t *testing.T, a answered) (trace, span, flags string) {
	t.Helper()
	result, _ := a.body["result"].(map[string]any)
	headers, _ := result["headers"].(map[string]any)
	all, _ := headers["traceparent"].([]any)
	if len(all) != 1 {
		t.Fatalf("the job has no traceparent: %s", a.text)
	}
	part := strings.Split(all[0].(string), "-")
	return part[1], part[2], part[3]
}

func TestARequestHasASpanBelowItsClientsAndAboveItsJobs(t *testing.T) {
	const trace, above = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	for _, header := range []string{"X-None: 1", "Prefer: handling=strict"} { // the short and the long way
		url, finish := traced(t, 1)
		a := send(t, "POST", url+"/v1/sessions/bob/jobs", `{"command":"request"}`, "Traceparent: 00-"+trace+"-"+above+"-01", header)
		of, id, _ := given(t, a)
		if of != trace || id == above {
			t.Errorf("the job belongs to %s of %s", id, of)
		}
		rootTrace, rootID, _ := given(t, send(t, "POST", url+"/v1/jobs", `{"command":"request"}`, header))
		all := finish()
		span, root := all[id], all[rootID]
		if span == nil || root == nil || len(all) != 2 {
			t.Fatalf("%d spans: %v", len(all), all)
		}
		got := [...]any{hex.EncodeToString(span.GetParentSpanId()), hex.EncodeToString(span.GetTraceId()), span.GetKind(), span.GetName()}
		if want := [...]any{above, trace, spans.Span_SPAN_KIND_SERVER, "POST /v1/sessions/{session}/jobs"}; got != want {
			t.Errorf("parent, trace, kind and name: got %v, want %v", got, want)
		}
		if len(root.GetParentSpanId()) != 0 || hex.EncodeToString(root.GetTraceId()) != rootTrace {
			t.Errorf("%v", root)
		}
	}
}

// TestTheHistogramOfRequestsLeadsToATrace reads the metrics as Prometheus does when it keeps exemplars.
func TestTheHistogramOfRequestsLeadsToATrace(t *testing.T) {
	const trace, path = "4bf92f3577b34da6a3ce929d0e0e4736", "/v1/sessions/bob/jobs"
	url, finish := traced(t, 1)
	defer finish()
	for _, sampled := range []string{"00", "01"} {
		if a := send(t, "POST", url+path, `{"command":"request"}`, "Traceparent: 00-"+trace+"-00f067aa0ba902b7-"+sampled); a.StatusCode != 200 {
			t.Fatalf("%d %s", a.StatusCode, a.text)
		}
		a := send(t, "GET", url+"/metrics", "", "Accept: application/openmetrics-text; version=1.0.0")
		if kind := a.Header.Get("Content-Type"); !strings.HasPrefix(kind, "application/openmetrics-text") || !strings.HasSuffix(a.text, "# EOF\n") {
			t.Fatalf("%s: %s", kind, a.text)
		}
		exemplar := regexp.MustCompile(`(?m)^dspex_gateway_request_seconds_bucket\{[^}]*route="POST /v1/sessions/\{session\}/jobs"[^#\n]*# \{trace_id="` + trace + `"\} [0-9.e-]+ [0-9.e+]+$`)
		if found := exemplar.MatchString(a.text); found != (sampled == "01") {
			t.Errorf("sampled %s: an exemplar is there: %v\n%s", sampled, found, a.text)
		}
	}
}

func TestWhatIsNotSampledHasNoSpanAndItsJobsHaveNone(t *testing.T) {
	url, finish := traced(t, 0)
	for _, headers := range [][]string{nil, {"Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"}} {
		if _, _, flags := given(t, send(t, "POST", url+"/v1/jobs", `{"command":"request"}`, headers...)); flags != "00" {
			t.Errorf("the job is sampled: %s", flags)
		}
	}
	if all := finish(); len(all) > 0 {
		t.Errorf("%d spans", len(all))
	}
}

func TestProblemsAndLogLinesNameTheTrace(t *testing.T) {
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	var log text
	url := serve(t, dspextest.NewFake(t).Client(), gateway.Config{})
	for _, c := range []struct{ path, body string }{{"/v1/jobs", `{"command":"nothing_of_that_name"}`}, {"/v1/jobs", `{"command":1}`}, {"/v1/jobs", `{`}, {"/none", `{}`}, {"/v1/jobs/x", ""}} {
		method := "POST"
		if c.body == "" {
			method = "GET"
		}
		if a := send(t, method, url+c.path, c.body, "Traceparent: 00-"+trace+"-00f067aa0ba902b7-01"); a.body["trace_id"] != trace {
			t.Errorf("%s %s: %s", c.path, c.body, a.text)
		}
		if a := send(t, method, url+c.path, c.body); a.body["trace_id"] != nil {
			t.Errorf("%s %s: %s", c.path, c.body, a.text)
		}
	}
	away := natstest.Connect(t, natstest.Run(t))
	url = serve(t, dspex.New(away), gateway.Config{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if a := send(t, "POST", url+"/v1/jobs", `{"command":"ping"}`, "Traceparent: 00-"+trace+"-00f067aa0ba902b7-01"); a.StatusCode != 503 || !strings.Contains(log.String(), "route=\"POST /v1/jobs\" status=503 trace_id="+trace) {
		t.Errorf("%d: %s", a.StatusCode, log.String())
	}
}

// text is a log.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *text) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *text) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
