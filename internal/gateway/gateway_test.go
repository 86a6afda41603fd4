package gateway_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/dspextest"
	"github.com/dspex/dspex/internal/gateway"
	"github.com/dspex/dspex/internal/natstest"
)

// patience is for what takes milliseconds on a machine that has nothing else to do.
const patience = 2 * time.Minute

// serve starts a gateway of a client and returns its URL.
func serve(t *testing.T, c *dspex.Client, cfg gateway.Config) string {
	t.Helper()
	registry := prometheus.NewRegistry()
	g, err := gateway.New(c, cfg, registry)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(g.Handler(registry))
	t.Cleanup(func() { s.Close(); g.Close() })
	return s.URL
}

// answered is what came back.
type answered struct {
	*http.Response
	text string
	body map[string]any // nil if it is no JSON
}

// send sends a request; headers stand as "Name: value".
func send(t *testing.T, method, url, body string, headers ...string) answered {
	t.Helper()
	a, err := try(t.Context(), method, url, body, headers...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func try(ctx context.Context, method, url, body string, headers ...string) (answered, error) {
	var from io.Reader
	if body != "" {
		from = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(ctx, method, url, from)
	if err != nil {
		return answered{}, err
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if r.Header.Set(name, value); name == "Host" {
			r.Host = value
		}
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return answered{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	a := answered{Response: response, text: string(text)}
	_ = json.Unmarshal(text, &a.body)
	return a, err
}

func TestACommandRunsInASessionAndAnswersWithTheContractsReply(t *testing.T) {
	url := serve(t, dspextest.NewFake(t).Client(), gateway.Config{})
	a := send(t, "POST", url+"/v1/sessions/bob/jobs", `{"command":"request","args":{"n":12345678901234567890,"text":"ü<"},"options":{"timeout":"2m","max_retries":1,"backoff":[5,10],"jitter":0.1,"signature":"a -> b"}}`, "Idempotency-Key: job-1")
	result, _ := a.body["result"].(map[string]any)
	headers, _ := result["headers"].(map[string]any)
	switch {
	case a.StatusCode != 200:
		t.Errorf("a.StatusCode must be 200, got %v; %d %v", a.StatusCode, a.StatusCode, a.Header)
	case a.Header.Get("Dspex-Job") != "job-1":
		t.Errorf(`a.Header.Get("Dspex-Job") must be "job-1", got %v; %d %v`, a.Header.Get("Dspex-Job"), a.StatusCode, a.Header)
	case a.Header.Get("Dspex-Attempt") != "1":
		t.Errorf(`a.Header.Get("Dspex-Attempt") must be "1", got %v; %d %v`, a.Header.Get("Dspex-Attempt"), a.StatusCode, a.Header)
	case a.Header.Get("Content-Type") != "application/json":
		t.Errorf(`a.Header.Get("Content-Type") must be "application/json", got %v; %d %v`, a.Header.Get("Content-Type"), a.StatusCode, a.Header)
	}
	if a.body["ok"] != true || headers["Dspex-Job"] == nil || a.body["session"] == nil {
		t.Errorf("%s", a.text)
	}
	want := `{"args":{"n":12345678901234567890,"text":"ü\u003c"},"command":"request","options":{"backoff":[5,10],"jitter":0.1,"max_retries":1,"signature":"a -\u003e b","timeout":120000}}`
	if !strings.Contains(a.text, want) {
		t.Errorf("got  %s\nwant %s", a.text, want)
	}
}

func TestAStoredJobIsFoundAtItsLocation(t *testing.T) {
	for _, how := range []struct{ path, header, location string }{
		{"/v1/sessions/bob/jobs?wait=false", "X-None: 1", "/v1/jobs/k1?session=bob"},
		{"/v1/sessions/bob/jobs", "Prefer: handling=strict, respond-async", "/v1/jobs/k1?session=bob"},
		{"/v1/jobs?wait=false&lane=batch", "X-None: 1", "/v1/jobs/k1"},
	} {
		url := serve(t, dspextest.NewFake(t).Client(), gateway.Config{})
		a := send(t, "POST", url+how.path, `{"command":"echo","args":{"x":1}}`, "Idempotency-Key: k1", how.header)
		if a.StatusCode != 202 || a.Header.Get("Location") != how.location || a.body["outcome"] != "queued" {
			t.Fatalf("%s: %d %v %s", how.path, a.StatusCode, a.Header, a.text)
		}
		a = send(t, "GET", url+a.Header.Get("Location")+map[bool]string{true: "&", false: "?"}[strings.Contains(how.location, "?")]+"wait_ms=60000", "")
		if a.StatusCode != 200 || a.body["outcome"] != "succeeded" || !strings.Contains(a.text, `"result":{"x":1}`) {
			t.Errorf("%s: %d %s", how.path, a.StatusCode, a.text)
		}
	}
}

func TestFailuresAreProblemsWithTheContractsCodes(t *testing.T) {
	fake := dspextest.NewFake(t)
	fake.Handle("gone", func(dspextest.Job) (any, error) {
		return nil, &dspex.Error{Category: dspex.ErrSystem, Code: "cancelled", Message: "cancelled"}
	})
	url := serve(t, fake.Client(), gateway.Config{})
	for _, c := range []struct {
		body           string
		status         int
		category, code string
		after          string
	}{
		{`{"command":"boom"}`, 422, "python", "user_error", ""},
		{`{"command":"busy"}`, 503, "resource_error", "checkout_timeout", "1"},
		{`{"command":"nope"}`, 400, "python", "unknown_command", ""},
		{`{"command":"gone"}`, 499, "system_error", "cancelled", ""},
	} {
		a := send(t, "POST", url+"/v1/jobs", c.body)
		switch {
		case a.StatusCode != c.status:
			t.Errorf("a.StatusCode: got %v, want %v; %s: %d %v %s", a.StatusCode, c.status, c.body, a.StatusCode, a.Header, a.text)
		case a.body["status"] != float64(c.status):
			t.Errorf(`a.body["status"]: got %v, want %v; %s: %d %v %s`, a.body["status"], float64(c.status), c.body, a.StatusCode, a.Header, a.text)
		case a.body["error_category"] != c.category:
			t.Errorf(`a.body["error_category"]: got %v, want %v; %s: %d %v %s`, a.body["error_category"], c.category, c.body, a.StatusCode, a.Header, a.text)
		case a.body["code"] != c.code:
			t.Errorf(`a.body["code"]: got %v, want %v; %s: %d %v %s`, a.body["code"], c.code, c.body, a.StatusCode, a.Header, a.text)
		case a.Header.Get("Retry-After") != c.after:
			t.Errorf(`a.Header.Get("Retry-After"): got %v, want %v; %s: %d %v %s`, a.Header.Get("Retry-After"), c.after, c.body, a.StatusCode, a.Header, a.text)
		case a.Header.Get("Content-Type") != "application/problem+json":
			t.Errorf(`a.Header.Get("Content-Type") must be "application/problem+json", got %v; %s: %d %v %s`, a.Header.Get("Content-Type"), c.body, a.StatusCode, a.Header, a.text)
		case a.body["title"] == "":
			t.Errorf(`a.body["title"] must not be ""; %s: %d %v %s`, c.body, a.StatusCode, a.Header, a.text)
		case a.body["detail"] == "":
			t.Errorf(`a.body["detail"] must not be ""; %s: %d %v %s`, c.body, a.StatusCode, a.Header, a.text)
		case a.body["job"] != a.Header.Get("Dspex-Job"):
			t.Errorf(`a.body["job"]: got %v, want %v; %s: %d %v %s`, a.body["job"], a.Header.Get("Dspex-Job"), c.body, a.StatusCode, a.Header, a.text)
		}
	}
}

func TestRequestsThatAreNotOfTheContractAreRefused(t *testing.T) {
	fake := dspextest.NewFake(t)
	url := serve(t, fake.Client(), gateway.Config{MaxBody: 2048})
	for _, c := range []struct {
		method, path, body string
		header             string
		status             int
		code, at           string
	}{
		{"POST", "/v1/jobs", `{"command":"echo","comand":1}`, "", 400, "bad_request", "comand"},
		{"POST", "/v1/jobs", `{"command":"echo","args":{"a":1,"a":2}}`, "", 400, "bad_request", "args.a"},
		{"POST", "/v1/jobs", `{"command":"echo","args":null}`, "", 400, "bad_request", "args"},
		{"POST", "/v1/jobs", `{"command":"echo","options":{"lm":null}}`, "", 400, "bad_request", "options.lm"},
		{"POST", "/v1/jobs", `{"command":"Echo"}`, "", 400, "bad_request", "command"},
		{"POST", "/v1/jobs", `{"args":{}}`, "", 400, "bad_request", "body"},
		{"POST", "/v1/jobs", `{"command":"echo"`, "", 400, "bad_request", ""},
		{"POST", "/v1/jobs", ``, "", 400, "bad_request", ""},
		{"POST", "/v1/jobs", `{"command":"echo","options":{"timeot":1}}`, "", 400, "bad_request", "options.timeot"},
		{"POST", "/v1/jobs", `{"command":"echo","options":{"stream":true}}`, "", 400, "bad_request", "options.stream"},
		{"POST", "/v1/jobs", `{"command":"echo","options":{"timeout":"5"}}`, "", 400, "bad_request", "options.timeout"},
		{"POST", "/v1/jobs", `{"command":"echo","options":{"timeout":86400001}}`, "", 400, "bad_option", "options.timeout"},
		{"POST", "/v1/jobs", `{"command":"echo","options":{"backoff":"fast"}}`, "", 400, "bad_request", "options.backoff"},
		{"POST", "/v1/jobs", `{"command":"echo","options":{"module":"eval"}}`, "", 400, "bad_request", "options.module"},
		{"POST", "/v1/jobs", `{"command":"set_lm","args":{"model":"m","api_key":"sk-secret"}}`, "", 400, "secret_in_request", "args.api_key"},
		{"POST", "/v1/jobs", `{"command":"echo"}`, "Content-Type: text/plain", 415, "bad_header", "header.Content-Type"},
		{"POST", "/v1/jobs", `{"command":"echo"}`, "Origin: https://evil.example", 403, "bad_header", "header.Origin"},
		{"POST", "/v1/jobs", `{"command":"echo"}`, "Host: evil.example", 403, "bad_header", "header.Host"},
		{"POST", "/v1/jobs", `{"command":"echo"}`, "Idempotency-Key: q5", 400, "bad_job_id", "header.Idempotency-Key"},
		{"POST", "/v1/jobs?wait=maybe", `{"command":"echo"}`, "", 400, "bad_request", "query.wait"},
		{"POST", "/v1/jobs?lane=batch", `{"command":"echo"}`, "", 400, "bad_option", "query.lane"},
		{"POST", "/v1/jobs?wait=false&cancel_on_disconnect=true", `{"command":"echo"}`, "", 400, "bad_option", "query.cancel_on_disconnect"},
		{"POST", "/v1/jobs?session=bob", `{"command":"echo"}`, "", 400, "bad_request", "query.session"},
		{"POST", "/v1/sessions/a.b/jobs", `{"command":"echo"}`, "", 400, "bad_request", "path.session"},
		{"POST", "/v1/jobs", `{"command":"echo","args":{"x":"` + strings.Repeat("x", 2048) + `"}}`, "", 413, "too_large", ""},
		{"GET", "/v1/jobs/nope", "", "", 404, "job_unknown", ""},
		{"GET", "/v1/jobs/nope?wait_ms=600000", "", "", 404, "job_unknown", ""},
		{"GET", "/v1/jobs/a%2Eb", "", "", 400, "bad_request", "path.id"},
		{"DELETE", "/v1/jobs/nope?session=bob", "", "", 404, "job_unknown", ""},
		{"GET", "/v1/nothing", "", "", 404, "path_unknown", ""},
		{"PUT", "/v1/jobs", `{}`, "", 405, "method_unknown", ""},
	} {
		var headers []string
		if c.header != "" {
			headers = append(headers, c.header)
		}
		a := send(t, c.method, url+c.path, c.body, headers...)
		at, _ := a.body["path"].(string)
		switch {
		case a.StatusCode != c.status:
			t.Errorf("a.StatusCode: got %v, want %v; %s %s %.100s %s: %d %s", a.StatusCode, c.status, c.method, c.path, c.body, c.header, a.StatusCode, a.text)
		case a.body["code"] != c.code:
			t.Errorf(`a.body["code"]: got %v, want %v; %s %s %.100s %s: %d %s`, a.body["code"], c.code, c.method, c.path, c.body, c.header, a.StatusCode, a.text)
		case at != c.at:
			t.Errorf("at: got %v, want %v; %s %s %.100s %s: %d %s", at, c.at, c.method, c.path, c.body, c.header, a.StatusCode, a.text)
		case a.Header.Get("Content-Type") != "application/problem+json":
			t.Errorf(`a.Header.Get("Content-Type") must be "application/problem+json", got %v; %s %s %.100s %s: %d %s`, a.Header.Get("Content-Type"), c.method, c.path, c.body, c.header, a.StatusCode, a.text)
		}
		if strings.Contains(a.text, "sk-secret") {
			t.Errorf("a secret came back: %s", a.text)
		}
	}
	if jobs := fake.Jobs(); len(jobs) > 0 {
		t.Errorf("a refused request became a job: %+v", jobs)
	}
}

// slow is a deployment whose command predict takes longer than the test.
func slow(t *testing.T) *dspextest.Deployment {
	hold := dspextest.Rule{Command: "predict", Latency: 10 * time.Minute}
	return dspextest.Open(t, dspextest.WithMode(dspextest.MockAdapter), dspextest.WithScenario(hold))
}

func TestAClientThatGoesAwayCancelsItsJobOnlyIfItAskedForThat(t *testing.T) { leaves(t) }

// leaves has clients with these headers leave before the end, with and without the wish that their jobs are cancelled then.
func leaves(t *testing.T, headers ...string) {
	t.Helper()
	client := slow(t).Client()
	url := serve(t, client, gateway.Config{})
	for _, c := range []struct {
		query string
		after dspex.JobStatus
	}{{"", dspex.JobRunning}, {"?cancel_on_disconnect=true", dspex.JobCancelled}} {
		job := dspex.JobRef{Session: "s" + string(c.after), ID: "j1"}
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() {
			_, err := try(ctx, "POST", url+"/v1/sessions/"+job.Session+"/jobs"+c.query, `{"command":"predict","args":{"question":"x"},"options":{"timeout":"1h"}}`,
				append([]string{"Idempotency-Key: " + job.ID}, headers...)...)
			left <- err
		}()
		awaitStatus(t, client, job, dspex.JobRunning)
		leave()
		if err := <-left; err == nil {
			t.Fatal("the request was answered to the end")
		}
		if c.after == dspex.JobRunning {
			// The gateway has detected the end of an earlier request when it is served no more.
			await(t, func() bool {
				return strings.Contains(send(t, "GET", url+"/metrics", "").text, "\ndspex_gateway_active_requests 1\n")
			})
		}
		awaitStatus(t, client, job, c.after)
		if _, err := client.Cancel(t.Context(), job); err != nil {
			t.Error(err)
		}
	}
}

func awaitStatus(t *testing.T, c *dspex.Client, job dspex.JobRef, want dspex.JobStatus) {
	t.Helper()
	await(t, func() bool {
		found, err := c.GetJob(t.Context(), job)
		return err == nil && found.Status == want
	})
}

// await looks until it is so.
func await(t *testing.T, so func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !so(); {
		if time.Now().After(end) {
			t.Fatal("it did not become so")
		}
		<-time.After(5 * time.Millisecond)
	}
}

func TestOneRequestTooManyIsRefusedWithATime(t *testing.T) {
	fake := dspextest.NewFake(t)
	started, release := make(chan struct{}), make(chan struct{})
	fake.Handle("wait", func(dspextest.Job) (any, error) { close(started); <-release; return 1, nil })
	url := serve(t, fake.Client(), gateway.Config{MaxRequests: 1})
	ended := make(chan answered, 1)
	go func() {
		a, _ := try(context.WithoutCancel(t.Context()), "POST", url+"/v1/jobs", `{"command":"wait"}`)
		ended <- a
	}()
	<-started
	a := send(t, "GET", url+"/v1/stats", "")
	if a.StatusCode != 429 || a.body["code"] != "overloaded" || a.Header.Get("Retry-After") != "1" {
		t.Errorf("%d %s", a.StatusCode, a.text)
	}
	if a := send(t, "GET", url+"/livez", ""); a.StatusCode != 200 {
		t.Errorf("livez: %d", a.StatusCode)
	}
	close(release)
	if a := <-ended; a.Response == nil || a.StatusCode != 200 {
		t.Errorf("%+v", a)
	}
}

func TestAGatewayWithoutAPoolLivesAndIsNotReady(t *testing.T) {
	c, err := dspex.Connect(t.Context(), natstest.Run(t).ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	url := serve(t, c, gateway.Config{})
	if a := send(t, "GET", url+"/livez", ""); a.StatusCode != 200 {
		t.Errorf("livez: %d", a.StatusCode)
	}
	if a := send(t, "GET", url+"/readyz", ""); a.StatusCode != 503 || a.body["code"] != "pool_not_available" {
		t.Errorf("readyz: %d %s", a.StatusCode, a.text)
	}
	if a := send(t, "GET", serve(t, dspextest.NewFake(t).Client(), gateway.Config{})+"/readyz", ""); a.StatusCode != 200 {
		t.Errorf("readyz with a pool: %d %s", a.StatusCode, a.text)
	}
}

func TestHealthAndStatsAreThoseOfTheContract(t *testing.T) {
	url := serve(t, dspextest.NewFake(t).Client(), gateway.Config{})
	if a := send(t, "GET", url+"/v1/health", ""); a.StatusCode != 200 || a.body["status"] != "healthy" {
		t.Errorf("%d %s", a.StatusCode, a.text)
	}
	if a := send(t, "GET", url+"/v1/stats", ""); a.StatusCode != 200 || a.body["pool_size"] != 4.0 {
		t.Errorf("%d %s", a.StatusCode, a.text)
	}
}

func TestOpenAPIDescribesEveryOperation(t *testing.T) {
	a := send(t, "GET", serve(t, dspextest.NewFake(t).Client(), gateway.Config{})+"/openapi.json", "")
	var described struct {
		OpenAPI string
		Paths   map[string]map[string]struct{ OperationID string }
	}
	if err := json.Unmarshal([]byte(a.text), &described); err != nil || !strings.HasPrefix(described.OpenAPI, "3.1") {
		t.Fatalf("%v %.200s", err, a.text)
	}
	for path, methods := range map[string][]string{
		"/v1/sessions/{session}/jobs": {"post"}, "/v1/jobs": {"post"}, "/v1/jobs/{id}": {"get", "delete"}, "/v1/jobs/{id}/events": {"get"}, "/v1/health": {"get"}, "/v1/stats": {"get"},
	} {
		for _, method := range methods {
			if described.Paths[path][method].OperationID == "" {
				t.Errorf("%s %s is missing", method, path)
			}
		}
	}
	for _, foreign := range []string{"$schema", "unpkg", "cdn"} {
		if strings.Contains(a.text, foreign) {
			t.Errorf("it has %q", foreign)
		}
	}
}

func TestAConfigurationIsCheckedAtOnce(t *testing.T) {
	for _, c := range []struct {
		cfg  gateway.Config
		want string
	}{
		{gateway.Config{}, ""},
		{gateway.Config{Listen: "[::1]:0"}, ""},
		{gateway.Config{Listen: "localhost:8080"}, ""},
		{gateway.Config{Listen: "0.0.0.0:8080"}, "--listen must be an address of the loopback interface"},
		{gateway.Config{Listen: ":8080"}, "--listen must be an address of the loopback interface"},
		{gateway.Config{Listen: "8080"}, "--listen must be HOST:PORT"},
		{gateway.Config{MaxBody: 1}, "--max-body must be"},
		{gateway.Config{MaxRequests: -1}, "--max-requests must be"},
		{gateway.Config{Cert: "x"}, "--tls-cert and --tls-key belong together"},
	} {
		err := c.cfg.Check()
		if c.want == "" && err != nil {
			t.Errorf("%+v: %v", c.cfg, err)
		}
		if c.want != "" && !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%+v: %v, want %q", c.cfg, err, c.want)
		}
	}
}

func TestABodyThatNeverEndsIsNotWaitedFor(t *testing.T) {
	url := serve(t, dspextest.NewFake(t).Client(), gateway.Config{BodyTime: 50 * time.Millisecond})
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || !strings.Contains(line, "408") {
		t.Errorf("%q %v", line, err)
	}
}

func TestAGatewayWhoseBrokerIsGoneSaysSo(t *testing.T) {
	s := natstest.Run(t)
	c, err := dspex.Connect(t.Context(), s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	url := serve(t, c, gateway.Config{})
	s.Shutdown()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(30 * time.Second); ; {
		a := send(t, "GET", url+"/readyz", "")
		if detail, _ := a.body["detail"].(string); a.StatusCode == 503 && detail == "the gateway has no connection to the broker" {
			break
		}
		select {
		case <-end:
			t.Fatalf("readyz: %d %s", a.StatusCode, a.text)
		case <-tick.C:
		}
	}
	if a := send(t, "GET", url+"/metrics", ""); !strings.Contains(a.text, "dspex_gateway_broker_connected 0") {
		t.Errorf("metrics: %s", a.text)
	}
	if a := send(t, "GET", url+"/livez", ""); a.StatusCode != 200 {
		t.Errorf("livez: %d", a.StatusCode)
	}
}

func TestAJobBelongsToTheSpanOfItsHTTPRequest(t *testing.T) {
	url := serve(t, dspextest.NewFake(t).Client(dspex.WithPropagator(gateway.Traceparent)), gateway.Config{})
	const span = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for _, c := range []struct{ header, want string }{{"Traceparent: " + span, span}, {"Traceparent: nonsense", ""}, {"X-None: 1", ""}} {
		a := send(t, "POST", url+"/v1/sessions/bob/jobs", `{"command":"request"}`, c.header)
		result, _ := a.body["result"].(map[string]any)
		headers, _ := result["headers"].(map[string]any)
		got := ""
		if all, _ := headers["traceparent"].([]any); len(all) > 0 {
			got, _ = all[0].(string)
		}
		if got != c.want {
			t.Errorf("%s: the job's traceparent must be %q, got %q; %s", c.header, c.want, got, a.text)
		}
	}
}
