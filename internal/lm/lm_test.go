package lm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/wire"
)

const canary = "sk-canary-0123456789"

func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func args(t *testing.T, v map[string]any) []byte {
	t.Helper()
	b, err := wire.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// profile is what the worker receives.
func profile(t *testing.T, body []byte) map[string]any {
	t.Helper()
	var m map[string]any
	if err := wire.Decode(body, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestEveryProviderWorksFromAFile(t *testing.T) {
	path := write(t, `{"default": "openai", "profiles": {
		"openai": {"provider": "openai", "model": "gpt-4o-mini"},
		"anthropic": {"provider": "anthropic", "model": "claude-sonnet-4-5", "api_key": "file:`+write(t, canary+"\n")+`"},
		"gemini": {"provider": "gemini", "model": "gemini-1.5-flash", "api_key": "env:MY_GEMINI", "temperature": 0.2},
		"openrouter": {"provider": "openrouter", "model": "meta-llama/llama-3.1-8b:free", "api_key": "env:MY_GEMINI"},
		"ollama": {"provider": "ollama", "model": "llama3:8b"},
		"vllm": {"provider": "vllm", "model": "meta-llama/Llama-3-8B", "api_base": "http://10.0.0.1:8000/v1", "max_tokens": 500},
		"other": {"provider": "openai_compatible", "model": "m", "api_base": "https://models.example/v1", "supports": {"response_schema": true}}}}`)
	f, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(f, env("OPENAI_API_KEY", canary, "MY_GEMINI", canary))
	if err != nil {
		t.Fatal(err)
	}
	keyless := map[string]bool{"ollama": true, "vllm": true, "other": true}
	keys := map[string]bool{}
	for name := range f.Profiles {
		m, e := r.Named(name)
		if e != nil || keys[m.Key] {
			t.Fatalf("%s: %s %v", name, m.Key, e)
		}
		keys[m.Key] = true
		p := profile(t, m.Profile)
		switch secret := p["api_key"]; {
		case (secret == nil) != keyless[name]:
			t.Errorf("secret is nil: got %v, want %v; %s: %v", (secret == nil), keyless[name], name, p)
		case secret != nil && secret != canary:
			t.Errorf("must not hold: secret != nil && secret != canary; %s: %v", name, p)
		case p["name"] != name:
			t.Errorf(`p["name"]: got %v, want %v; %s: %v`, p["name"], name, name, p)
		case p["model"] != f.Profiles[name].Model:
			t.Errorf(`p["model"]: got %v, want %v; %s: %v`, p["model"], f.Profiles[name].Model, name, p)
		}
	}
	if m, e := r.Default(); e != nil || profile(t, m.Profile)["name"] != "openai" {
		t.Errorf("default: %v %v", profile(t, m.Profile), e)
	}
}

func TestLitellmIsAnExtraThatAProfileAsksFor(t *testing.T) {
	f := File{Profiles: map[string]Profile{"a": {Provider: "mistral", Model: "mistral-small", Engine: Litellm, APIKey: "env:K"}, "b": {Provider: "ollama", Model: "m"}}}
	r, err := New(f, env("K", canary))
	if err != nil || !f.NeedsLitellm() || (File{Profiles: map[string]Profile{"b": f.Profiles["b"]}}).NeedsLitellm() {
		t.Fatal(err)
	}
	for name, engine := range map[string]any{"a": "litellm", "b": nil} {
		if m, e := r.Named(name); e != nil || profile(t, m.Profile)["engine"] != engine {
			t.Errorf("%s: %v", name, e)
		}
	}
	f.Profiles["a"] = Profile{Provider: "mistral", Model: "m", Engine: "native"}
	if _, err := New(f, env()); err == nil || !strings.Contains(err.Error(), `engine must be litellm, or left out for DSPy's own client, got "native"`) {
		t.Error(err)
	}
}

func TestAWrongFileSaysEverythingAtOnceAndNoSecret(t *testing.T) {
	f := File{Default: "nobody", Profiles: map[string]Profile{
		"a": {Provider: "openai", Model: "gpt-4o", APIKey: canary}, "b": {Provider: "acme"}, "c": {Provider: "vllm", Model: "m"},
		"d": {Provider: "openai", Model: "m"}, "e": {Provider: "ollama", Model: "m", APIBase: "10.0.0.1:8000", APIKey: "file:/nowhere/key", MaxTokens: -1},
	}}
	_, err := New(f, env())
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{`"nobody": no such LM profile`, `"a": api_key must be env:NAME or file:PATH, never the key itself`, `"b": provider must be one of anthropic, gemini`,
		`"b": model is missing`, `"c": api_base is missing`, `"d": api_key: environment variable OPENAI_API_KEY is not set`, `"e": api_base must be an address`,
		`"e": api_key: the key file cannot be read`, `"e": max_tokens`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not said in:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), canary) {
		t.Error("the error holds the key")
	}
	for text, want := range map[string]string{`{"profiles": {"a": {"provider": "ollama", "modul": "m"}}}`: `unknown field "modul"`, `{"profiles": {}} {}`: "the end behind one value",
		`{"profiles": {"a": {"provider": "ollama", "model": "m"}, "a": {"provider": "openai", "model": "m"}}}`: "profiles.a: duplicate_key: expected each key once",
		`{"profiles": {"a": {"model": "m", "Model": "n"}}}`:                                                    "profiles.a.Model: key_case",
		"": "a JSON value, not the end of the text", `[]`: "cannot unmarshal"} {
		if _, err := Load(write(t, text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestSetLMFindsTheProviderOfAModelAndItsKeyHere(t *testing.T) {
	r, err := New(File{Profiles: map[string]Profile{"fast": {Provider: "ollama", Model: "llama3"}}}, env("OPENAI_API_KEY", canary, "GEMINI_API_KEY", canary, "ANTHROPIC_API_KEY", canary, "OPENROUTER_API_KEY", canary))
	if err != nil {
		t.Fatal(err)
	}
	for model, want := range map[string][2]string{
		"gemini-1.5-flash": {"gemini", "gemini-1.5-flash"}, "gpt-4o-mini": {"openai", "gpt-4o-mini"}, "o3-mini": {"openai", "o3-mini"}, "claude-sonnet-4-5": {"anthropic", "claude-sonnet-4-5"},
		"openrouter/meta-llama/llama-3": {"openrouter", "meta-llama/llama-3"}, "ollama/llama3:8b": {"ollama", "llama3:8b"}, "fast": {"ollama", "llama3"},
	} {
		m, e := r.Chosen(args(t, map[string]any{"model": model, "temperature": 0.3}))
		if e != nil {
			t.Fatalf("%s: %v", model, e)
		}
		if p := profile(t, m.Profile); p["provider"] != want[0] || p["model"] != want[1] || p["temperature"] != 0.3 {
			t.Errorf("%s: %v", model, p)
		}
	}
	for name, choice := range map[string]map[string]any{
		"a provider without address": {"model": "m", "provider": "vllm"}, "an unknown model": {"model": "mystery"}, "an unknown provider": {"model": "m", "provider": "acme"},
	} {
		switch _, e := r.Chosen(args(t, choice)); {
		case e == nil:
			t.Errorf("e must not be nil; %s: %v", name, e)
		case e.Code != jobs.CodeLMUnknown:
			t.Errorf("e.Code: got %v, want %v; %s: %v", e.Code, jobs.CodeLMUnknown, name, e)
		case e.Expected == "":
			t.Errorf(`e.Expected must not be ""; %s: %v`, name, e)
		case e.Retryable:
			t.Errorf("must not hold: e.Retryable; %s: %v", name, e)
		}
	}
}

func TestAReferenceFromOutsideNamesNoOtherSecretOfTheHost(t *testing.T) {
	r, err := New(File{}, env("OPENAI_API_KEY", canary, "AWS_SECRET_ACCESS_KEY", "another"))
	if err != nil {
		t.Fatal(err)
	}
	if _, e := r.Chosen(args(t, map[string]any{"model": "gpt-4o", "api_key": "env:OPENAI_API_KEY"})); e != nil {
		t.Error(e)
	}
	for _, ref := range []string{"env:AWS_SECRET_ACCESS_KEY", "file:/etc/passwd", canary} {
		if _, e := r.Chosen(args(t, map[string]any{"model": "gpt-4o", "api_key": ref})); e == nil || e.Code != jobs.CodeSecret || strings.Contains(e.Error()+e.Hint+e.Expected, canary) {
			t.Errorf("%s: %v", ref, e)
		}
	}
}

// TestAKeyInAFileIsReplacedWithoutARestart: the next attempt has the new one, under a profile of its own, so that no worker goes on with
// the old one; also where keys stay outside of the workers.
func TestAKeyInAFileIsReplacedWithoutARestart(t *testing.T) {
	for name, strict := range map[string]bool{"in the worker": false, "outside": true} {
		t.Run(name, func(t *testing.T) {
			file := write(t, "first\n")
			r, err := New(File{Default: "own", Profiles: map[string]Profile{"own": {Provider: "openai_compatible", Model: "m", APIBase: "http://10.0.0.1/v1", APIKey: "file:" + file}}}, env())
			if err == nil && strict {
				err = r.Outside()
			}
			if err != nil {
				t.Fatal(err)
			}
			used := func() (model jobs.Model, secret any) {
				m, e := r.Default()
				if e != nil {
					t.Fatal(e)
				}
				p := profile(t, m.Profile)
				if !strict {
					return m, p["api_key"]
				}
				base, _ := p["api_base"].(string)
				at, _ := r.endpoint(base[strings.LastIndexByte(base, '/')+1:])
				return m, at.secret
			}
			before, secret := used()
			if secret != "first" {
				t.Errorf("the key is %v", secret)
			}
			if err := os.WriteFile(file, []byte("second\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if after, secret := used(); secret != "second" || after.Key == before.Key || after.Breaker != before.Breaker {
				t.Errorf("the key is %v, the profile %s after %s, the breaker %s after %s", secret, after.Key, before.Key, after.Breaker, before.Breaker)
			}
		})
	}
}

func TestAReferenceThatTheOperatorAllowsIsTakenForAnyModel(t *testing.T) {
	file := write(t, "filed\n")
	r, err := New(File{Profiles: map[string]Profile{"own": {Provider: "openai_compatible", Model: "m", APIBase: "http://10.0.0.1/v1"}}},
		env("OPENAI_API_KEY", canary, "TEAM_A", "a", "TEAM_B", "b", "OTHER", "o"))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Allow(KeyRefs{"TEAM_A", "env:TEAM_B", "file:" + file}); err != nil {
		t.Fatal(err)
	}
	for ref, want := range map[string]string{"env:TEAM_A": "a", "env:TEAM_B": "b", "file:" + file: "filed", "env:OPENAI_API_KEY": canary} {
		m, e := r.Chosen(args(t, map[string]any{"model": "gpt-4o", "api_key": ref}))
		if e != nil || profile(t, m.Profile)["api_key"] != want {
			t.Errorf("%s: %v", ref, e)
		}
	}
	if m, e := r.Chosen(args(t, map[string]any{"model": "own", "api_key": "env:TEAM_A"})); e != nil || profile(t, m.Profile)["api_key"] != "a" || m.Breaker != "lm.openai_compatible/m@10.0.0.1/v1#env:TEAM_A" {
		t.Errorf("a profile: %v, breaker %s", e, m.Breaker)
	}
	_, e := r.Chosen(args(t, map[string]any{"model": "gpt-4o", "api_key": "env:OTHER"}))
	if e == nil || e.Code != jobs.CodeSecret || e.Expected != "no api_key, or env:OPENAI_API_KEY, env:TEAM_A, env:TEAM_B, file:"+file {
		t.Errorf("another one: %+v", e)
	}
}

func TestAReferenceToNothingCannotBeAllowed(t *testing.T) {
	r, err := New(File{}, env())
	if err != nil {
		t.Fatal(err)
	}
	for ref, want := range map[string]string{
		"NOBODY": "--allow-key-refs must name keys that are there, got env:NOBODY: environment variable NOBODY is not set", "file:/nowhere/key": "the key file cannot be read",
		"file:" + write(t, ""): "must not be empty", "sk-" + canary: "must be names of variables or file:PATH", "": "must be names of variables or file:PATH",
	} {
		if err := r.Allow(KeyRefs{ref}); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), canary) {
			t.Errorf("%q: %v", ref, err)
		}
	}
}

func TestADefaultThatCannotBeUsedIsAnErrorNotAnotherModel(t *testing.T) {
	r, err := New(File{Default: "fast", Profiles: map[string]Profile{"fast": {Provider: "ollama", Model: "llama3"}}}, env())
	if err != nil {
		t.Fatal(err)
	}
	if e := r.SetDefault(args(t, map[string]any{"model": "gpt-4o"})); e == nil {
		t.Error("a model without key was taken")
	}
	if m, e := r.Default(); e == nil || m.Key != "" || e.Code != "lm_not_configured" {
		t.Errorf("jobs would use %q (%v)", m.Key, e)
	}
	if e := r.SetDefault(args(t, map[string]any{"model": "fast", "temperature": nil})); e != nil {
		t.Fatal(e)
	}
	if m, e := r.Default(); e != nil || profile(t, m.Profile)["model"] != "llama3" {
		t.Error(e)
	}
}

func TestWhatFailsByItselfHasABreakerOfItsOwnWhoseNameTellsNoSecret(t *testing.T) {
	warm := 0.9
	r, err := New(File{Profiles: map[string]Profile{
		"gpt":    {Provider: "openai", Model: "gpt-4o"},
		"warm":   {Provider: "openai", Model: "gpt-4o", Temperature: &warm, APIKey: "env:OPENAI_API_KEY"},
		"tenant": {Provider: "openai", Model: "gpt-4o", APIKey: "env:TENANT_KEY"},
		"vllm":   {Provider: "vllm", Model: "llama", APIBase: "http://user:" + canary + "@10.0.0.1:8000/v1/?token=" + canary},
		"long":   {Provider: "ollama", Model: strings.Repeat("m", 300)},
		"longer": {Provider: "ollama", Model: strings.Repeat("m", 301)},
	}}, env("OPENAI_API_KEY", canary, "TENANT_KEY", "another"))
	if err != nil {
		t.Fatal(err)
	}
	name := func(profile string) string {
		m, e := r.Named(profile)
		if e != nil {
			t.Fatal(e)
		}
		return m.Breaker
	}
	for profile, want := range map[string]string{
		"gpt": "lm.openai/gpt-4o", "warm": "lm.openai/gpt-4o", "tenant": "lm.openai/gpt-4o#env:TENANT_KEY", "vllm": "lm.vllm/llama@10.0.0.1:8000/v1",
	} {
		if got := name(profile); got != want {
			t.Errorf("%s: %q, expected %q", profile, got, want)
		}
	}
	if m, e := r.Chosen(args(t, map[string]any{"model": "gpt-4o", "temperature": 0.1})); e != nil || m.Breaker != name("gpt") || m.Chosen {
		t.Errorf("set_lm: %q, %v, %v", m.Breaker, m.Chosen, e)
	}
	if m, e := r.Chosen(args(t, map[string]any{"model": "gpt-4o-of-nobody"})); e != nil || !m.Chosen {
		t.Errorf("set_lm of a model that no profile has: %+v, %v", m, e)
	}
	if long := name("long"); len(long) != 128 || long == name("longer") {
		t.Errorf("a long name: %q", long)
	}
}
