package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/dspex/dspex"
)

// canary is the key in this file: it may reach the provider, and nothing else.
const canary = "sk-canary-4f1c9e7a2b"

// teamKey is a key that no profile has.
const teamKey = canary + "-of-a-team"

// provider answers on the endpoints of OpenAI, Anthropic and Gemini, and notes who came with which key.
type provider struct {
	*httptest.Server
	mu     sync.Mutex
	calls  []call
	refuse bool // every call, repeating its key in the error, as providers do
}

type call struct{ path, model, key string }

func newProvider(t *testing.T) *provider {
	p := &provider{}
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var ask struct{ Model string }
	_ = json.Unmarshal(body, &ask)
	h := r.Header
	key := strings.TrimPrefix(h.Get("Authorization"), "Bearer ") + h.Get("X-Api-Key") + h.Get("X-Goog-Api-Key")
	p.mu.Lock()
	p.calls = append(p.calls, call{r.URL.Path, ask.Model, key})
	refuse := p.refuse
	p.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if refuse {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintf(w, `{"error": {"message": "Incorrect API key provided: %s", "type": "invalid_request_error", "code": "invalid_api_key"}}`, key)
		return
	}
	text := "[[ ## answer ## ]]\nfrom " + r.URL.Path + "\n\n[[ ## completed ## ]]"
	switch {
	case strings.HasSuffix(r.URL.Path, "/messages"):
		_ = json.NewEncoder(w).Encode(map[string]any{"id": "m", "type": "message", "role": "assistant", "model": ask.Model, "stop_reason": "end_turn",
			"content": []any{map[string]any{"type": "text", "text": text}}, "usage": map[string]any{"input_tokens": 3, "output_tokens": 4}})
	case strings.Contains(r.URL.Path, ":generateContent"):
		_ = json.NewEncoder(w).Encode(map[string]any{"usageMetadata": map[string]any{"promptTokenCount": 3, "candidatesTokenCount": 4, "totalTokenCount": 7},
			"candidates": []any{map[string]any{"finishReason": "STOP", "content": map[string]any{"role": "model", "parts": []any{map[string]any{"text": text}}}}}})
	default:
		_ = json.NewEncoder(w).Encode(map[string]any{"id": "c", "model": ask.Model, "usage": map[string]any{"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
			"choices": []any{map[string]any{"index": 0, "finish_reason": "stop", "message": map[string]any{"role": "assistant", "content": text}}}})
	}
}

// last is the latest call.
func (p *provider) last(t *testing.T) call {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.calls) == 0 {
		t.Fatal("the provider was never called")
	}
	return p.calls[len(p.calls)-1]
}

func (p *provider) setRefuse(refuse bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = refuse
}

// profiles are one for each provider that the product supports, and what the provider must see of it.
func profiles(base, keyFile string) (file map[string]any, want map[string]call) {
	key := func(provider, model, reference string) map[string]any {
		p := map[string]any{"provider": provider, "model": model, "api_base": base + "/v1"}
		if reference != "" {
			p["api_key"] = reference
		}
		return p
	}
	return map[string]any{"default": "openai", "profiles": map[string]any{
			"openai": key("openai", "gpt-4o-mini", "env:CANARY"), "anthropic": key("anthropic", "claude-sonnet-4-5", "file:"+keyFile), "gemini": key("gemini", "gemini-1.5-flash", ""),
			"openrouter": key("openrouter", "meta-llama/llama-3.1-8b:free", "env:CANARY"), "ollama": key("ollama", "llama3:8b", ""),
			"vllm": key("vllm", "meta-llama/Llama-3-8B", "env:CANARY"), "other": key("openai_compatible", "org/model", ""),
		}}, map[string]call{
			"openai": {"/v1/chat/completions", "gpt-4o-mini", canary}, "anthropic": {"/v1/messages", "claude-sonnet-4-5", canary}, "gemini": {"/v1/models/gemini-1.5-flash:generateContent", "", canary},
			"openrouter": {"/v1/chat/completions", "meta-llama/llama-3.1-8b:free", canary}, "ollama": {"/v1/chat/completions", "llama3:8b", "ollama"}, // the last two: the error of DSPy's client without a key
			"vllm": {"/v1/chat/completions", "meta-llama/Llama-3-8B", canary}, "other": {"/v1/chat/completions", "org/model", "none"},
		}
}

// withProviders starts a dspex dev of its own with a profile for every provider.
func withProviders(t *testing.T, more ...string) (*provider, *dev, string, map[string]call) {
	t.Helper()
	dir := t.TempDir()
	p := newProvider(t)
	keyFile := filepath.Join(dir, "key")
	file, want := profiles(p.URL, keyFile)
	text, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	for path, content := range map[string]string{keyFile: canary + "\n", filepath.Join(dir, "profiles.json"): string(text)} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	data := filepath.Join(dir, "data")
	d, err := startDev([]string{"CANARY=" + canary, "GEMINI_API_KEY=" + canary, "TEAM_KEY=" + teamKey, "OTHER_KEY=other"}, dir, append([]string{"--lm", "profiles.json", "--dir", data, "--verbose"}, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Stop)
	return p, d, data, want
}

func TestEveryProviderIsCalledWithItsKeyWhichGoesNowhereElse(t *testing.T) {
	p, d, data, want := withProviders(t)
	ctx, c := connectTo(t, d.url)
	var said bytes.Buffer // every reply and every error
	hear := func(r dspex.Reply, err error) {
		fmt.Fprintf(&said, "%s %v\n", r.Raw, err)
		if e, ok := errors.AsType[*dspex.Error](err); ok {
			fmt.Fprintf(&said, "%+v\n", *e)
		}
	}
	for name, seen := range want {
		r, err := c.Execute(ctx, "lm_1", "predict", dspex.Args{"question": "hello"}, dspex.WithLM(name))
		if hear(r, err); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := p.last(t); got != seen {
			t.Errorf("%s: the provider saw %+v, want %+v", name, got, seen)
		}
		for model := range r.Usage {
			if !strings.Contains(model, "/") {
				t.Errorf("%s: usage of %q", name, model)
			}
		}
		if r.Engine != "dspy 3.4.1" || len(r.Usage) != 1 {
			t.Errorf("%s: %s", name, r.Raw)
		}
	}
	p.setRefuse(true)
	for name := range want {
		r, err := c.Execute(ctx, "lm_1", "predict", dspex.Args{"question": "hello"}, dspex.WithLM(name))
		if hear(r, err); !errors.Is(err, dspex.ErrPython) || strings.Contains(fmt.Sprint(err), canary) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A call that puts the key itself into the request is refused before it is stored.
	for _, command := range []string{"set_lm", "configure_lm"} {
		r, err := c.Execute(ctx, "lm_1", command, dspex.Args{"model": "openai", "api_key": canary})
		var e *dspex.Error
		if hear(r, err); !errors.As(err, &e) || e.Code != "secret_in_request" {
			t.Errorf("%s: %v", command, err)
		}
	}
	r, err := c.Execute(ctx, "lm_1", "set_lm", dspex.Args{"model": "openai", "api_key": "env:CANARY"})
	hear(r, err)
	r, err = c.Execute(ctx, "lm_1", "predict", dspex.Args{"question": "hello"})
	if hear(r, err); err == nil {
		t.Error("the provider refuses, and the predict succeeded")
	}
	if strings.Contains(said.String(), canary) {
		t.Errorf("a reply or an error holds the key:\n%s", said.String())
	}
	secretive(t, d, data)
}

func TestAKeyThatTheOperatorAllowsIsASessionsOwn(t *testing.T) {
	p, d, data, _ := withProviders(t, "--allow-key-refs", "TEAM_KEY")
	ctx, c := connectTo(t, d.url)
	uses := func(session, key string) {
		t.Helper()
		if _, err := c.Execute(ctx, session, "predict", dspex.Args{"question": "hello"}); err != nil || p.last(t).key != key {
			t.Errorf("%s was called with %q (%v)", session, p.last(t).key, err)
		}
	}
	if lm, err := c.SetLM(ctx, "openai", dspex.ForSession("team"), dspex.WithAPIKey("env:TEAM_KEY"), dspex.WithoutTemperature()); err != nil || lm.Provider != "openai" || lm.Temperature != nil {
		t.Fatalf("%+v %v", lm, err)
	}
	uses("team", teamKey)
	uses("others", canary)
	for killed := map[string]bool{}; len(killed) < 2; { // whoever comes next has the choice from the record
		r, err := c.ExecuteAnonymous(ctx, "shutdown", nil)
		if err != nil {
			t.Fatal(err)
		}
		killed[fmt.Sprint(r.Outputs()["worker_id"])] = true
	}
	uses("team", teamKey)
	_, err := c.SetLM(ctx, "openai", dspex.ForSession("team"), dspex.WithAPIKey("env:OTHER_KEY"))
	var e *dspex.Error
	if !errors.As(err, &e) || e.Code != dspex.CodeSecret || e.Expected != "no api_key, or env:CANARY, env:TEAM_KEY" {
		t.Errorf("a key that is not allowed: %v", err)
	}
	uses("team", teamKey)
	secretive(t, d, data)
}

// secretive looks for the key in the log, in all that the broker stored, and in the surroundings of the workers.
func secretive(t *testing.T, d *dev, data string) {
	t.Helper()
	if strings.Contains(d.log.String(), canary) {
		t.Errorf("the log holds the key:\n%s", d.log.String())
	}
	files := 0
	err := filepath.WalkDir(data, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(canary)) {
			t.Errorf("%s holds the key", path)
		}
		files++
		return err
	})
	if err != nil || files == 0 {
		t.Errorf("%d files of the broker, %v", files, err)
	}
	if runtime.GOOS != "linux" {
		return // elsewhere a process cannot look into another one
	}
	workers := 0
	for _, dspex := range children(t, strconv.Itoa(d.Cmd.Process.Pid)) {
		for _, worker := range children(t, dspex) {
			workers++
			for _, name := range []string{"environ", "cmdline"} {
				if b, err := os.ReadFile(filepath.Join("/proc", worker, name)); err != nil || bytes.Contains(b, []byte(canary)) {
					t.Errorf("%s of a worker: %v, or it holds the key", name, err)
				}
			}
		}
	}
	if workers == 0 {
		t.Error("no worker was found")
	}
}

// children are the processes that a process has started.
func children(t *testing.T, parent string) (pids []string) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, stat := range stats {
		b, err := os.ReadFile(stat)
		_, rest, ok := strings.Cut(string(b), ") ")
		if fields := strings.Fields(rest); err == nil && ok && len(fields) > 1 && fields[1] == parent {
			pids = append(pids, filepath.Base(filepath.Dir(stat)))
		}
	}
	return pids
}

func TestTheLanguageModelOfASessionAndOfAll(t *testing.T) {
	p, d, _, _ := withProviders(t)
	ctx, c := connectTo(t, d.url)
	uses := func(session, model string) {
		t.Helper()
		var err error
		if session == "" {
			_, err = c.ExecuteAnonymous(ctx, "predict", dspex.Args{"question": "hello"})
		} else {
			_, err = c.Execute(ctx, session, "predict", dspex.Args{"question": "hello"})
		}
		if got := p.last(t).model; err != nil || got != model {
			t.Errorf("%q uses %q (%v), want %q", session, got, err, model)
		}
	}
	set := func(session, model string) {
		t.Helper()
		var r dspex.Reply
		var err error
		if session == "" {
			r, err = c.ExecuteAnonymous(ctx, "set_lm", dspex.Args{"model": model})
		} else {
			r, err = c.Execute(ctx, session, "set_lm", dspex.Args{"model": model})
		}
		switch {
		case err != nil:
			t.Fatalf("err must be nil, got %v; %s %v", err, r.Raw, err)
		case r.Outputs()["status"] != "configured":
			t.Fatalf(`r.Outputs()["status"] must be "configured", got %v; %s %v`, r.Outputs()["status"], r.Raw, err)
		case r.Outputs()["model"] != model:
			t.Fatalf(`r.Outputs()["model"]: got %v, want %v; %s %v`, r.Outputs()["model"], model, r.Raw, err)
		case r.Outputs()["temperature"] != 0.7:
			t.Fatalf(`r.Outputs()["temperature"] must be 0.7, got %v; %s %v`, r.Outputs()["temperature"], r.Raw, err)
		}
	}
	uses("", "gpt-4o-mini")
	uses("a", "gpt-4o-mini")
	set("a", "anthropic")
	uses("a", "claude-sonnet-4-5")
	uses("b", "gpt-4o-mini")
	set("", "ollama")
	uses("", "llama3:8b")
	uses("b", "llama3:8b")
	uses("a", "claude-sonnet-4-5")
	// Every worker ends; those that follow have both choices.
	for killed := map[string]bool{}; len(killed) < 2; {
		r, err := c.ExecuteAnonymous(ctx, "shutdown", nil)
		if err != nil {
			t.Fatal(err)
		}
		killed[fmt.Sprint(r.Outputs()["worker_id"])] = true
	}
	uses("a", "claude-sonnet-4-5")
	uses("", "llama3:8b")
	if _, err := c.Execute(ctx, "a", "reset_state", nil); err != nil {
		t.Fatal(err)
	}
	uses("a", "llama3:8b")
	set("a", "anthropic")
	if _, err := c.Execute(ctx, "a", "cleanup_session", dspex.Args{"session_id": "a"}); err != nil {
		t.Fatal(err)
	}
	uses("a", "llama3:8b")
}
