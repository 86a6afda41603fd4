package lm

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/wire"
)

// mostResolved bounds what is kept: profiles are few, but clients choose models by set_lm.
const mostResolved = 256

// resolve reads the key, which may have changed, and makes the LM frame's profile. It does so for each attempt: what was made once is kept.
func (r *Registry) resolve(name string, p Profile) (jobs.Model, *jobs.Error) {
	secret, err := r.secret(p.APIKey)
	if err != nil {
		return jobs.Model{}, jobs.Errorf(jobs.Python, "lm_not_configured", "the model's API key is not there: %v", err).
			WithHint("set it where the worker-host runs and start it again, or use another LM profile: %s", r.names())
	}
	of := resolution{name, p, -1, p.APIBase, secret}
	if b, k, ok := r.outside(p, secret); ok {
		of.base, of.key = b, k
	}
	if p.Temperature != nil {
		of.temperature, of.profile.Temperature = *p.Temperature, nil
	}
	r.mu.Lock()
	m, ok := r.resolved[of]
	r.mu.Unlock()
	if ok {
		return m, nil
	}
	body, err := wire.Encode(of.fields())
	if err != nil {
		return jobs.Model{}, jobs.Errorf(jobs.System, jobs.CodeBug, "the LM profile cannot be encoded")
	}
	sum := sha256.Sum256(body)
	m = jobs.Model{Key: hex.EncodeToString(sum[:8]), Profile: body, Breaker: p.breaker()}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.resolved == nil || len(r.resolved) >= mostResolved {
		r.resolved = map[resolution]jobs.Model{}
	}
	r.resolved[of] = m
	return m, nil
}

// fields are those of the LM frame.
func (of resolution) fields() map[string]any {
	p := of.profile
	timeout, conns := p.TimeoutMS, p.MaxConnections
	if timeout == 0 {
		timeout = int(DefaultTimeout / time.Millisecond)
	}
	if conns == 0 {
		conns = DefaultMaxConnections
	}
	m := map[string]any{
		"name": of.name, "provider": p.Provider, "model": p.Model, "api_base": orNil(of.base), "api_key": orNil(of.key),
		"temperature": nil, "max_tokens": nil, "timeout_ms": timeout, "max_connections": conns,
		"supports": map[string]any{"response_schema": p.Supports.ResponseSchema, "function_calling": p.Supports.FunctionCalling},
	}
	if of.temperature >= 0 {
		m["temperature"] = of.temperature
	}
	if p.MaxTokens > 0 {
		m["max_tokens"] = p.MaxTokens
	}
	if p.Engine != "" {
		m["engine"] = p.Engine
	}
	return m
}
