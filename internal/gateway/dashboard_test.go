package gateway_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/dspextest"
	"github.com/dspex/dspex/internal/gateway"
	"github.com/dspex/dspex/internal/logfeed"
	"github.com/dspex/dspex/internal/tokens"
)

// inline is what a strict policy refuses to run.
var inline = regexp.MustCompile(`(?i)<script(?:\s+[^>]*)?>[^<]|<style|\sstyle=|\son[a-z]+=|javascript:`)

const sameSite = "Sec-Fetch-Site: same-origin"

// form sends a form of the dashboard, and does not follow where it leads.
func form(t *testing.T, address string, fields url.Values, headers ...string) answered {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", address, strings.NewReader(fields.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return plain(t, r, headers...)
}

func visit(t *testing.T, address string, headers ...string) answered {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", address, nil)
	if err != nil {
		t.Fatal(err)
	}
	return plain(t, r, headers...)
}

func plain(t *testing.T, r *http.Request, headers ...string) answered {
	t.Helper()
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var b strings.Builder
	if _, err := bufio.NewReader(response.Body).WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return answered{Response: response, text: b.String()}
}

// cookie is the header of a browser that has signed in.
func cookie(bearer string) string {
	return "Cookie: dspex_token=" + strings.TrimPrefix(bearer, "Authorization: Bearer ")
}

func TestEveryPageIsSmallAndHasAStrictPolicy(t *testing.T) {
	pool := dspextest.Open(t, dspextest.WithMode("mock_adapter"))
	c := pool.Client()
	if _, err := c.Execute(t.Context(), "bob", "predict", dspex.Args{"question": "of bob"}, dspex.WithJobID("k1")); err != nil {
		t.Fatal(err)
	}
	base := serve(t, c, gateway.Config{})
	for _, path := range []string{"", "/jobs", "/job?id=k1&session=bob", "/kept", "/sessions", "/session?id=bob", "/hosts", "/worker?name=dev/0", "/breakers", "/letters", "/logs", "/models", "/batches"} {
		a := visit(t, base+"/dashboard"+path)
		if a.StatusCode != 200 || len(a.text) > 100_000 || !strings.HasPrefix(a.Header.Get("Content-Type"), "text/html") {
			t.Errorf("%q: %d, %d bytes\n%.300s", path, a.StatusCode, len(a.text), a.text)
		}
		policy := a.Header.Get("Content-Security-Policy")
		if !strings.HasPrefix(policy, "default-src 'none'; script-src 'self'; style-src 'self';") || strings.Contains(policy, "unsafe") || !strings.Contains(policy, "frame-ancestors 'none'") {
			t.Errorf("%q: policy %q", path, policy)
		}
		if found := inline.FindString(a.text); found != "" {
			t.Errorf("%q has %q", path, found)
		}
		if strings.Contains(a.text, "of bob") {
			t.Errorf("%q shows a prompt that was not asked for", path)
		}
		for _, link := range regexp.MustCompile(`(?:src|href|action)="([^"]*)"`).FindAllStringSubmatch(a.text, -1) {
			if !strings.HasPrefix(link[1], "/dashboard") && !strings.HasPrefix(link[1], "#") {
				t.Errorf("%q leads to %q", path, link[1])
			}
		}
	}
	if a := visit(t, base+"/dashboard/job?id=k1&session=bob&show=result"); !strings.Contains(a.text, "[mock]") {
		t.Errorf("the result is not shown: %s", a.text)
	}
	for path, status := range map[string]int{"/jobs?stat=x": 400, "/job?id=none": 404, "/nothing": 404, "/assets/none.css": 404, "/assets/..%2fpages%2flayout.html": 404} {
		if a := visit(t, base+"/dashboard"+path); a.StatusCode != status {
			t.Errorf("%s: %d", path, a.StatusCode)
		}
	}
}

func TestWhatUsersWriteIsShownAsText(t *testing.T) {
	fake := dspextest.NewFake(t)
	const script = `<script>alert("x")</script>`
	fake.Handle("evil", func(dspextest.Job) (any, error) {
		return nil, &dspex.Error{Category: dspex.ErrPython, Code: "user_error", Message: script, Traceback: script, Hint: script}
	})
	c := fake.Client()
	_, _ = c.ExecuteAnonymous(t.Context(), "evil", nil, dspex.WithJobID("k1"))
	_, _ = c.ExecuteAnonymous(t.Context(), "echo", dspex.Args{"x": script}, dspex.WithJobID("k2"))
	base := serve(t, c, gateway.Config{})
	for _, path := range []string{"/job?id=k1", "/job?id=k2&show=result", "/jobs?session=" + url.QueryEscape(`"><script>alert(1)</script>`), "/sessions?prefix=" + url.QueryEscape(`"onfocus="alert(1)`)} {
		a := visit(t, base+"/dashboard"+path)
		if found := inline.FindString(a.text); found != "" || strings.Contains(a.text, "<script>alert") || strings.Contains(a.text, `"onfocus=`) {
			t.Errorf("%s: %d has %q", path, a.StatusCode, found)
		}
		if strings.HasPrefix(path, "/job?") && !strings.Contains(a.text, "&lt;script&gt;") && !strings.Contains(a.text, `\u003cscript`) {
			t.Errorf("%s does not show it:\n%s", path, a.text)
		}
	}
}

func TestATokenBecomesACookieOfTheDashboardAlone(t *testing.T) {
	path := tokenFile(t)
	call := bearer(t, path, tokens.Token{})
	base := serve(t, dspextest.NewFake(t).Client(), gateway.Config{Tokens: path})
	if a := visit(t, base+"/dashboard"); a.StatusCode != 303 || a.Header.Get("Location") != "/dashboard/login" {
		t.Errorf("without a token: %d %v", a.StatusCode, a.Header)
	}
	if a := visit(t, base+"/dashboard/live"); a.StatusCode != 401 {
		t.Errorf("the stream without a token: %d", a.StatusCode)
	}
	text := strings.TrimPrefix(call, "Authorization: Bearer ")
	for _, wrong := range []string{"", "dspex_abcdefgh_X", text + "x", "a;b", strings.Repeat("x", 500)} {
		if a := form(t, base+"/dashboard/login", url.Values{"token": {wrong}}, sameSite); a.StatusCode != 401 || a.Header.Get("Set-Cookie") != "" {
			t.Errorf("%.20q: %d %v", wrong, a.StatusCode, a.Header)
		}
	}
	a := form(t, base+"/dashboard/login", url.Values{"token": {" " + text + "\n"}}, sameSite)
	set := a.Header.Get("Set-Cookie")
	for _, part := range []string{"dspex_token=" + text, "HttpOnly", "SameSite=Strict", "Path=/dashboard"} {
		if a.StatusCode != 303 || !strings.Contains(set, part) {
			t.Errorf("%d, the cookie lacks %s", a.StatusCode, part)
		}
	}
	if a := visit(t, base+"/dashboard", cookie(call)); a.StatusCode != 200 || strings.Contains(a.text, text) {
		t.Errorf("with the cookie: %d", a.StatusCode)
	}
	for _, other := range []string{"/v1/stats", "/metrics", "/dashboardx"} {
		if a := visit(t, base+other, cookie(call)); a.StatusCode != 401 {
			t.Errorf("%s takes the cookie: %d", other, a.StatusCode)
		}
	}
	if a := form(t, base+"/dashboard/logout", nil, cookie(call), sameSite); a.StatusCode != 303 || !strings.Contains(a.Header.Get("Set-Cookie"), "dspex_token=;") {
		t.Errorf("sign out: %d %v", a.StatusCode, a.Header)
	}
}

func TestOnlyAPageOfTheDashboardMayChangeSomething(t *testing.T) {
	path := tokenFile(t)
	operate := bearer(t, path, tokens.Token{Role: tokens.Operate})
	fake := dspextest.NewFake(t)
	base := serve(t, fake.Client(), gateway.Config{Tokens: path})
	reset := url.Values{"do": {"reset"}, "name": {"lm.openai/gpt-4o"}}
	host := strings.TrimPrefix(base, "http://")
	for _, c := range []struct {
		headers []string
		status  int
	}{
		{nil, 403}, // a browser sends its origin
		{[]string{"Sec-Fetch-Site: cross-site"}, 403},
		{[]string{"Sec-Fetch-Site: same-site"}, 403},
		{[]string{"Sec-Fetch-Site: none"}, 403},
		{[]string{"Origin: https://evil.example"}, 403},
		{[]string{"Origin: null"}, 403},
		{[]string{"Origin: https://evil.example", sameSite, "Referer: https://evil.example"}, 303}, // sent by no browser: the two contradict each other
		{[]string{sameSite}, 303},
		{[]string{"Origin: http://" + host}, 303},
	} {
		if a := form(t, base+"/dashboard/act", reset, append(c.headers, cookie(operate))...); a.StatusCode != c.status {
			t.Errorf("%q: %d", c.headers, a.StatusCode)
		}
	}
	if a := visit(t, base+"/dashboard/act?do=reset&name=lm.openai/gpt-4o", cookie(operate)); a.StatusCode != 405 && a.StatusCode != 404 {
		t.Errorf("by GET: %d", a.StatusCode)
	}
	if a := send(t, "POST", base+"/dashboard/act", `{"do":"reset"}`, operate, sameSite); a.StatusCode != 415 {
		t.Errorf("as JSON: %d", a.StatusCode)
	}
	if a := form(t, base+"/dashboard/act", url.Values{"do": {"erase"}}, cookie(operate), sameSite); a.StatusCode != 400 {
		t.Errorf("an unknown action: %d", a.StatusCode)
	}
	if a := form(t, base+"/dashboard/act", url.Values{"do": {strings.Repeat("x", 9<<10)}}, cookie(operate), sameSite); a.StatusCode != 413 {
		t.Errorf("a large form: %d", a.StatusCode)
	}
}

func TestATokenThatMayOnlyCallReadsWhatClientsMayAsk(t *testing.T) {
	path := tokenFile(t)
	call, operate := bearer(t, path, tokens.Token{Sessions: "bob-"}), bearer(t, path, tokens.Token{Role: tokens.Operate})
	fake := dspextest.NewFake(t)
	base := serve(t, fake.Client(), gateway.Config{Tokens: path})
	for _, session := range []string{"bob-1", "eve-1"} {
		if _, err := fake.Client().Execute(t.Context(), session, "echo", dspex.Args{"x": 1}, dspex.WithJobID("k1")); err != nil {
			t.Fatal(err)
		}
	}
	for page, status := range map[string]int{"": 200, "/jobs": 200, "/job?id=k1&session=bob-1": 200, "/job?id=k1&session=eve-1": 404, "/hosts": 403, "/breakers": 403, "/logs": 403} {
		if a := visit(t, base+"/dashboard"+page, cookie(call)); a.StatusCode != status {
			t.Errorf("%s with the role call: %d", page, a.StatusCode)
		}
		if a := visit(t, base+"/dashboard"+page, cookie(operate)); a.StatusCode != 200 {
			t.Errorf("%s with the role operate: %d", page, a.StatusCode)
		}
	}
	a := visit(t, base+"/dashboard", cookie(call))
	if strings.Contains(a.text, "/dashboard/hosts") || !strings.Contains(a.text, "read only") {
		t.Errorf("%s", a.text)
	}
	for _, do := range []url.Values{{"do": {"reset"}, "name": {"x"}}, {"do": {"drain"}, "name": {"h1"}}, {"do": {"cancel"}, "id": {"k1"}, "session": {"bob-1"}}} {
		if a := form(t, base+"/dashboard/act", do, cookie(call), sameSite); a.StatusCode != 403 {
			t.Errorf("%v: %d", do, a.StatusCode)
		}
	}
}

// TestThePageOfLogsShowsTheLatestLinesOfAllProcesses has two processes with nothing but a log, one of which writes script.
func TestThePageOfLogsShowsTheLatestLinesOfAllProcesses(t *testing.T) {
	pool := dspextest.Open(t, dspextest.WithMode("mock_adapter"))
	host, dispatcher := logging(t, pool.URL(), "worker-host", "h1"), logging(t, pool.URL(), "dispatcher", "d1")
	host.Info("worker_output", "text", `<script>alert("x")</script>`, "worker", "h1/0")
	dispatcher.Error("broker_error", "job", "k1", "session", "bob")
	for range 150 {
		host.Info("many", "text", strings.Repeat("&", 4096))
	}
	base := serve(t, pool.Client(), gateway.Config{})
	a := visit(t, base+"/dashboard/logs")
	for what, right := range map[string]bool{
		"status 200": a.StatusCode == 200, "at most 100,000 bytes": len(a.text) <= 100_000,
		"no script of a line": !strings.Contains(a.text, "<script>alert"), "escaped text": strings.Contains(a.text, "&amp;&amp;&amp;"),
		"the part that is renewed": strings.Contains(a.text, `id="part"`),
	} {
		if !right {
			t.Errorf("the page must have %s, got status %d, %d bytes: %.3000s", what, a.StatusCode, len(a.text), a.text)
		}
	}
	for query, want := range map[string][2]string{
		"level=warn": {"/dashboard/job?id=k1&amp;session=bob", "&amp;&amp;&amp;"}, "text=ALERT": {"&lt;script&gt;alert", "broker_error"}, "name=d1": {"dispatcher/d1", "h1/0"}, "session=bob": {"broker_error", "h1/0"},
		"level=loud": {"the level must be info, warn or error", "broker_error"},
	} {
		a := visit(t, base+"/dashboard/logs?"+query)
		text := strings.ToLower(a.text)
		if a.StatusCode != 200 {
			t.Errorf("%s: got status %d, want 200", query, a.StatusCode)
		}
		if !strings.Contains(text, want[0]) {
			t.Errorf("%s: the page must have %q, got %s", query, want[0], a.text)
		}
		if strings.Contains(text, want[1]) || strings.Contains(text, `id="part"`) {
			t.Errorf("%s: the page must have neither %q nor a part, got %s", query, want[1], a.text)
		}
	}
	stream, err := http.Get(base + "/dashboard/live?part=logs")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	in := bufio.NewScanner(stream.Body)
	in.Buffer(nil, 1<<20)
	n := 0
	for in.Scan() {
		if n++; n > 60 { // one a second
			t.Fatal("no new line came")
		}
		if strings.Contains(in.Text(), "a new line") {
			return
		}
		if strings.Contains(in.Text(), "many") { // what was there is shown: now something happens
			host.Warn("a new line")
		}
	}
	t.Errorf("nothing new came: %v", in.Err())
}

// logging runs a process that has nothing but a log.
func logging(t *testing.T, broker, process, name string) *slog.Logger {
	t.Helper()
	nc, err := nats.Connect(broker)
	if err != nil {
		t.Fatal(err)
	}
	feed := logfeed.New(process, name)
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- feed.Serve(ctx, nc) }()
	t.Cleanup(func() {
		cancel()
		if err := <-over; err != nil {
			t.Error(err)
		}
		nc.Close()
	})
	for nc.NumSubscriptions() == 0 || nc.Flush() != nil {
		if t.Context().Err() != nil {
			t.Fatal("it does not subscribe")
		}
	}
	return slog.New(feed.Handler(slog.NewTextHandler(io.Discard, nil))) //nolint:sloglint // the discarding one takes no level
}

// TestAJobLeadsToItsTrace: to the address that the operator gave, with nothing but an id in it.
func TestAJobLeadsToItsTrace(t *testing.T) {
	pool := dspextest.Open(t, dspextest.WithMode("mock_adapter"))
	c := pool.Client()
	if _, err := c.Execute(t.Context(), "bob", "predict", dspex.Args{"question": "x"}, dspex.WithJobID("k1"), dspex.WithTraceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")); err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]string{"": "<dd class=\"id\">4bf92f3577b34da6a3ce929d0e0e4736</dd>", "https://traces.example/t/{trace_id}?x=1": `<a href="https://traces.example/t/4bf92f3577b34da6a3ce929d0e0e4736?x=1"`} {
		base := serve(t, c, gateway.Config{TraceURL: url})
		if a := visit(t, base+"/dashboard/job?id=k1&session=bob"); !strings.Contains(a.text, want) {
			t.Errorf("%q: %s", url, a.text)
		}
		if a := visit(t, base+"/v1/jobs/k1?session=bob"); !strings.Contains(a.text, `"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736"`) {
			t.Errorf("%s", a.text)
		}
	}
	for _, wrong := range []string{"https://traces.example/", "javascript:alert({trace_id})", "ftp://x/{trace_id}", "/t/{trace_id}"} {
		if err := (gateway.Config{TraceURL: wrong}).Check(); err == nil || !strings.Contains(err.Error(), "--trace-url must be an address with {trace_id}") {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}

func TestTheDashboardOfATenantHasNothingOfAnother(t *testing.T) {
	path := tokenFile(t)
	acme := bearer(t, path, tokens.Token{Tenant: "acme", Role: tokens.Operate})
	first, second := dspextest.NewFake(t), dspextest.NewFake(t)
	base := serve(t, first.Client(), gateway.Config{Tokens: path, Tenants: map[string]*dspex.Client{"acme": second.Client()}})
	if _, err := first.Client().Execute(t.Context(), "bob", "echo", dspex.Args{"x": 1}, dspex.WithJobID("k1")); err != nil {
		t.Fatal(err)
	}
	if a := visit(t, base+"/dashboard/job?id=k1&session=bob", cookie(acme)); a.StatusCode != 404 {
		t.Errorf("a job of another tenant: %d", a.StatusCode)
	}
	for _, page := range []string{"/hosts", "/breakers", "/logs"} {
		for _, more := range []string{"X-None: 1", "X-Tenant: default"} {
			if a := visit(t, base+"/dashboard"+page, cookie(acme)+"; dspex_tenant=default", more); a.StatusCode != 403 {
				t.Errorf("%s: %d", page, a.StatusCode)
			}
		}
	}
	if a := form(t, base+"/dashboard/act", url.Values{"do": {"drain"}, "name": {"h1"}}, cookie(acme), sameSite); a.StatusCode != 403 {
		t.Errorf("drain by a tenant: %d", a.StatusCode)
	}
	if a := visit(t, base+"/dashboard", cookie(acme)); a.StatusCode != 200 || !strings.Contains(a.text, "tenant acme") {
		t.Errorf("%d %s", a.StatusCode, a.text)
	}
}

func TestFiguresComeAsTheyMove(t *testing.T) {
	pool := dspextest.Open(t, dspextest.WithMode("mock_adapter"))
	c := pool.Client()
	base := serve(t, c, gateway.Config{})
	for _, part := range []string{"overview", "hosts", "breakers", "jobs", "other"} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", base+"/dashboard/live?part="+part, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if response.Header.Get("Content-Type") != "text/event-stream" {
			t.Fatalf("%s: %v", part, response.Header)
		}
		lines := bufio.NewScanner(response.Body)
		lines.Buffer(nil, 1<<20)
		var live struct {
			Text, Path, State map[string]string
			HTML              string
		}
		for lines.Scan() {
			data, ok := strings.CutPrefix(lines.Text(), "data: ")
			if !ok {
				continue
			}
			if err := json.Unmarshal([]byte(data), &live); err != nil {
				t.Fatalf("%s: %v", data, err)
			}
			if live.Text["status"] == "healthy" && (part != "overview" || live.Path["requests-0"] != "") {
				break
			}
		}
		response.Body.Close()
		if live.Text["sentence"] == "" {
			t.Errorf("%s: no sentence: %+v", part, live)
		}
		if live.State["status"] != "good" {
			t.Errorf("%s: got status %q, want good", part, live.State["status"])
		}
		if want := part == "hosts" || part == "breakers" || part == "jobs"; (live.HTML != "") != want {
			t.Errorf("%s: has HTML: got %t, want %t: %s", part, !want, want, live.HTML)
		}
	}
}

func TestAViewerTooManyIsRefused(t *testing.T) {
	fake := dspextest.NewFake(t)
	base := serve(t, fake.Client(), gateway.Config{})
	client := &http.Client{Transport: &http.Transport{}, Timeout: patience}
	defer client.CloseIdleConnections()
	refused := 0
	for range 257 {
		r, err := http.NewRequestWithContext(t.Context(), "GET", base+"/dashboard/live?part=overview", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if response.StatusCode == 429 {
			refused++
		}
	}
	if refused != 1 {
		t.Errorf("%d were refused", refused)
	}
}

func TestTheStacksOfAHungWorkerAreOnItsPage(t *testing.T) {
	python := os.Getenv("DSPEX_TEST_PYTHON")
	if python == "" {
		t.Fatal("set DSPEX_TEST_PYTHON to the Python of `make setup`")
	}
	c := dspextest.Start(t, dspextest.WithPython(python), dspextest.WithModules("../../python/tests/modules", "misbehaving")).Client()
	base := serve(t, c, gateway.Config{})
	until(t, func() bool { // the dashboard follows the attempts
		_, err := c.Execute(t.Context(), "bob", "echo", dspex.Args{"x": 1})
		return err == nil && strings.Contains(visit(t, base+"/dashboard/jobs").text, "bob")
	})
	_, err := c.ExecuteAnonymous(t.Context(), "block_the_loop", nil, dspex.WithJobID("stuck"), dspex.WithMaxRetries(0))
	var hung *dspex.Error
	if !errors.As(err, &hung) || hung.Code != "worker_hung" {
		t.Fatalf("%v", err)
	}
	var page answered
	until(t, func() bool {
		page = visit(t, base+"/dashboard/worker?name="+url.QueryEscape(hung.Worker))
		return strings.Contains(page.text, "stuck")
	})
	for _, text := range []string{"block_the_loop", "misbehaving.py", "health_check worker_hung"} {
		if !strings.Contains(page.text, text) {
			t.Errorf("%q is missing: %s", text, page.text)
		}
	}
	if hosts := visit(t, base+"/dashboard/hosts"); !strings.Contains(hosts.text, `href="/dashboard/worker?name=`) {
		t.Error("no worker leads to its page")
	}
}

// until looks again and again until it holds.
func until(t *testing.T, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); !holds(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("it did not come about")
		}
	}
}
