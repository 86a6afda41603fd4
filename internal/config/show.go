package config

import (
	"encoding/json"
	"regexp"
	"runtime"
	"slices"
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
		e := Effective{Key: nameOf(k.Flag()), Value: strings.Trim(k.Default, "[]"), Origin: "default"}
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
	properties, nested := map[string]any{}, map[string]map[string]any{Section: {}}
	for _, k := range Keys {
		in, name := properties, k.Name
		if own, ok := strings.CutPrefix(name, Section+"."); ok {
			in, name = nested[Section], own
		}
		if _, there := in[name]; !there {
			in[name] = schemaOf(k)
		}
	}
	for _, table := range []map[string]string{aliases, old} {
		for name, flag := range table {
			of := schemaOf(Key{Name: strings.ReplaceAll(flag, "-", "_"), Kind: kindOf(flag), Help: helpOf(flag)})
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

// helpOf is the text of a flag's help.
func helpOf(flag string) string {
	i := slices.IndexFunc(Keys, func(k Key) bool { return k.Flag() == flag })
	return Keys[i].Help
}

func schemaOf(k Key) map[string]any {
	of := map[string]any{"description": inKeys(k.Help)}
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
	if slices.Contains(inline, k.Flag()) {
		of["type"] = []string{"string", "object"}
	}
	rules[k.Flag()].describe(of, k.Kind)
	if value, is := k.value(); is {
		of["default"] = value
	}
	return of
}

// value is the default as JSON has it; some defaults are not values.
func (k Key) value() (any, bool) {
	var number float64
	switch {
	case k.Default == "" || strings.Contains(k.Default, " "):
		return nil, false
	case k.Kind == "":
		return k.Default == "true", true
	case k.Kind == "strings":
		return strings.Split(strings.Trim(k.Default, "[]"), ","), true
	case k.Kind == "int" || k.Kind == "float":
		err := json.Unmarshal([]byte(k.Default), &number)
		return number, err == nil
	}
	return k.Default, true
}

// Example is a file with the settings that people change first, and all others as comments.
func Example() string {
	var b strings.Builder
	b.WriteString(`# Settings of dispatcher, worker-host, "dspex gateway" and "dspex dev". A flag wins over its variable, a variable over this file,
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
	var below strings.Builder
	written := map[string]bool{"pool_mode": true, "workers": true, "overflow": true, "checkout_timeout": true, "operation_timeout": true, "lm": true,
		"breaker_failures": true, "breaker_successes": true, "breaker_timeout": true, "error_rate_threshold": true, "alert_destinations": true}
	for _, k := range Keys {
		if written[k.Name] {
			continue
		}
		written[k.Name] = true
		if name, ok := strings.CutPrefix(k.Name, Section+"."); ok {
			below.WriteString("#\n#   # " + inKeys(k.Help) + k.comment() + "\n#   " + name + ": " + k.example() + "\n")
			continue
		}
		b.WriteString("\n# " + inKeys(k.Help) + k.comment() + "\n# " + k.Name + ": " + k.example() + "\n")
	}
	return b.String() + "\n# Those of dspex gateway, besides the broker's and those of traces:\n# " + Section + ":\n" + below.String()
}

var flagInText = regexp.MustCompile(`--([a-z]+(?:-[a-z]+)*)`)

// inKeys is a text about flags that is about keys.
func inKeys(text string) string {
	return flagInText.ReplaceAllStringFunc(text, func(flag string) string { return nameOf(strings.TrimPrefix(flag, "--")) })
}

// comment is a default that is no value.
func (k Key) comment() string {
	if strings.Contains(k.Default, " ") || k.Default == "none" || k.Default == "temporary" {
		return " (default: " + k.Default + ")"
	}
	return ""
}

// example is a value of the key: its default, if that is one.
func (k Key) example() string {
	switch {
	case k.comment() == "" && k.Default != "":
		return k.Default
	case k.Kind == "":
		return "false"
	case k.Kind == "int":
		return "0"
	case k.Kind == "size":
		return "4GiB"
	case k.Kind == "strings":
		return "[]"
	case k.Flag() == "job-defaults":
		return "{predict: {timeout: 60000, max_retries: 2}}"
	case k.Kind == "duration":
		return "0s"
	case k.Kind == "weights":
		return "{acme: 3, beta: 2}"
	}
	if words := rules[k.Flag()].words; words != nil {
		return words[0]
	}
	return `""`
}
