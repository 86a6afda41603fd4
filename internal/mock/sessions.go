package mock

import (
	"maps"
	"strings"
	"time"

	"github.com/dspex/dspex/internal/jobs"
)

var started = time.Now()

func uptime() float64 { return time.Since(started).Seconds() }

func ping(c *call) (any, *failure) {
	var session any
	if c.state != nil {
		session = c.session()
	}
	return map[string]any{"status": "ok", "timestamp": nowText(), "dspy_available": false, "gemini_available": false, "uptime": uptime(), "mode": "pool-worker",
		"worker_id": c.slot.w.name, "current_session": session}, nil
}

func getStats(c *call) (any, *failure) {
	programs := 0
	if c.state != nil {
		programs = len(c.state.Programs)
	}
	c.slot.p.mu.Lock()
	defer c.slot.p.mu.Unlock()
	return map[string]any{"programs_count": programs, "command_count": c.slot.w.calls, "error_count": c.slot.w.errors, "uptime": uptime(),
		"memory_usage": map[string]any{"rss": 0, "vms": 0, "percent": 0.0}, "dspy_available": false, "gemini_available": false}, nil
}

// shutdown ends no process, for there is none: what the worker held is dropped.
func shutdown(c *call) (any, *failure) {
	if named := c.args["worker_id"]; named != nil && named != c.slot.w.name {
		return nil, badInput("args.worker_id", c.slot.w.name+", or nothing", "shutdown: worker_id names another worker than this one")
	}
	c.slot.p.mu.Lock()
	defer c.slot.p.mu.Unlock()
	n := len(c.slot.w.states)
	clear(c.slot.w.states)
	return map[string]any{"status": "shutting_down", "worker_id": c.slot.w.name, "mode": "pool-worker", "sessions_cleaned": n}, nil
}

// setLM keeps the choice; the host has judged it.
func setLM(c *call) (any, *failure) {
	model, e := c.text("model")
	if e != nil {
		return nil, e
	}
	choice := map[string]any{"model": model, "temperature": 0.7}
	for _, name := range []string{"provider", "api_key", "max_tokens"} {
		if v := c.args[name]; v != nil {
			choice[name] = v
		}
	}
	if t, given := c.args["temperature"]; given {
		choice["temperature"] = t
	}
	if c.state != nil {
		c.state.LM, c.changed = choice, true
	} else {
		c.choice = choice
	}
	provider := choice["provider"]
	if provider == nil {
		provider = providerOf(model)
	}
	return map[string]any{"status": "configured", "model": model, "provider": provider, "temperature": choice["temperature"]}, nil
}

// providerOf is the provider that a model's name contains; nil for the name of a profile.
func providerOf(model string) any {
	if provider, _, ok := strings.Cut(model, "/"); ok {
		return provider
	}
	for _, family := range [][2]string{{"gemini", "gemini"}, {"gpt-", "openai"}, {"chatgpt", "openai"}, {"claude", "anthropic"}} {
		if strings.HasPrefix(model, family[0]) {
			return family[1]
		}
	}
	return nil
}

func getData(c *call) (any, *failure) {
	data := c.state.Data
	if data == nil {
		data = map[string]any{}
	}
	return map[string]any{"session_id": c.session(), "data": data, "revision": c.StateVersion}, nil
}

func updateData(c *call) (any, *failure) {
	data := maps.Clone(c.state.Data)
	if data == nil {
		data = map[string]any{}
	}
	operation, e := c.text("operation")
	if e != nil {
		return nil, e
	}
	value, given := c.args["value"]
	if operation == "merge" && c.args["key"] == nil {
		m, ok := value.(map[string]any)
		if !ok {
			return nil, badInput("args.value", "a map", "update_session_data: merge needs a map as value")
		}
		maps.Copy(data, m)
	} else if e := c.change(data, operation, value, given); e != nil {
		return nil, e
	}
	c.state.Data, c.changed = data, true
	return map[string]any{"session_id": c.session(), "status": "updated", "revision": c.StateVersion + 1}, nil
}

func (c *call) change(data map[string]any, operation string, value any, given bool) *failure {
	if operation != "set" && operation != "delete" && operation != "merge" {
		return badInput("args.operation", "set, delete or merge", "update_session_data: unknown operation")
	}
	key, e := c.text("key")
	switch {
	case e != nil:
		return e
	case operation == "delete":
		delete(data, key)
	case !given:
		return badInput("args.value", "any value", "update_session_data: %s needs a value", operation)
	case operation == "set":
		data[key] = value
	default:
		m, ok := value.(map[string]any)
		if !ok {
			return badInput("args.value", "a map", "update_session_data: merge needs a map as value")
		}
		old, isMap := data[key].(map[string]any)
		if data[key] != nil && !isMap {
			return badInput("args.key", "a key that holds a map, or nothing yet", "update_session_data: cannot merge, the key holds no map")
		}
		merged := map[string]any{}
		maps.Copy(merged, old)
		maps.Copy(merged, m)
		data[key] = merged
	}
	return nil
}

// empty drops all of the session's state but when it began.
func (c *call) empty() (programs int) {
	if c.state == nil {
		return 0
	}
	programs = len(c.state.Programs)
	if programs > 0 || c.state.LM != nil || len(c.state.History) > 0 || len(c.state.Data) > 0 {
		c.state, c.changed = &state{V: jobs.StateSchema, CreatedAt: c.state.CreatedAt}, true
	}
	return programs
}

func cleanup(c *call) (any, *failure) {
	n := 0
	if c.state != nil && len(c.state.Programs) > 0 {
		n = len(c.state.Programs)
		c.state.Programs, c.changed = nil, true
	}
	return map[string]any{"status": "cleaned", "programs_removed": n}, nil
}

func resetState(c *call) (any, *failure) {
	n := c.empty()
	c.slot.p.mu.Lock()
	defer c.slot.p.mu.Unlock()
	calls, errors := c.slot.w.calls, c.slot.w.errors
	c.slot.w.calls, c.slot.w.errors = 0, 0
	return map[string]any{"status": "reset", "programs_cleared": n, "commands_reset": calls, "errors_reset": errors}, nil
}

func cleanupSession(c *call) (any, *failure) {
	return map[string]any{"status": "cleaned", "session_id": c.session(), "programs_removed": c.empty()}, nil
}

func eraseSession(c *call) (any, *failure) {
	c.empty()
	return map[string]any{"status": "erased", "session_id": c.session()}, nil
}
