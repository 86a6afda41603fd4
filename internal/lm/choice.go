package lm

import (
	"bytes"
	"slices"
	"strings"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/wire"
)

// Chosen resolves the arguments of set_lm: model is a profile's name, or a model of a provider whose key the host has.
func (r *Registry) Chosen(args []byte) (jobs.Model, *jobs.Error) {
	c, e := parseChoice(args)
	if e != nil {
		return jobs.Model{}, e
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
			return jobs.Model{}, jobs.Refused(jobs.CodeLMUnknown, "args.model",
				"an LM profile of the host ("+r.names()+"), or a model with its provider ("+strings.Join(Providers(), ", ")+")", "no provider is known for that model")
		}
		p.APIKey = known.key()
	}
	if c.APIKey != "" && c.APIKey != p.APIKey {
		if e := r.mayUse(c.APIKey, p.APIKey); e != nil {
			return jobs.Model{}, e
		}
		p.APIKey = c.APIKey
	}
	if c.Temperature != nil {
		p.Temperature = c.Temperature
	}
	if c.MaxTokens > 0 {
		p.MaxTokens = c.MaxTokens
	}
	m, e := r.resolve(c.Model, p)
	m.Chosen = e == nil && !r.has(m.Breaker)
	return m, e
}

// mayUse refuses references from outside that the operator has not allowed: a model's provider would get another secret of the
// host. The reference itself is not repeated, since it may be a key by mistake.
func (r *Registry) mayUse(ref, usual string) *jobs.Error {
	refs := r.mayName(usual)
	if slices.Contains(refs, ref) {
		return nil
	}
	expected := "no api_key: the model needs none, or its profile has it"
	if len(refs) > 0 {
		expected = "no api_key, or " + strings.Join(refs, ", ")
	}
	return jobs.Refused(jobs.CodeSecret, "args.api_key", expected, "api_key must be a reference that this host allows, got another one").
		WithHint("operators allow references by --allow-key-refs of worker-host; keys of models at other addresses belong into an LM profile")
}

// has reports whether a profile of the host has the model.
func (r *Registry) has(breaker string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.profiles {
		if p.breaker() == breaker {
			return true
		}
	}
	return false
}

// choice is the content of the arguments of set_lm.
type choice struct {
	Model, Provider, APIKey string
	Temperature             *float64
	MaxTokens               int
}

const mostTokens = 10_000_000

// parseChoice reads the arguments that the host needs; what else is there is the worker's to judge.
func parseChoice(args []byte) (c choice, e *jobs.Error) {
	in := wire.NewReader(args)
	n, err := in.Map()
	if err != nil {
		return c, jobs.Unreadable(err)
	}
	for range n {
		key, _ := in.Str()
		if key != "model" && in.Nil() {
			continue
		}
		expected := ""
		switch key {
		case "model":
			if c.Model, err = in.Str(); err != nil || c.Model == "" {
				expected = modelShape
			}
		case "provider":
			if c.Provider, err = in.Str(); err != nil || c.Provider == "" {
				expected = "one of " + strings.Join(Providers(), ", ")
			}
		case "api_key":
			if c.APIKey, err = in.Str(); err != nil {
				expected = "env:NAME or file:PATH"
			}
		case "temperature":
			v, err := in.Float()
			if err != nil || !(v >= 0 && v <= 2) {
				expected = "a number from 0 to 2"
			}
			c.Temperature = &v
		case "max_tokens":
			v, err := in.Int()
			if err != nil || v < 1 || v > mostTokens {
				expected = "an integer from 1 to 10000000"
			}
			c.MaxTokens = int(v)
		default:
			if err := in.Skip(); err != nil {
				return c, jobs.Unreadable(err)
			}
		}
		if expected != "" {
			return c, jobs.Refused(jobs.CodeBadInput, "args."+key, expected, "set_lm: %s is of the wrong type or out of range", key)
		}
	}
	if c.Model == "" {
		return c, jobs.Refused(jobs.CodeBadInput, "args.model", modelShape, "set_lm: the model is missing")
	}
	return c, nil
}

const modelShape = "a profile's name or a model name"

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

// Default is what jobs use that choose nothing; "" when nothing is configured. A default that cannot be used is an error:
// nothing falls back to another model in silence.
func (r *Registry) Default() (jobs.Model, *jobs.Error) {
	r.mu.Lock()
	chosen, name := r.chosen, r.byName
	r.mu.Unlock()
	switch {
	case chosen != nil:
		return r.Chosen(chosen)
	case name == "":
		return jobs.Model{}, nil
	}
	return r.Named(name)
}

// SetDefault makes a choice of set_lm the default, also one that this host cannot use; the error reports why.
func (r *Registry) SetDefault(choice []byte) *jobs.Error {
	r.mu.Lock()
	r.chosen = bytes.Clone(choice)
	r.mu.Unlock()
	_, e := r.Chosen(choice)
	return e
}

// Named finds a profile of the operator.
func (r *Registry) Named(name string) (jobs.Model, *jobs.Error) {
	r.mu.Lock()
	p, ok := r.profiles[name]
	r.mu.Unlock()
	if !ok {
		return jobs.Model{}, jobs.Refused(jobs.CodeLMUnknown, "options.lm", "an LM profile of the host: "+r.names(), "no LM profile has that name")
	}
	return r.resolve(name, p)
}
