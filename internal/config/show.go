package config

import (
	"runtime"
	"strings"
)

// Effective is a setting as a program has it, and where that comes from.
type Effective struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Origin string `json:"origin"` // default, preset MODE, FILE:LINE or $VARIABLE
}

// Show reports what a program that is started without flags has from the file, the environment and the preset.
func Show(program string, file *File, env func(string) string) []Effective {
	values, origins := map[string]string{}, map[string]string{}
	set := func(flag, value, origin string) { values[flag], origins[flag] = value, origin }
	mode := ""
	for _, s := range file.Settings {
		set(s.Flag, s.Text, file.Path+":"+itoa(s.At.Line))
	}
	for _, k := range Keys {
		if k.Program != program {
			continue
		}
		if name := Variable(k.Flag()); env(name) != "" {
			set(k.Flag(), env(name), "$"+name)
		}
		if k.Flag() == PoolMode {
			mode = values[PoolMode]
		}
	}
	preset := presets(mode, runtime.NumCPU())
	var out []Effective
	for _, k := range Keys {
		if k.Program != program {
			continue
		}
		e := Effective{Key: k.Name, Value: strings.Trim(k.Default, "[]"), Origin: "default"}
		if text, is := preset[k.Flag()]; is {
			e.Value, e.Origin = text, "preset "+mode
		}
		if text, is := values[k.Flag()]; is {
			e.Value, e.Origin = text, origins[k.Flag()]
		}
		out = append(out, e)
	}
	return out
}

// Schema is the JSON schema of a file, for editors.
func Schema() map[string]any {
	properties := map[string]any{}
	for _, k := range Keys {
		if _, there := properties[k.Name]; !there {
			properties[k.Name] = schemaOf(k)
		}
	}
	nested := map[string]map[string]any{}
	for _, table := range []map[string]string{aliases, old} {
		for name, flag := range table {
			of := schemaOf(Key{Name: strings.ReplaceAll(flag, "-", "_"), Kind: kindOf(flag), Help: "the same as " + strings.ReplaceAll(flag, "-", "_")})
			section, key, below := strings.Cut(name, ".")
			if !below {
				properties[name] = of
				continue
			}
			if nested[section] == nil {
				nested[section] = map[string]any{}
			}
			nested[section][key] = of
		}
	}
	for section, of := range nested {
		properties[section] = map[string]any{"type": "object", "properties": of, "additionalProperties": false}
	}
	return map[string]any{"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "dspex settings", "type": "object", "properties": properties, "additionalProperties": false}
}

func schemaOf(k Key) map[string]any {
	of := map[string]any{"description": k.Help}
	switch k.Kind {
	case "":
		of["type"] = "boolean"
	case "int":
		of["type"] = "integer"
	case "float":
		of["type"] = "number"
	case "duration", "size":
		of["type"] = []string{"string", "integer"}
	case "strings":
		of["oneOf"] = []any{map[string]any{"type": "string"}, map[string]any{"type": "array", "items": map[string]any{"type": "string"}}}
	default:
		of["type"] = []string{"string", "number"}
	}
	switch k.Flag() {
	case PoolMode:
		of["enum"] = Modes
		delete(of, "type")
	case "lm", "job-defaults":
		of["type"] = []string{"string", "object"}
	}
	return of
}

// Example is a file with the settings that people change first, and all others as comments.
func Example() string {
	var b strings.Builder
	b.WriteString(`# Settings of dispatcher, worker-host and "dspex dev". A flag wins over its variable, a variable over this file,
# this file over the preset that pool_mode names. "dspex config check" checks it, "dspex config show" shows the effective settings.

# development, test or production: a preset for the pool; the settings below override it.
pool_mode: development

# Python workers, and how many more while calls wait for a slot.
pool_size: 2
overflow: 2

# How long a call waits for a slot, and how long one attempt of a job may take. Numbers are milliseconds.
checkout_timeout: 5s
operation_timeout: 30s

circuit_breaker:
  failure_threshold: 5
  success_threshold: 3
  timeout: 60s

error_handler:
  error_rate_threshold: 0.05
  alert_destinations: [logger, telemetry]

# Language models: profiles by name, or the path of a JSON file. Keys are references, never the keys themselves.
# lm:
#   default: fast
#   profiles:
#     fast: {provider: openai, model: gpt-4o-mini, api_key: "env:OPENAI_API_KEY"}

# All other settings, with their defaults:
`)
	written := map[string]bool{"pool_mode": true, "workers": true, "overflow": true, "checkout_timeout": true, "operation_timeout": true, "lm": true,
		"breaker_failures": true, "breaker_successes": true, "breaker_timeout": true, "error_rate_threshold": true, "alert_destinations": true}
	for _, k := range Keys {
		if written[k.Name] {
			continue
		}
		written[k.Name] = true
		b.WriteString("\n# " + k.Help + "\n# " + k.Name + ": " + k.Default + "\n")
	}
	return b.String()
}
