package lm

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/dspex/dspex/internal/wire"
)

// outsider makes a registry whose keys stay outside, with one profile at that address, and returns what its worker receives.
func outsider(t *testing.T, p Profile) (*Registry, map[string]any) {
	t.Helper()
	r, err := New(File{Default: "m", Profiles: map[string]Profile{"m": p}}, func(string) string { return "s3cret" })
	if err == nil {
		err = r.Outside()
	}
	if err != nil {
		t.Fatal(err)
	}
	m, bad := r.Default()
	if bad != nil {
		t.Fatal(bad)
	}
	text, err := wire.AppendJSON(nil, m.Profile)
	if err != nil || strings.Contains(string(text), "s3cret") {
		t.Fatalf("the worker is told %s, %v", text, err)
	}
	var found map[string]any
	if err := json.Unmarshal(text, &found); err != nil {
		t.Fatal(err)
	}
	return r, found
}

func TestOnlyWhatLiesBelowAProfilesAddressIsReached(t *testing.T) {
	r, told := outsider(t, Profile{Provider: "openai_compatible", Model: "m", APIBase: "http://u:p@model:8000/v1/", APIKey: "env:K"})
	base := told["api_base"].(string)
	for asked, want := range map[string]string{
		base + "/chat/completions":       "http://model:8000/v1/chat/completions",
		base + "/a%20b?x=1&key=mine":     "http://model:8000/v1/a%20b?x=1",
		base + "/":                       "http://model:8000/v1/",
		base + "/../admin":               "",
		base + "/a/%2e%2e/%2E%2E/b":      "",
		base + "/a%2f..%2f..%2fb":        "",
		base + `/..\b`:                   "",
		base + "x/chat":                  "",
		"http://model.invalid/":          "",
		"http://model.invalid/none/chat": "",
		"http://model:8000/v1/chat":      "",
	} {
		u, err := url.Parse(asked)
		if err != nil {
			t.Fatal(err)
		}
		_, to, ok := r.target(u)
		if got := ""; ok != (want != "") || ok && to.String() != want {
			if to != nil {
				got = to.String()
			}
			t.Errorf("%s: got %q, %v; want %q", asked, got, ok, want)
		}
	}
}

func TestKeysGoWhereTheProviderWantsThemAndWorkersSendNone(t *testing.T) {
	for provider, want := range map[string]string{"openai": "Authorization: Bearer s3cret", "anthropic": "X-Api-Key: s3cret", "gemini": "X-Goog-Api-Key: s3cret", "ollama": ""} {
		r, told := outsider(t, Profile{Provider: provider, Model: "m"})
		u, _ := url.Parse(told["api_base"].(string) + "/x")
		e, to, ok := r.target(u)
		h := http.Header{}
		for _, name := range keyHeaders {
			h.Set(name, "mine")
		}
		e.sign(h)
		var b strings.Builder
		_ = h.Write(&b)
		if got := strings.TrimSpace(b.String()); !ok || got != want || to.Host == "" {
			t.Errorf("%s: got %q for %v, want %q", provider, got, to, want)
		}
	}
}

// pipes is a listener of connections in memory.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if c, ok := <-p; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{} }

func TestAnswersStreamAndBrokenOffCallsEndAtTheModel(t *testing.T) {
	broken := make(chan struct{})
	model := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set(Unreachable, "1")
		_, _ = io.WriteString(w, "first\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		close(broken)
	}))
	defer model.Close()
	r, told := outsider(t, Profile{Provider: "openai_compatible", Model: "m", APIBase: model.URL + "/v1", APIKey: "env:K"})
	ctx, stop := context.WithCancel(t.Context())
	l, ended := make(pipes), make(chan error)
	go func() { ended <- r.Serve(ctx, l, slog.New(slog.DiscardHandler)) }()
	near, far := net.Pipe()
	l <- far
	request, err := http.NewRequest(http.MethodPost, told["api_base"].(string)+"/chat", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = request.Write(near) }()
	answer, err := http.ReadResponse(bufio.NewReader(near), request)
	if err != nil || answer.StatusCode != http.StatusOK || answer.Header.Get(Unreachable) != "" {
		t.Fatalf("got %+v, %v", answer, err)
	}
	if line, err := bufio.NewReader(answer.Body).ReadString('\n'); err != nil || line != "first\n" {
		t.Errorf("got %q, %v while the model goes on", line, err)
	}
	near.Close()
	<-broken
	stop()
	close(l)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestAModelThatCannotBeReachedIsToldAsSuch(t *testing.T) {
	model := httptest.NewServer(http.NotFoundHandler())
	address := model.URL
	model.Close()
	r, told := outsider(t, Profile{Provider: "openai_compatible", Model: "m", APIBase: address, APIKey: "env:K"})
	w := httptest.NewRecorder()
	asked := httptest.NewRequest(http.MethodPost, told["api_base"].(string)+"/chat", nil)
	r.handler(http.DefaultTransport, slog.New(slog.DiscardHandler)).ServeHTTP(w, asked)
	if w.Code != http.StatusBadGateway || w.Header().Get(Unreachable) == "" {
		t.Errorf("got status %d, %v", w.Code, w.Header())
	}
	w = httptest.NewRecorder()
	asked.Method = http.MethodGet
	r.handler(http.DefaultTransport, slog.New(slog.DiscardHandler)).ServeHTTP(w, asked)
	if w.Code != http.StatusForbidden {
		t.Errorf("GET: got status %d", w.Code)
	}
}

func TestProfilesThatNeedANetworkInTheWorkerAreRefused(t *testing.T) {
	r, err := New(File{Profiles: map[string]Profile{"l": {Provider: "x", Model: "m", Engine: Litellm}}}, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Outside(); err == nil || !strings.Contains(err.Error(), `LM profile "l": engine litellm`) {
		t.Errorf("got %v", err)
	}
}
