package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/dspex/dspex/internal/fair"
)

func nothing(string) string { return "" }

// worker is a program with some flags of a worker-host.
type worker struct {
	workers, overflow int
	checkout          time.Duration
	imports           []string
	lm                string
}

func (w *worker) flags() *pflag.FlagSet {
	f := pflag.NewFlagSet("worker-host", pflag.ContinueOnError)
	f.IntVar(&w.workers, "workers", 4, "")
	f.IntVar(&w.overflow, "overflow", 2, "")
	f.DurationVar(&w.checkout, "checkout-timeout", 5*time.Second, "")
	f.StringSliceVar(&w.imports, "import", nil, "")
	f.StringVar(&w.lm, "lm", "", "")
	Flags(f, true)
	return f
}

func write(t *testing.T, name, text string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestAFlagWinsOverItsVariableThatOverTheFileThatOverThePreset(t *testing.T) {
	dir := write(t, "dspex.yaml", "pool_mode: test\npool_size: 7\ncheckout_timeout: 1500\n")
	for name, of := range map[string]struct {
		args      []string
		env, want string
	}{
		"file":     {nil, "", "7"},
		"variable": {nil, "8", "8"},
		"flag":     {[]string{"--workers", "9"}, "8", "9"},
	} {
		t.Run(name, func(t *testing.T) {
			var w worker
			f := w.flags()
			if err := f.Parse(of.args); err != nil {
				t.Fatal(err)
			}
			env := func(name string) string { return map[string]string{"DSPEX_WORKERS": of.env}[name] }
			if _, err := Set(f, env, dir); err != nil {
				t.Fatal(err)
			}
			if got := itoa(w.workers); got != of.want {
				t.Errorf("workers: got %s, want %s", got, of.want)
			}
			if w.overflow != 0 {
				t.Errorf("overflow is %d, the preset says 0", w.overflow)
			}
			if w.checkout != 1500*time.Millisecond {
				t.Errorf("checkout timeout: %v", w.checkout)
			}
		})
	}
}

func TestYAMLTOMLAndJSONSayTheSame(t *testing.T) {
	for name, text := range map[string]string{
		"a.yaml": "pool_size: 3\nimport: [a, b]\nlm:\n  default: x\n  profiles: {x: {provider: ollama, model: m, temperature: 0.5}}\n",
		"a.toml": "pool_size = 3\nimport = ['a', 'b']\n[lm]\ndefault = 'x'\n[lm.profiles.x]\nprovider = 'ollama'\nmodel = 'm'\ntemperature = 0.5\n",
		"a.json": `{"pool_size": 3, "import": ["a", "b"], "lm": {"default": "x", "profiles": {"x": {"provider": "ollama", "model": "m", "temperature": 0.5}}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			var w worker
			f := w.flags()
			if err := f.Parse([]string{"--config", filepath.Join(write(t, name, text), name)}); err != nil {
				t.Fatal(err)
			}
			if _, err := Set(f, nothing, ""); err != nil {
				t.Fatal(err)
			}
			if w.workers != 3 || !slices.Equal(w.imports, []string{"a", "b"}) {
				t.Errorf("workers %d, imports %v", w.workers, w.imports)
			}
			if want := `{"default":"x","profiles":{"x":{"model":"m","provider":"ollama","temperature":0.5}}}`; w.lm != want {
				t.Errorf("lm: got %s, want %s", w.lm, want)
			}
		})
	}
}

func TestAllThatIsWrongIsSaidAtOnceWithItsPlace(t *testing.T) {
	for name, of := range map[string]struct{ text, want string }{
		"f.yaml": {
			"pool_siez: 4\ncheckout_timeout: soon\nworkers: many\naccounts: maybe\npool_mode: fast\npassword: x\npool_size: 4\noverflow: [1]\ncircuit_breaker: 5\nerror_handler:\n  alert_destination: [logger]\n",
			`f.yaml:1:1: unknown key pool_siez: did you mean pool_size?
f.yaml:2:19: checkout_timeout must be milliseconds or a duration such as 500ms, 5s or 2m, got "soon"
f.yaml:3:10: workers must be a number, got "many"
f.yaml:4:11: accounts must be true or false, got "maybe"
f.yaml:5:12: pool_mode must be development, test or production, got "fast"
f.yaml:6:1: password must not be in a file of settings: use password_file, or $NATS_PASSWORD
f.yaml:7:1: pool_size must be set once, got it also in line 3
f.yaml:8:11: overflow must be a single value, got a list
f.yaml:9:18: circuit_breaker must be a map, got "5"
f.yaml:11:3: unknown key error_handler.alert_destination: did you mean error_handler.alert_destinations?`,
		},
		"f.toml": {
			"overfow = 1\nworkers = 'x'\n[circuit_breaker]\ntimeout = 'x'\n",
			`f.toml:1:1: unknown key overfow: did you mean overflow?
f.toml:2:1: workers must be a number, got "x"
f.toml:4:1: circuit_breaker.timeout must be milliseconds or a duration such as 500ms, 5s or 2m, got "x"`,
		},
		"g.yaml": {"a: [1\n", "g.yaml:1:1: not YAML: did not find expected ',' or ']'"},
		"g.toml": {"a = 1\na = 2\n", "g.toml:2:1: not TOML: key a is already defined"},
		"h.yaml": {"- 1\n", "h.yaml:1:1: the file must be a map of keys, got a list"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(name, []byte(of.text))
			if err == nil {
				t.Fatal("nothing is wrong with it")
			}
			if got := err.Error(); got != of.want {
				t.Errorf("got\n%s\nwant\n%s", got, of.want)
			}
		})
	}
}

func TestTenantWeightsAreAMapOrAText(t *testing.T) {
	for name, text := range map[string]string{
		"map.yaml":  "tenant_weights:\n  beta: 2\n  acme: 3\n",
		"text.yaml": "tenant_weights: acme=3,beta=2\n",
		"map.toml":  "[tenant_weights]\nacme = 3\nbeta = 2\n",
		"one.json":  `{"tenant_weights": {"acme": 3, "beta": 2}}`,
	} {
		var w fair.Weights
		flags := pflag.NewFlagSet("worker-host", pflag.ContinueOnError)
		flags.Var(&w, "tenant-weights", "")
		Flags(flags, true)
		if err := flags.Parse([]string{"--config", filepath.Join(write(t, name, text), name)}); err != nil {
			t.Fatal(err)
		}
		if _, err := Set(flags, nothing, ""); err != nil || w.String() != "acme=3,beta=2" {
			t.Errorf("%s: got %s %v", name, w.String(), err)
		}
	}
}

func TestTenantWeightsThatAreWrongAreNamedWithTheirPlace(t *testing.T) {
	for text, want := range map[string]string{
		"tenant_weights:\n  acme: 3\n  beta: 0\n":    "f.yaml:3:3: tenant_weights must be whole numbers from 1 to 100, got beta=0",
		"tenant_weights: {acme: 1.5}\n":              "f.yaml:1:18: tenant_weights must be whole numbers from 1 to 100, got acme=1.5",
		"tenant_weights: {acme: [1]}\n":              "f.yaml:1:18: tenant_weights must be a map of tenants to whole numbers, got acme: a list",
		"tenant_weights: {a b: 1}\n":                 `f.yaml:1:17: tenant_weights must be TENANT=WEIGHT, several separated by commas, got "a b=1"`,
		"tenant_weights: [acme]\n":                   "f.yaml:1:17: tenant_weights must be a single value, got a list",
		"tenant_weights: acme=3,acme=4\n":            "f.yaml:1:17: tenant_weights must have each tenant once, got acme twice",
		"slots: {slots: 1}\ntenant_weight: {a: 1}\n": "f.yaml:1:8: slots must be a single value, got a map\nf.yaml:2:1: unknown key tenant_weight: did you mean tenant_weights?",
	} {
		if _, err := Parse("f.yaml", []byte(text)); err == nil || err.Error() != want {
			t.Errorf("%s: got\n%v\nwant\n%s", text, err, want)
		}
	}
}

func TestAVariableThatIsWrongIsNamedWithTheReason(t *testing.T) {
	var w fair.Weights
	flags := pflag.NewFlagSet("worker-host", pflag.ContinueOnError)
	flags.Var(&w, "tenant-weights", "")
	_, err := Set(flags, func(name string) string { return map[string]string{"DSPEX_TENANT_WEIGHTS": "acme=101"}[name] }, t.TempDir())
	if want := "$DSPEX_TENANT_WEIGHTS must be whole numbers from 1 to 100, got acme=101"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestOldNamesCountAndWarn(t *testing.T) {
	f, err := Parse("f.yaml", []byte("python_bridge:\n  python_executable: python3.12\n  default_timeout: 30000\n"))
	if err != nil {
		t.Fatal(err)
	}
	if want := []Setting{{"python_bridge.python_executable", "python", "python3.12", Place{2, 3}}, {"python_bridge.default_timeout", "operation-timeout", "30s", Place{3, 3}}}; !slices.Equal(f.Settings, want) {
		t.Errorf("got %v", f.Settings)
	}
	if len(f.Warnings) != 2 || !strings.Contains(f.Warnings[0], "use python") {
		t.Errorf("warnings: %q", f.Warnings)
	}
}

func TestOneFileOnlyIsFound(t *testing.T) {
	dir := write(t, "dspex.yaml", "")
	if path, err := Find("", dir); err != nil || filepath.Base(path) != "dspex.yaml" {
		t.Errorf("%q %v", path, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "dspex.toml"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Find("", dir); err == nil || !strings.Contains(err.Error(), "--config") {
		t.Errorf("two files: %v", err)
	}
	if path, err := Find("", t.TempDir()); err != nil || path != "" {
		t.Errorf("none: %q %v", path, err)
	}
}

func TestWhatCountsIsShownWithItsOrigin(t *testing.T) {
	f, err := Parse("f.yaml", []byte("pool_mode: production\nslots: 8\n"))
	if err != nil {
		t.Fatal(err)
	}
	env := func(name string) string { return map[string]string{"DSPEX_GRACE": "9s"}[name] }
	got := map[string]Effective{}
	for _, e := range Show("worker-host", f, env) {
		got[e.Key] = e
	}
	for key, want := range map[string]Effective{
		"slots":                   {"slots", "8", "f.yaml:2"},
		"grace":                   {"grace", "9s", "$DSPEX_GRACE"},
		"circuit_breaker.timeout": {"circuit_breaker.timeout", "30s", "preset production"},
		"engine":                  {"engine", "dspy", "default"},
	} {
		if got[key] != want {
			t.Errorf("%s: got %+v, want %+v", key, got[key], want)
		}
	}
}

func TestTheExampleIsAFileWithoutFaults(t *testing.T) {
	f, err := Parse("dspex.yaml", []byte(Example()))
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Settings) < 9 {
		t.Errorf("%d settings", len(f.Settings))
	}
	var all strings.Builder
	inside := false
	for line := range strings.Lines(Example()) { // what it has in comments is right, too
		switch rest, ok := strings.CutPrefix(line, "# "); {
		case strings.HasPrefix(line, "# All other settings"):
			inside = true
		case inside && ok && regexp.MustCompile(`^([a-z_]+:\s|  [a-z])`).MatchString(rest):
			all.WriteString(rest)
		}
	}
	if whole, err := Parse("dspex.yaml", []byte(all.String())); err != nil || len(whole.Settings)+11 < len(known) {
		t.Errorf("%v: %d settings of %d\n%s", err, len(whole.Settings), len(known), all.String())
	}
}

func TestTheSchemaHasEveryKeyAndNoOther(t *testing.T) {
	s := Schema()
	properties, _ := s["properties"].(map[string]any)
	for name := range known {
		if own, ok := strings.CutPrefix(name, Section+"."); ok {
			section, _ := properties[Section].(map[string]any)
			if of, _ := section["properties"].(map[string]any); of[strings.ReplaceAll(own, "-", "_")] == nil {
				t.Errorf("%s is missing", name)
			}
			continue
		}
		if properties[strings.ReplaceAll(name, "-", "_")] == nil {
			t.Errorf("%s is missing", name)
		}
	}
	for _, section := range sections {
		if properties[section] == nil {
			t.Errorf("%s is missing", section)
		}
	}
	engine, _ := properties["engine"].(map[string]any)
	size, _ := properties["pool_size"].(map[string]any)
	for name, row := range map[string]struct{ got, want any }{
		"engine.enum": {engine["enum"], []string{"dspy", "stub"}}, "engine.default": {engine["default"], "dspy"},
		"pool_size.minimum": {size["minimum"], 1.0}, "pool_size.maximum": {size["maximum"], 256.0},
	} {
		if !reflect.DeepEqual(row.got, row.want) {
			t.Errorf("%s: got %v, want %v", name, row.got, row.want)
		}
	}
	if s["additionalProperties"] != false {
		t.Error("other keys are allowed")
	}
}

// TestValuesThatNoProgramTakesAreFaultsOfTheFile: of keys of all programs, with the place of the value.
func TestValuesThatNoProgramTakesAreFaultsOfTheFile(t *testing.T) {
	for line, want := range map[string]string{
		"engine: foo":                              `1:9: engine must be dspy or stub, got "foo"`,
		"pool_size: 300":                           "1:12: pool_size must be 1 to 256, got 300",
		"overflow: -1":                             "1:11: overflow must be 0 to 256, got -1",
		"replicas: 2":                              `1:11: replicas must be 1, 3 or 5, got "2"`,
		"recycle_jobs: -1":                         "1:15: recycle_jobs must be 0 or more, got -1",
		"jobs_size: lots":                          `1:12: jobs_size must be a whole number and a unit, such as 512MiB or 4GiB, got "lots"`,
		"checkout_timeout: 0":                      "1:19: checkout_timeout must be more than 0, got 0s",
		"results_min_age: 1s":                      "1:18: results_min_age must be 0 (never) or 15m to 24h, got 1s",
		"breaker_timeout: 2h":                      "1:18: breaker_timeout must be more than 0 and at most 1h, got 2h",
		"recycle_age: 5":                           "1:14: recycle_age must be 0 (never) or at least 1m, got 5ms",
		"metrics: here":                            `1:10: metrics must be HOST:PORT, got "here"`,
		"alert_destinations: [pager]":              `1:21: alert_destinations must be some of logger, telemetry and webhook, got "pager"`,
		"error_handler: {error_rate_threshold: 7}": "1:39: error_handler.error_rate_threshold must be more than 0 and at most 1, got 7",
		"recycle_age: 0\nworker_module: DSPex.PythonBridge.PoolWorkerV2\nreplicas: 3\njobs_size: 4GiB\nalert_destinations: [logger, webhook]": "",
	} {
		_, err := Parse("f", []byte(line))
		switch got := fmt.Sprint(err); {
		case want == "" && err != nil, want != "" && got != "f:"+want:
			t.Errorf("%s: got %s\nwant f:%s", line, got, want)
		}
	}
}

// TestWhatIsRightIsSetBesideWhatIsWrong: so a program can report its own faults with those of the file.
func TestWhatIsRightIsSetBesideWhatIsWrong(t *testing.T) {
	var w worker
	f := w.flags()
	if err := f.Parse([]string{"--config", filepath.Join(write(t, "f.yaml", "pool_siez: 1\nworkers: 7\noverflow: many\n"), "f.yaml")}); err != nil {
		t.Fatal(err)
	}
	file, err := Set(f, nothing, "")
	if err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("got %v, want two errors", err)
	}
	if w.workers != 7 {
		t.Errorf("workers: got %d, want 7", w.workers)
	}
	if len(file.Settings) != 1 {
		t.Errorf("settings: got %+v, want one", file.Settings)
	}
}

// TestAFaultInsideAMapHasThePlaceOfItsKey: what a program finds in profiles or defaults is located by the keys that it names.
func TestAFaultInsideAMapHasThePlaceOfItsKey(t *testing.T) {
	const text = "lm:\n  default: fast\n  profiles:\n    fast: {provider: opnai, model: x}\n    slow:\n      provider: openai\n      model: y\njob_defaults:\n  predict:\n    timout: 4\n"
	file, err := Parse("f.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	file.counts = []string{"lm", "job-defaults"}
	for line, want := range map[string]string{
		`--lm: LM profile "fast": provider must be openai or ollama, got "opnai"`: "f.yaml:4:12: lm:",
		`--lm: LM profile "slow": model must be shorter`:                          "f.yaml:7:7: lm:",
		`--lm: LM profile "slow": api_key: OPENAI_API_KEY is not set`:             "f.yaml:5:5: lm:",
		`--lm: the profiles are wrong`:                                            "f.yaml:3:3: lm:",
		`--lm: wrong`:                                                             "f.yaml:1:1: lm:",
		`--job-defaults given inline: unknown option timout of predict`:           "f.yaml:10:5: job_defaults given",
	} {
		if got := file.Locate(errors.New(line)).Error(); !strings.HasPrefix(got, want) {
			t.Errorf("got %s\nwant %s", got, want)
		}
	}
}

func TestAFaultOfANamedFileHasItsPlaceThere(t *testing.T) {
	dir := t.TempDir()
	named := filepath.Join(dir, "named.json")
	settings := filepath.Join(dir, "dspex.yaml")
	f, err := Parse(settings, []byte("slots: 8\nlm: "+named+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	at := func(what string) string { return f.About(f.Settings[1], what, what).Error() }
	if got, want := at("gone"), settings+":2:1: gone"; got != want {
		t.Errorf("of a file that is not there: must be %s, got %s", want, got)
	}
	for text, want := range map[string]string{
		"{\n  \"profiles\": {\n    \"fast\": {\"model\": 1}}}": ":3:14: fast: model", "{\"profiles\": {\n  x}}": ":2:3: fast: model", "{\"profiles\": {": ":1:14: fast: model", "": ":1:1: fast: model", "[]": ":1:1: fast: model",
	} {
		if err := os.WriteFile(named, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := at("fast: model"); got != named+want {
			t.Errorf("%q: must be %s, got %s", text, named+want, got)
		}
	}
}

func TestWhatIsWrongWithAFlagHasThePlaceOfItsSetting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dspex.yaml")
	if err := os.WriteFile(path, []byte("slots: 5\npool_size: 200\noverflow: 99\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	for _, name := range []string{"slots", "workers", "overflow"} {
		flags.Int(name, 1, "")
	}
	if err := flags.Parse([]string{"--overflow", "1000"}); err != nil {
		t.Fatal(err)
	}
	Flags(flags, true)
	file, err := Set(flags, func(name string) string { return map[string]string{"DSPEX_CONFIG": path}[name] }, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for given, want := range map[string]string{
		"--workers must be less, got 200":           path + ":2:1: pool_size must be less, got 200",
		"--overflow must be 0 to 256, got 1000":     "--overflow must be 0 to 256, got 1000", // not from the file
		"something else\n--slots: no such thing":    "something else\n" + path + ":1:1: slots: no such thing",
		"--slots-of-another must be less, got more": "--slots-of-another must be less, got more",
	} {
		if got := file.Locate(errors.New(given)); got.Error() != want {
			t.Errorf("got %s\nwant %s", got, want)
		}
	}
	if file.Locate(nil) != nil {
		t.Error("nothing is something")
	}
}
