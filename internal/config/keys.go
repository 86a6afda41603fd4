package config

import (
	_ "embed"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/spf13/pflag"
)

// Key is one setting of one program: a flag.
type Key struct {
	Program string `json:"program"`
	Name    string `json:"name"` // of the file; the flag's has - for _
	Kind    string `json:"kind"` // as the help names it; "" for yes or no
	Default string `json:"default,omitempty"`
	Help    string `json:"help"`
}

// Flag is the flag's name.
func (k Key) Flag() string { return strings.ReplaceAll(k.Name, "_", "-") }

// keysFile is written by `go test ./docs -update` from the programs' own lists of flags.
//
//go:embed keys.json
var keysFile []byte

// Keys are all settings of all programs.
var Keys = func() (keys []Key) {
	if err := json.Unmarshal(keysFile, &keys); err != nil {
		panic(err) // a file of ours
	}
	return keys
}()

// Programs are those that read the file.
var Programs = []string{"dispatcher", "worker-host", Gateway, "dspex dev"}

// Gateway is the program whose own keys stand in the section gateway; those in Shared stand beside it.
const Gateway = "dspex gateway"

// Section is of the keys of Gateway.
const Section = "gateway"

// Shared are the flags of Gateway that other programs have, too.
var Shared = []string{"traces-endpoint", "traces-ratio", "trace-url", FileFlag}

// KeyName is the key of a program's flag in the file.
func KeyName(program, flag string) string {
	name := strings.ReplaceAll(flag, "-", "_")
	if program == Gateway && !slices.Contains(Shared, flag) {
		return Section + "." + name
	}
	return name
}

// known are the names that a file may have, as the flags spell them.
var known = func() map[string]bool {
	names := map[string]bool{}
	for _, k := range Keys {
		names[k.Flag()] = true
	}
	return names
}()

// PoolMode names the preset. It is a key of the file and a flag.
const PoolMode = "pool-mode"

// PoolingFlag declares the flag without which there is no pool.
func PoolingFlag(f *pflag.FlagSet, to *bool) {
	f.BoolVar(to, "pooling-enabled", true, "there is a pool; with false a worker-host starts no workers, and calls are refused")
}

// aliases are the names that the Elixir pool has for settings: as the file spells them, and the flag that they set.
var aliases = map[string]string{
	"pool_size":                          "workers",
	"circuit_breaker.failure_threshold":  "breaker-failures",
	"circuit_breaker.success_threshold":  "breaker-successes",
	"circuit_breaker.timeout":            "breaker-timeout",
	"error_handler.error_rate_threshold": "error-rate-threshold",
	"error_handler.alert_destinations":   "alert-destinations",
}

// nameOf is a flag as the file is expected to spell it: by the Elixir pool's name, if that has one.
func nameOf(flag string) string {
	for name, of := range aliases {
		if of == flag {
			return name
		}
	}
	return strings.ReplaceAll(flag, "-", "_")
}

// old are names of the Elixir pool's earlier bridge. They count, with a warning that names the present one.
var old = map[string]string{
	"python_bridge.python_executable": "python",
	"python_bridge.default_timeout":   "operation-timeout",
}

// sections are the keys whose value is a map of keys.
var sections = []string{"circuit_breaker", "error_handler", Section, "python_bridge"}

// inline are the flags that name a file, or hold its content: the file may have it as a map.
var inline = []string{"lm", "job-defaults"}

// presets are the settings of a pool_mode; what is set elsewhere beats them. cpus is the number of processors.
func presets(mode string, cpus int) map[string]string {
	switch mode {
	case "development":
		return map[string]string{"workers": "2", "overflow": "2", "worker-module": "enhanced"}
	case "test":
		return map[string]string{"workers": "2", "overflow": "0", "worker-module": "basic"}
	case "production":
		return map[string]string{"workers": itoa(2 * cpus), "overflow": itoa(cpus), "worker-module": "enhanced", "checkout-timeout": "5s", "operation-timeout": "30s", "breaker-timeout": "30s"}
	}
	return nil
}

// Modes are the values of pool_mode.
var Modes = []string{"development", "test", "production"}

// names are all keys that a file may have at its top.
func names() []string {
	all := slices.Clone(sections)
	for name := range known {
		all = append(all, strings.ReplaceAll(name, "-", "_"))
	}
	for _, table := range []map[string]string{aliases, old} {
		for name := range table {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// near is the known name that is nearest to an unknown one, "" if none is near.
func near(name string) string {
	best, meant := 3, ""
	for _, n := range names() {
		if d := levenshtein.ComputeDistance(name, n); d < best {
			best, meant = d, n
		}
	}
	return meant
}

// kindOf is the kind of a flag, in the program's own words.
func kindOf(flag string) string {
	for _, k := range Keys {
		if k.Flag() == flag {
			return k.Kind
		}
	}
	return ""
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
