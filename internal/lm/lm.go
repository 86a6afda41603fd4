// Package lm holds a host's language-model profiles: what may be called, with which key, under which name. Keys are given by
// reference (env:NAME or file:PATH) and resolved here, in the host; they travel to workers over private pipes only.
package lm

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/wire"
)

// Profile is one named language-model configuration.
type Profile struct {
	Provider       string   `json:"provider"`
	Model          string   `json:"model"`
	APIBase        string   `json:"api_base,omitempty"`
	APIKey         string   `json:"api_key,omitempty"` // env:NAME or file:PATH
	Temperature    *float64 `json:"temperature,omitempty"`
	MaxTokens      int      `json:"max_tokens,omitempty"`
	TimeoutMS      int      `json:"timeout_ms,omitempty"`      // default 120000
	MaxConnections int      `json:"max_connections,omitempty"` // default 1000
	Supports       Supports `json:"supports,omitzero"`
	_              struct{} `json:"-"`
}

// Supports says what the model's server can do beyond chat.
type Supports struct {
	ResponseSchema  bool `json:"response_schema,omitempty"`
	FunctionCalling bool `json:"function_calling,omitempty"`
}

// provider is what is known of a provider without configuration.
type provider struct {
	keyEnv   string   // "" needs no key
	prefixes []string // of model names
	needBase bool
}

var providers = map[string]provider{
	"openai":            {keyEnv: "OPENAI_API_KEY", prefixes: []string{"gpt-", "o1", "o3", "o4", "chatgpt-"}},
	"anthropic":         {keyEnv: "ANTHROPIC_API_KEY", prefixes: []string{"claude-"}},
	"gemini":            {keyEnv: "GEMINI_API_KEY", prefixes: []string{"gemini-"}},
	"openrouter":        {keyEnv: "OPENROUTER_API_KEY"},
	"ollama":            {},
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
	byName   string // the operator's default profile
	chosen   []byte // the last set_lm without a session, wins over byName
}

// File is the form of a profile file.
type File struct {
	Default  string             `json:"default,omitempty"`
	Profiles map[string]Profile `json:"profiles"`
}

// Load reads a profile file. Unknown keys are refused; everything that is wrong is said at once.
func Load(path string) (File, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return File{}, err
	}
	var f File
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return File{}, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// New checks the profiles. getenv is os.Getenv outside tests.
func New(f File, getenv func(string) string) (*Registry, error) {
	var errs []error
	for name, p := range f.Profiles {
		if err := p.check(); err != nil {
			errs = append(errs, fmt.Errorf("LM profile %q: %w", name, err))
		}
	}
	if _, ok := f.Profiles[f.Default]; f.Default != "" && !ok {
		errs = append(errs, fmt.Errorf("default LM profile %q: no such profile", f.Default))
	}
	return &Registry{getenv: getenv, profiles: f.Profiles, byName: f.Default}, errors.Join(errs...)
}

func (p Profile) check() error {
	var errs []error
	known, ok := providers[p.Provider]
	if !ok {
		errs = append(errs, fmt.Errorf("provider %q: expected one of %s", p.Provider, strings.Join(Providers(), ", ")))
	}
	if p.Model == "" {
		errs = append(errs, errors.New("model is missing"))
	}
	if known.needBase && p.APIBase == "" {
		errs = append(errs, fmt.Errorf("provider %s needs api_base", p.Provider))
	}
	if p.APIKey != "" && !strings.HasPrefix(p.APIKey, "env:") && !strings.HasPrefix(p.APIKey, "file:") {
		errs = append(errs, errors.New("api_key: expected env:NAME or file:PATH, never the key itself"))
	}
	return errors.Join(errs...)
}

// Named finds a profile of the operator.
func (r *Registry) Named(name string) (string, []byte, *jobs.Error) {
	r.mu.Lock()
	p, ok := r.profiles[name]
	r.mu.Unlock()
	if !ok {
		return "", nil, jobs.Refused(jobs.CodeLMUnknown, "options.lm", "an LM profile of the host: "+r.names(), "no LM profile has that name")
	}
	return r.resolve(name, p)
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

// Default is what jobs use that choose nothing; "" when nothing is configured.
func (r *Registry) Default() (string, []byte) {
	r.mu.Lock()
	chosen, name := r.chosen, r.byName
	r.mu.Unlock()
	if chosen != nil {
		if key, body, e := r.Chosen(chosen); e == nil {
			return key, body
		}
	}
	if name == "" {
		return "", nil
	}
	key, body, e := r.Named(name)
	if e != nil {
		return "", nil
	}
	return key, body
}

// SetDefault makes the arguments of a set_lm the default.
func (r *Registry) SetDefault(args []byte) *jobs.Error {
	if _, _, e := r.Chosen(args); e != nil {
		return e
	}
	r.mu.Lock()
	r.chosen = bytes.Clone(args)
	r.mu.Unlock()
	return nil
}

// Chosen resolves the arguments of set_lm: model is a profile's name, or a model of a provider whose key the host has.
func (r *Registry) Chosen(args []byte) (string, []byte, *jobs.Error) {
	var c struct {
		Model       string   `msgpack:"model"`
		Provider    string   `msgpack:"provider"`
		APIKey      string   `msgpack:"api_key"`
		Temperature *float64 `msgpack:"temperature"`
		MaxTokens   int      `msgpack:"max_tokens"`
	}
	if err := wire.Decode(args, &c); err != nil || c.Model == "" {
		return "", nil, jobs.Refused(jobs.CodeBadInput, "args.model", "a profile's name or a model name", "set_lm needs a model")
	}
	r.mu.Lock()
	p, named := r.profiles[c.Model]
	r.mu.Unlock()
	if !named || c.Provider != "" {
		p = Profile{Provider: c.Provider, Model: c.Model}
		if p.Provider == "" {
			p.Provider, p.Model = guess(c.Model)
		}
		known, ok := providers[p.Provider]
		if !ok || known.needBase {
			return "", nil, jobs.Refused(jobs.CodeLMUnknown, "args.model",
				"an LM profile of the host ("+r.names()+"), or a model with its provider ("+strings.Join(Providers(), ", ")+")", "no provider is known for that model")
		}
		if known.keyEnv != "" {
			p.APIKey = "env:" + known.keyEnv
		}
	}
	// A reference from outside may only name the key that the profile uses anyway: anything else could send another
	// secret of the host to a provider.
	if c.APIKey != "" && c.APIKey != p.APIKey {
		expected := "no api_key: the profile has it, or needs none"
		if p.APIKey != "" {
			expected = "no api_key, or " + p.APIKey
		}
		return "", nil, jobs.Refused(jobs.CodeSecret, "args.api_key", expected, "that key reference is not allowed for this model").
			WithHint("other keys belong into an LM profile of the host")
	}
	if c.Temperature != nil {
		p.Temperature = c.Temperature
	}
	if c.MaxTokens > 0 {
		p.MaxTokens = c.MaxTokens
	}
	return r.resolve(c.Model, p)
}

// guess finds the provider of a bare model name, or of the form provider/model.
func guess(model string) (name, rest string) {
	if prefix, rest, ok := strings.Cut(model, "/"); ok {
		if _, known := providers[prefix]; known {
			return prefix, rest
		}
	}
	for name, p := range providers {
		for _, prefix := range p.prefixes {
			if strings.HasPrefix(model, prefix) {
				return name, model
			}
		}
	}
	return "", model
}

// resolve reads the key and makes the LM frame's profile; its key changes with the content.
func (r *Registry) resolve(name string, p Profile) (string, []byte, *jobs.Error) {
	secret, err := r.secret(p.APIKey)
	if err != nil {
		return "", nil, jobs.Errorf(jobs.Python, "lm_not_configured", "the model's API key is not there: %v", err).
			WithHint("set it where the worker-host runs and start it again, or use another LM profile: %s", r.names())
	}
	timeout, conns := p.TimeoutMS, p.MaxConnections
	if timeout == 0 {
		timeout = int(DefaultTimeout / time.Millisecond)
	}
	if conns == 0 {
		conns = DefaultMaxConnections
	}
	m := map[string]any{
		"name": name, "provider": p.Provider, "model": p.Model, "api_base": orNil(p.APIBase), "api_key": orNil(secret),
		"temperature": nil, "max_tokens": nil, "timeout_ms": timeout, "max_connections": conns,
		"supports": map[string]any{"response_schema": p.Supports.ResponseSchema, "function_calling": p.Supports.FunctionCalling},
	}
	if p.Temperature != nil {
		m["temperature"] = *p.Temperature
	}
	if p.MaxTokens > 0 {
		m["max_tokens"] = p.MaxTokens
	}
	body, err := wire.Encode(m)
	if err != nil {
		return "", nil, jobs.Errorf(jobs.System, jobs.CodeBug, "the LM profile cannot be encoded")
	}
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:8]), body, nil
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
