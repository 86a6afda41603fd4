package echolm

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// call sends the handler a request as if from that address.
func call(s *Server, remote, host, method, path, kind, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.RemoteAddr, r.Host = remote, host
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func TestControlTakesScriptsFromThisMachineAlone(t *testing.T) {
	const local, status = "127.0.0.1:5", `{"script": "status=503"}`
	for _, c := range []struct {
		name, remote, host, kind, body string
		status                         int
	}{
		{"local", local, "127.0.0.1:80", "application/json", status, 200},
		{"localhost", local, "localhost", "application/json; charset=utf-8", status, 200},
		{"ipv6", "[::1]:5", "[::1]:80", "application/json", status, 200},
		{"from elsewhere", "192.0.2.1:5", "127.0.0.1", "application/json", status, 403},
		{"led here by a page", local, "evil.example", "application/json", status, 403},
		{"a form of a page", local, "127.0.0.1", "text/plain", status, 400},
		{"no body", local, "127.0.0.1", "application/json", "", 400},
		{"no script", local, "127.0.0.1", "application/json", "{}", 400},
		{"another key", local, "127.0.0.1", "application/json", `{"script": "", "lat": 5}`, 400},
		{"more behind", local, "127.0.0.1", "application/json", status + "{}", 400},
		{"unknown script key", local, "127.0.0.1", "application/json", `{"script": "lag=5"}`, 400},
		{"large", local, "127.0.0.1", "application/json", `{"script": "` + strings.Repeat("x", 5000) + `"}`, 400},
	} {
		s := newServer(Config{})
		w := call(s, c.remote, c.host, "POST", "/control", c.kind, c.body)
		if w.Code != c.status || (s.script.Load().text == "status=503") != (c.status == 200) {
			t.Errorf("%s: %d %s, script %q", c.name, w.Code, w.Body, s.script.Load().text)
		}
	}
}

func TestControlShowsScriptAndStats(t *testing.T) {
	s := newServer(Config{Script: Script{Status: 503}})
	call(s, "127.0.0.1:5", "localhost", "POST", "/v1/chat/completions", "", hello)
	w := call(s, "127.0.0.1:5", "localhost", "GET", "/control", "", "")
	var got struct {
		Script string
		Stats  Stats
	}
	switch err := json.Unmarshal(w.Body.Bytes(), &got); {
	case err != nil:
		t.Errorf("err must be nil, got %v; %v: %s", err, err, w.Body)
	case got.Script != "status=503":
		t.Errorf(`got.Script must be "status=503", got %v; %v: %s`, got.Script, err, w.Body)
	case got.Stats.Requests != 1:
		t.Errorf("got.Stats.Requests must be 1, got %v; %v: %s", got.Stats.Requests, err, w.Body)
	case got.Stats.Faults != 1:
		t.Errorf("got.Stats.Faults must be 1, got %v; %v: %s", got.Stats.Faults, err, w.Body)
	}
	if w := call(s, "127.0.0.1:5", "localhost", "PUT", "/control", "", ""); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("PUT: %d", w.Code)
	}
}

func TestLastShowsTheLatestPromptsWithTheirMessages(t *testing.T) {
	s := newServer(Config{})
	for i := range ringSize + 20 {
		call(s, "127.0.0.1:5", "localhost", "POST", "/v1/chat/completions", "", ask("", "first", "one", fmt.Sprint("question ", i)))
	}
	var got struct{ Prompts []Prompt }
	w := call(s, "127.0.0.1:5", "localhost", "GET", "/last", "", "")
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || len(got.Prompts) != ringSize {
		t.Fatalf("%v, %d prompts", err, len(got.Prompts))
	}
	p := got.Prompts[0]
	switch {
	case p.Number != ringSize+20:
		t.Errorf("p.Number: got %v, want %v; newest: %+v", p.Number, ringSize+20, p)
	case p.Turn != 2:
		t.Errorf("p.Turn must be 2, got %v; newest: %+v", p.Turn, p)
	case p.Messages[3].Content != "question 119":
		t.Errorf(`p.Messages[3].Content must be "question 119", got %v; newest: %+v`, p.Messages[3].Content, p)
	case p.Answer != "echo (turn 2): question 119":
		t.Errorf(`p.Answer must be "echo (turn 2): question 119", got %v; newest: %+v`, p.Answer, p)
	case p.Model != "echo":
		t.Errorf(`p.Model must be "echo", got %v; newest: %+v`, p.Model, p)
	}
	if got.Prompts[ringSize-1].Number != 21 {
		t.Errorf("oldest: %+v", got.Prompts[ringSize-1])
	}
	if w := call(s, "192.0.2.1:5", "localhost", "GET", "/last", "", ""); w.Code != http.StatusForbidden {
		t.Errorf("from elsewhere: %d", w.Code)
	}
}

func TestALargePromptKeepsItsLatestMessages(t *testing.T) {
	s := newServer(Config{})
	large := strings.Repeat("x", maxKept-100)
	call(s, "127.0.0.1:5", "localhost", "POST", "/v1/chat/completions", "", ask("system", large, "answer", "the question"))
	switch p := s.Last(1)[0]; {
	case p.LeftOut != 2:
		t.Errorf("p.LeftOut must be 2, got %v; left out %d, kept %d, shortened %v", p.LeftOut, p.LeftOut, len(p.Messages), p.Shortened)
	case len(p.Messages) != 2:
		t.Errorf("len(p.Messages) must be 2, got %v; left out %d, kept %d, shortened %v", len(p.Messages), p.LeftOut, len(p.Messages), p.Shortened)
	case p.Messages[1].Content != "the question":
		t.Errorf(`p.Messages[1].Content must be "the question", got %v; left out %d, kept %d, shortened %v`, p.Messages[1].Content, p.LeftOut, len(p.Messages), p.Shortened)
	case p.Shortened:
		t.Errorf("must not hold: p.Shortened; left out %d, kept %d, shortened %v", p.LeftOut, len(p.Messages), p.Shortened)
	}
	call(s, "127.0.0.1:5", "localhost", "POST", "/v1/chat/completions", "", ask("system", large+large))
	switch p := s.Last(1)[0]; {
	case p.LeftOut != 1:
		t.Errorf("p.LeftOut must be 1, got %v; left out %d, kept %d, shortened %v", p.LeftOut, p.LeftOut, len(p.Messages), p.Shortened)
	case len(p.Messages) != 1:
		t.Errorf("len(p.Messages) must be 1, got %v; left out %d, kept %d, shortened %v", len(p.Messages), p.LeftOut, len(p.Messages), p.Shortened)
	case len(p.Messages[0].Content) != maxKept:
		t.Errorf("len(p.Messages[0].Content): got %v, want %v; left out %d, kept %d, shortened %v", len(p.Messages[0].Content), maxKept, p.LeftOut, len(p.Messages), p.Shortened)
	case !p.Shortened:
		t.Errorf("must hold: p.Shortened; left out %d, kept %d, shortened %v", p.LeftOut, len(p.Messages), p.Shortened)
	}
}
