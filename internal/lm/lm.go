// Package lm holds a host's language-model profiles: what may be called, with which key, under which name. Keys are given by
// reference (env:NAME or file:PATH) and resolved here, in the host; they travel to workers over private pipes only.
package lm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/control"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/wire"
)

// Profile is one named language-model configuration.
type Profile struct {
	Provider       string   `json:"provider"`
	Model          string   `json:"model"`
	APIBase        string   `json:"api_base,omitempty"`
	APIKey         string   `json:"api_key,omitempty"` // env:NAME or file:PATH; default: the provider's usual variable
	Temperature    *float64 `json:"temperature,omitempty"`
	MaxTokens      int      `json:"max_tokens,omitempty"`
	TimeoutMS      int      `json:"timeout_ms,omitempty"`      // default 120000
	MaxConnections int      `json:"max_connections,omitempty"` // default 1000
	Supports       Supports `json:"supports,omitzero"`
	Engine         string   `json:"engine,omitempty"` // "" is DSPy's own client; Litellm must be installed, too
}

// Litellm is the engine of a profile whose provider only litellm supports. Provider and model are then its to understand.
const Litellm = "litellm"

// NeedsLitellm reports whether a profile requests it.
func (f File) NeedsLitellm() bool {
	for _, p := range f.Profiles {
		if p.Engine == Litellm {
			return true
		}
	}
	return false
}

// Supports reports what the model's server can do beyond chat.
type Supports struct {
	ResponseSchema  bool `json:"response_schema,omitempty"`
	FunctionCalling bool `json:"function_calling,omitempty"`
}

// provider is what is known of a provider without configuration.
type provider struct {
	keyEnv   string   // "" needs no key
	prefixes []string // of model names
	needBase bool

	base      string // its address; a test compares it with the worker's client
	keyHeader string // that carries the key; "": Authorization
}

var providers = map[string]provider{
	"openai":            {keyEnv: "OPENAI_API_KEY", prefixes: []string{"gpt-", "o1", "o3", "o4", "chatgpt-"}, base: "https://api.openai.com/v1"},
	"anthropic":         {keyEnv: "ANTHROPIC_API_KEY", prefixes: []string{"claude-"}, base: "https://api.anthropic.com/v1", keyHeader: "X-Api-Key"},
	"gemini":            {keyEnv: "GEMINI_API_KEY", prefixes: []string{"gemini-"}, base: "https://generativelanguage.googleapis.com/v1beta", keyHeader: "X-Goog-Api-Key"},
	"openrouter":        {keyEnv: "OPENROUTER_API_KEY", base: "https://openrouter.ai/api/v1"},
	"ollama":            {base: "http://localhost:11434/v1"},
	"vllm":              {needBase: true},
	"openai_compatible": {needBase: true},
}

// Providers lists the names of the providers.
func Providers() []string {
	names := make([]string, 0, len(providers))
	for name := range providers {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Defaults of a profile.
const (
	DefaultTimeout        = 120 * time.Second
	DefaultMaxConnections = 1000
)

// Registry answers which profile a job uses. It is safe for concurrent use.
type Registry struct {
	getenv func(string) string

	mu       sync.Mutex
	profiles map[string]Profile
	byName   string          // the operator's default profile
	chosen   []byte          // the last set_lm without a session, wins over byName
	allowed  map[string]bool // references to keys that set_lm may name
	resolved map[resolution]jobs.Model

	endpoints map[string]endpoint // of profiles that workers have used; nil: workers call models themselves
}

// resolution is all that a model is made of. Two that are equal make the same one.
type resolution struct {
	name        string
	profile     Profile // without what it points to
	temperature float64 // -1: none
	base, key   string  // what workers get
}

// File is the form of a profile file.
type File struct {
	Default  string             `json:"default,omitempty"`
	Profiles map[string]Profile `json:"profiles"`
}

// Load reads a profile file. Unknown keys are refused; everything that is wrong is reported at once.
func Load(path string) (File, error) {
	b, name := []byte(path), "given inline"
	if !strings.HasPrefix(strings.TrimSpace(path), "{") {
		var err error
		if b, err = os.ReadFile(path); err != nil {
			return File{}, err
		}
		name = path
	}
	// encoding/json takes keys in any case and the last of two equal ones: a second profile would replace the first in silence.
	if _, err := wire.FromJSON(b, wire.Request); err != nil {
		return File{}, fmt.Errorf("LM profiles %s: %s", name, strings.TrimPrefix(err.Error(), "wire: "))
	}
	var f File
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return File{}, fmt.Errorf("LM profiles %s: %w", name, err)
	}
	return f, nil
}

// New checks the profiles, and that their keys are there. getenv is os.Getenv outside tests.
func New(f File, getenv func(string) string) (*Registry, error) {
	r := &Registry{getenv: getenv, profiles: map[string]Profile{}, byName: f.Default}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(f.Profiles)) {
		p := f.Profiles[name]
		if p.APIKey == "" {
			p.APIKey = providers[p.Provider].key()
		}
		problems := p.check()
		if name == "" || len(name) > maxName {
			problems = append(problems, fmt.Errorf("its name must have 1 to %d characters", maxName))
		}
		if _, err := r.secret(p.APIKey); err != nil {
			problems = append(problems, fmt.Errorf("api_key: %w", err))
		}
		for _, problem := range problems {
			errs = append(errs, fmt.Errorf("LM profile %q: %w", name, problem))
		}
		r.profiles[name] = p
	}
	if _, ok := f.Profiles[f.Default]; f.Default != "" && !ok {
		errs = append(errs, fmt.Errorf("default %q: no such LM profile", f.Default))
	}
	return r, errors.Join(errs...)
}

// OfFlag has each line of an error begin with the flag that names the profiles.
func OfFlag(err error) error {
	if err == nil {
		return nil
	}
	return errors.New("--lm: " + strings.ReplaceAll(err.Error(), "\n", "\n--lm: "))
}

// Take replaces profiles, default and allowed references by those of another registry. What set_lm chose stays. Jobs that run keep what
// they began with.
func (r *Registry) Take(next *Registry) {
	next.mu.Lock()
	profiles, byName, allowed := next.profiles, next.byName, next.allowed
	next.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.profiles, r.byName, r.allowed = profiles, byName, allowed
}

// Equal reports whether two registries have the same profiles, default and allowed references.
func (r *Registry) Equal(other *Registry) bool {
	other.mu.Lock()
	profiles, byName, allowed := other.profiles, other.byName, other.allowed
	other.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byName == byName && maps.Equal(r.allowed, allowed) && reflect.DeepEqual(r.profiles, profiles)
}

const maxName = 128 // of a profile; jobs name it in options.lm

// key is the reference to the variable where a provider's key usually is.
func (p provider) key() string {
	if p.keyEnv == "" {
		return ""
	}
	return "env:" + p.keyEnv
}

func (p Profile) check() (errs []error) {
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	known, ok := providers[p.Provider]
	switch {
	case p.Engine != "" && p.Engine != Litellm:
		wrong("engine must be %s, or left out for DSPy's own client, got %q", Litellm, p.Engine)
	case p.Engine == Litellm && p.Provider == "":
		wrong("provider must be one that litellm supports, got none")
	case p.Engine == "" && !ok:
		wrong("provider must be one of %s (others with engine %s), got %q", strings.Join(Providers(), ", "), Litellm, p.Provider)
	}
	if p.Model == "" {
		wrong("model is missing")
	}
	if base, err := url.Parse(p.APIBase); p.APIBase != "" && (err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https") {
		wrong("api_base must be an address such as http://127.0.0.1:8000/v1")
	} else if known.needBase && p.APIBase == "" {
		wrong("api_base is missing: provider %s has no address of its own", p.Provider)
	}
	if p.APIKey != "" && !strings.HasPrefix(p.APIKey, "env:") && !strings.HasPrefix(p.APIKey, "file:") {
		wrong("api_key must be env:NAME or file:PATH, never the key itself")
	}
	if t := p.Temperature; t != nil && (*t < 0 || *t > 2) {
		wrong("temperature must be a number from 0 to 2")
	}
	if p.MaxTokens < 0 || p.TimeoutMS < 0 || p.MaxConnections < 0 {
		wrong("max_tokens, timeout_ms and max_connections cannot be negative")
	}
	return errs
}

func (r *Registry) names() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	names := make([]string, 0, len(r.profiles))
	for name := range r.profiles {
		names = append(names, name)
	}
	slices.Sort(names)
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// breaker names what fails as one: a provider's model, at another address or under another key than usual by itself.
func (p Profile) breaker() string {
	address := ""
	if base, err := url.Parse(p.APIBase); err == nil {
		address = strings.TrimSuffix(base.Host+base.Path, "/") // neither user nor query: they may be secret
	}
	key := p.APIKey
	if key == providers[p.Provider].key() {
		key = ""
	}
	return control.LMBreaker(p.Provider, p.Model, address, key)
}

func (r *Registry) secret(ref string) (string, error) {
	if name, ok := strings.CutPrefix(ref, "env:"); ok {
		if v := r.getenv(name); v != "" {
			return v, nil
		}
		return "", fmt.Errorf("environment variable %s is not set", name)
	}
	if path, ok := strings.CutPrefix(ref, "file:"); ok {
		b, err := os.ReadFile(path)
		if err != nil {
			return "", errors.New("the key file cannot be read")
		}
		return strings.TrimSpace(string(b)), nil
	}
	return "", nil
}

func orNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// endpoint is where a profile's calls go, and with which key.
type endpoint struct {
	base   *url.URL
	header string // that carries the key
	prefix string // of its value
	secret string
}
