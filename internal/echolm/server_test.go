package echolm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
)

const hello = `{"model": "gpt-x", "messages": [{"role": "user", "content": "hello"}]}`

// start runs a server on a real socket until the test ends.
func start(t *testing.T, config Config) *Server {
	t.Helper()
	s, stop := startUntil(t, config)
	t.Cleanup(stop)
	return s
}

// startUntil runs a server on a real socket until stop is called, which waits for the end of Run.
func startUntil(t *testing.T, config Config) (s *Server, stop func()) {
	t.Helper()
	s, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return s, func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			t.Error("Run:", err)
		}
	}
}

// post sends a body and returns the response with its body read; err is what broke either.
func post(url, body string) (*http.Response, string, error) {
	r, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		return nil, "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return r, string(b), err
}

func root(s *Server) string { return strings.TrimSuffix(s.URL(), "/v1") }

func TestEveryAnswerSaysThatItIsAnEcho(t *testing.T) {
	s := start(t, Config{})
	for path, want := range map[string]string{
		"/chat/completions": `"message":{"role":"assistant","content":"echo: hello"}`,
		"/responses":        `{"type":"output_text","annotations":[],"text":"echo: hello"}`,
		"/completions":      `"text":"echo: hello"`,
	} {
		body := map[string]string{"/chat/completions": hello, "/responses": `{"input": "hello"}`, "/completions": `{"prompt": "hello"}`}[path]
		r, got, err := post(s.URL()+path, body)
		switch {
		case err != nil:
			t.Errorf("err must be nil, got %v; %s: %v, %v, %s", err, path, r, err, got)
		case r.StatusCode != 200:
			t.Errorf("r.StatusCode must be 200, got %v; %s: %v, %v, %s", r.StatusCode, path, r, err, got)
		case r.Header.Get("X-Dspex-Echo") != "1":
			t.Errorf(`r.Header.Get("X-Dspex-Echo") must be "1", got %v; %s: %v, %v, %s`, r.Header.Get("X-Dspex-Echo"), path, r, err, got)
		case !json.Valid([]byte(got)):
			t.Errorf("must hold: json.Valid([]byte(got)); %s: %v, %v, %s", path, r, err, got)
		}
		for _, part := range []string{want, `"model":"echo"`, `"system_fingerprint":"dspex-echo"`} {
			if !strings.Contains(got, part) {
				t.Errorf("%s: no %s in %s", path, part, got)
			}
		}
	}
	switch got := s.Stats(); {
	case got.Requests != 3:
		t.Errorf("got.Requests must be 3, got %v; stats %+v", got.Requests, got)
	case got.Answered != 3:
		t.Errorf("got.Answered must be 3, got %v; stats %+v", got.Answered, got)
	case got.InFlight != 0:
		t.Errorf("got.InFlight must be 0, got %v; stats %+v", got.InFlight, got)
	case got.Peak < 1:
		t.Errorf("got.Peak must be >= 1, got %v; stats %+v", got.Peak, got)
	}
}

func TestUsageIsCountedFromTheTexts(t *testing.T) {
	s := start(t, Config{})
	_, got, _ := post(s.URL()+"/chat/completions", hello)
	// "hello" is 5 bytes: two fours, and one for the message; "echo: hello" goes out as 4 and 7 characters.
	if want := `"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}`; !strings.Contains(got, want) {
		t.Errorf("no %s in %s", want, got)
	}
	_, got, _ = post(s.URL()+"/chat/completions", strings.TrimSuffix(hello, "}")+`, "n": 3}`)
	if strings.Count(got, "echo: hello") != 3 || !strings.Contains(got, `"completion_tokens":6,`) {
		t.Errorf("three choices: %s", got)
	}
}

// events returns the data of a stream's events.
func events(t *testing.T, stream string) []string {
	t.Helper()
	if !strings.HasSuffix(stream, "\n\n") {
		t.Errorf("the stream does not end with an empty line: %q", stream)
	}
	var out []string
	for event := range strings.SplitSeq(strings.TrimSuffix(stream, "\n\n"), "\n\n") {
		_, data, ok := strings.Cut(event, "data: ")
		if !ok || strings.Contains(data, "\n") {
			t.Errorf("no event: %q", event)
		}
		out = append(out, data)
	}
	return out
}

func TestAStreamIsTheAnswerInSmallPieces(t *testing.T) {
	s := start(t, Config{})
	body := strings.TrimSuffix(hello, "}") + `, "stream": true, "stream_options": {"include_usage": true}}`
	for _, api := range []string{s.URL(), s.ScriptURL(Script{TokenDelay: 1_000_000})} {
		r, got, err := post(api+"/chat/completions", body)
		if err != nil || r.Header.Get("Content-Type") != "text/event-stream" || r.Header.Get("X-Dspex-Echo") != "1" {
			t.Fatal(r, err)
		}
		all := events(t, got)
		var content strings.Builder
		for _, data := range all[:len(all)-1] {
			var chunk struct {
				Model   string
				Choices []struct {
					Delta        struct{ Content string }
					FinishReason string `json:"finish_reason"`
				}
			}
			if err := json.Unmarshal([]byte(data), &chunk); err != nil || chunk.Model != "echo" {
				t.Errorf("%s: %v", data, err)
			}
			if len(chunk.Choices) == 1 {
				content.WriteString(chunk.Choices[0].Delta.Content)
			}
		}
		n := len(all)
		switch {
		case content.String() != "echo: hello":
			t.Errorf("content.String() must be \"echo: hello\", got %v; content %q of %d events:\n%s", content.String(), content.String(), n, got)
		case n != 6:
			t.Errorf("n must be 6, got %v; content %q of %d events:\n%s", n, content.String(), n, got)
		case all[n-1] != "[DONE]":
			t.Errorf("all[n-1] must be \"[DONE]\", got %v; content %q of %d events:\n%s", all[n-1], content.String(), n, got)
		case !strings.Contains(all[n-2], `"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}`):
			t.Errorf("must hold: strings.Contains(all[n-2], `\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2,\"total_tokens\":5}`); content %q of %d events:\n%s", content.String(), n, got)
		case !strings.Contains(all[n-3], `"delta":{},"finish_reason":"stop"`):
			t.Errorf("must hold: strings.Contains(all[n-3], `\"delta\":{},\"finish_reason\":\"stop\"`); content %q of %d events:\n%s", content.String(), n, got)
		}
	}
}

func TestUsageIsStreamedOnRequestOnly(t *testing.T) {
	s := start(t, Config{})
	body := strings.TrimSuffix(hello, "}") + `, "stream": true}`
	if _, got, err := post(s.URL()+"/chat/completions", body); err != nil || strings.Contains(got, "usage") {
		t.Errorf("%v: %s", err, got)
	}
}

func TestDeltasSplitBetweenCharacters(t *testing.T) {
	in := strings.Repeat("añ𝄞", 30)
	var out strings.Builder
	for i, rest := 0, in; rest != ""; i++ {
		var piece string
		piece, rest = delta(rest, i)
		if n := len([]rune(piece)); rest != "" && (n < 4 || n > 8) {
			t.Errorf("delta %d has %d characters", i, n)
		}
		out.WriteString(piece)
	}
	if out.String() != in {
		t.Errorf("got %q", out.String())
	}
}

func TestCutsBreakTheConnectionWhereTheScriptSays(t *testing.T) {
	s := start(t, Config{})
	stream := strings.TrimSuffix(hello, "}") + `, "stream": true}`
	for _, body := range []string{hello, stream} {
		if _, _, err := post(root(s)+"/s/cut=accept/v1/chat/completions", body); err == nil {
			t.Error("cut=accept: got a response")
		}
		r, got, err := post(root(s)+"/s/cut=head/v1/chat/completions", body)
		switch {
		case !errors.Is(err, io.ErrUnexpectedEOF):
			t.Errorf("must hold: errors.Is(err, io.ErrUnexpectedEOF); cut=head: %v, %q, %v", r, got, err)
		case r == nil:
			t.Errorf("r must not be nil; cut=head: %v, %q, %v", r, got, err)
		case r.StatusCode != 200:
			t.Errorf("r.StatusCode must be 200, got %v; cut=head: %v, %q, %v", r.StatusCode, r, got, err)
		case got != "":
			t.Errorf(`got must be "", got %v; cut=head: %v, %q, %v`, got, r, got, err)
		}
		r, got, err = post(root(s)+"/s/cut=body/v1/chat/completions", body)
		switch {
		case !errors.Is(err, io.ErrUnexpectedEOF):
			t.Errorf("must hold: errors.Is(err, io.ErrUnexpectedEOF); cut=body: %v, %q, %v", r, got, err)
		case r == nil:
			t.Errorf("r must not be nil; cut=body: %v, %q, %v", r, got, err)
		case !strings.Contains(got, "echo"):
			t.Errorf(`must hold: strings.Contains(got, "echo"); cut=body: %v, %q, %v`, r, got, err)
		case strings.Contains(got, "[DONE]"):
			t.Errorf(`must not hold: strings.Contains(got, "[DONE]"); cut=body: %v, %q, %v`, r, got, err)
		case json.Valid([]byte(got)):
			t.Errorf("must not hold: json.Valid([]byte(got)); cut=body: %v, %q, %v", r, got, err)
		}
	}
	if got := s.Stats(); got.Faults != 6 || got.Answered != 0 || got.Left != 0 {
		t.Errorf("stats %+v", got)
	}
}

func TestErrorsByScriptHaveTheFormOfAProvider(t *testing.T) {
	s := start(t, Config{})
	r, got, err := post(root(s)+"/s/status=429,ra=7,code=slow_down/v1/chat/completions", hello)
	switch want := `{"error":{"message":"echo: status 429 by script","type":"invalid_request_error","code":"slow_down"}}`; {
	case err != nil:
		t.Errorf("err must be nil, got %v; %v, %s, %v", err, r, got, err)
	case r.StatusCode != 429:
		t.Errorf("r.StatusCode must be 429, got %v; %v, %s, %v", r.StatusCode, r, got, err)
	case r.Header.Get("Retry-After") != "7":
		t.Errorf(`r.Header.Get("Retry-After") must be "7", got %v; %v, %s, %v`, r.Header.Get("Retry-After"), r, got, err)
	case got != want:
		t.Errorf("got %v, want %v; %v, %s, %v", got, want, r, got, err)
	}
	if r, got, err = post(root(s)+"/s/bad=1/v1/chat/completions", hello); err != nil || r.StatusCode != 200 || json.Valid([]byte(got)) {
		t.Errorf("bad: %v, %s, %v", r, got, err)
	}
	if _, got, _ = post(root(s)+"/s/fin=length,nousage=1/v1/chat/completions", hello); !strings.Contains(got, `"finish_reason":"length"`) || strings.Contains(got, "usage") {
		t.Errorf("fin, nousage: %s", got)
	}
}

func TestTimesCountsEachPathAlone(t *testing.T) {
	s := start(t, Config{Script: Script{Status: 500, Times: 1}})
	status := func(api string) int {
		r, _, err := post(api+"/chat/completions", hello)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode
	}
	a, b := root(s)+"/s/status=503,times=2,name=a/v1", root(s)+"/s/status=503,times=2,name=b/v1"
	got := fmt.Sprint(status(a), status(a), status(b), status(a), status(b), status(b), status(s.URL()), status(s.URL()))
	if want := "503 503 503 200 503 200 500 200"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if err := s.SetScript(Script{Status: 500, Times: 1}); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(status(s.URL()), status(s.URL())); got != "500 200" {
		t.Errorf("a new default script: %s", got)
	}
}

func TestAScriptOfThePathReplacesTheDefault(t *testing.T) {
	s := start(t, Config{Script: Script{Status: 500}})
	if r, _, err := post(s.ScriptURL(Script{Finish: "length"})+"/chat/completions", hello); err != nil || r.StatusCode != 200 {
		t.Errorf("%v, %v", r, err)
	}
	if r, _, err := post(root(s)+"/s//v1/chat/completions", hello); err != nil || r.StatusCode != 200 {
		t.Errorf("the empty script: %v, %v", r, err)
	}
}

func TestWrongRequestsAreRefusedWithWhatWasExpected(t *testing.T) {
	s := start(t, Config{})
	for _, c := range []struct {
		method, path, body string
		status             int
		message            string
	}{
		{"POST", "/v1/chat/completions", "{", 400, "must be JSON"},
		{"POST", "/v1/chat/completions", "{}", 400, "messages must be a list"},
		{"POST", "/v1/completions", "{}", 400, "prompt must be a text"},
		{"POST", "/v1/responses", "{}", 400, "input must be a list"},
		{"POST", "/s/lat=5,magic=1/v1/chat/completions", hello, 400, `unknown key \"magic\": expected one of lat,`},
		{"GET", "/s/magic=1/v1/models", "", 400, `unknown key \"magic\"`},
		{"GET", "/v1/chat/completions", "", 405, "expected method POST"},
		{"POST", "/v1/models", "", 405, "expected method GET"},
		{"POST", "/v1/embeddings", "{}", 404, "expected /v1/chat/completions"},
		{"POST", "/s/lat=5/control", "{}", 404, "expected /s/SCRIPT/v1/chat/completions"},
		{"POST", "/v1/chat/completions", strings.Repeat(" ", maxBody+1), 413, "more than 8388608 bytes"},
		{"GET", "/last?n=101", "", 400, "from 1 to 100"},
	} {
		r, err := http.NewRequest(c.method, root(s)+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		got, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(got.Body)
		got.Body.Close()
		if got.StatusCode != c.status || !strings.Contains(string(body), c.message) || !json.Valid(body) {
			t.Errorf("%s %s: %d %s; want %d with %q", c.method, c.path, got.StatusCode, body, c.status, c.message)
		}
	}
	if got := s.Stats(); got.Requests != 0 || got.Refused != 12 {
		t.Errorf("stats %+v", got)
	}
}

func TestModelsAreListed(t *testing.T) {
	s := start(t, Config{})
	for _, path := range []string{"/v1/models", "/models", "/s/lat=5/v1/models", "/v1/models/echo"} {
		r, err := http.Get(root(s) + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(r.Body)
		r.Body.Close()
		if !json.Valid(body) || !strings.Contains(string(body), `"id":"echo"`) {
			t.Errorf("%s: %s", path, body)
		}
	}
}

func TestOnRequestIsToldThePromptAndNoLogTheKey(t *testing.T) {
	var log bytes.Buffer
	told := make(chan Request, 1)
	s, stop := startUntil(t, Config{
		Log:       slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		OnRequest: func(r Request) { told <- r },
	})
	r, err := http.NewRequest("POST", root(s)+"/s/fin=length/v1/chat/completions", strings.NewReader(hello))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer very-secret")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	stop()
	got := <-told
	switch {
	case got.Number != 1:
		t.Errorf("got.Number must be 1, got %v; told %+v", got.Number, got)
	case got.Endpoint != "chat":
		t.Errorf(`got.Endpoint must be "chat", got %v; told %+v`, got.Endpoint, got)
	case got.Model != "gpt-x":
		t.Errorf(`got.Model must be "gpt-x", got %v; told %+v`, got.Model, got)
	case got.Turn != 1:
		t.Errorf("got.Turn must be 1, got %v; told %+v", got.Turn, got)
	case got.Script.Finish != "length":
		t.Errorf(`got.Script.Finish must be "length", got %v; told %+v`, got.Script.Finish, got)
	case got.Key != "very-secret":
		t.Errorf(`got.Key must be "very-secret", got %v; told %+v`, got.Key, got)
	case got.Messages[0] != (Message{"user", "hello"}):
		t.Errorf(`got.Messages[0] must be (Message{"user", "hello"}), got %v; told %+v`, got.Messages[0], got)
	}
	shown, _ := json.Marshal(s.Last(1))
	if strings.Contains(log.String()+string(shown), "very-secret") {
		t.Errorf("the key shows:\n%s\n%s", log.String(), shown)
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	if _, err := New(Config{Script: Script{RetryAfter: 5}}); err == nil || !strings.Contains(err.Error(), "add status") {
		t.Errorf("script: %v", err)
	}
	if _, err := New(Config{Addr: "nowhere"}); err == nil || !strings.Contains(err.Error(), "HOST:PORT") {
		t.Errorf("address: %v", err)
	}
	s := start(t, Config{})
	host, _, err := net.SplitHostPort(strings.TrimPrefix(root(s), "http://"))
	if err != nil || host != "127.0.0.1" {
		t.Errorf("the default listens on %s", s.URL())
	}
}
