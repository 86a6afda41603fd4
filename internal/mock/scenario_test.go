package mock

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "scenario.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAScenarioThatSaysNothingOrTooMuchIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		`{"rules": [{"command": "predict"}]}`:                                        "rules[0]: must have outputs, result, error or latency_ms, got none",
		`{"rules": [{"latency_ms": 1}, {"command": "ping", "outputs": {}}]}`:         `rules[1]: outputs must be of predict or execute_program, got "ping"`,
		`{"rules": [{"command": "predict", "result": 1}]}`:                           `rules[0]: result must be of a command of a module, got "predict"`,
		`{"rules": [{"error": {"error_category": "oops"}}]}`:                         `error_category must be one of`,
		`{"rules": [{"error": {"error_category": "timeout"}, "outputs": {"a": 1}}]}`: "must have outputs, result or error, got two of them",
		`{"rules": [{"outputs": {"a": 1}, "times": 2}]}`:                             "times and latency_ms must be in a rule without outputs and result",
		`{"rules": [{"latency_ms": -1}]}`:                                            "latency_ms must be 0 to 86400000, got -1",
		`{"rules": [{"latency_ms": 1, "times": -1}]}`:                                "times must be 1 or more, got -1",
		`{"rules": [{"latency": 1}]}`:                                                `unknown field "latency"`,
		`{"rules": [], "rules": []}`:                                                 "duplicate_key",
		`{"rules": {}}`:                                                              "cannot unmarshal",
	} {
		if _, err := Load(file(t, text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestARuleStrikesTheAttemptsThatItMatchesAsOftenAsItSays(t *testing.T) {
	s, err := Load(file(t, `{"rules": [
		{"command": "predict", "where": {"n": 1}, "error": {"error_category": "connection_error"}, "times": 2},
		{"where": {"n": 1}, "latency_ms": 5}, {"command": "execute_program", "outputs": {"a": 1}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	strike := func(command string, n any) string {
		switch r := s.fault(command, map[string]any{"n": n, "more": true}); {
		case r == nil:
			return "nothing"
		case r.Error != nil:
			return "error"
		}
		return "latency"
	}
	for i, c := range []struct {
		command string
		n       any
		want    string
	}{
		{"predict", int64(1), "error"}, {"predict", "1", "nothing"}, {"ping", int64(1), "latency"}, {"predict", 1.0, "error"}, {"predict", int64(1), "latency"}, {"predict", int64(2), "nothing"},
	} {
		if got := strike(c.command, c.n); got != c.want {
			t.Errorf("%d: %s of %v: %s, want %s", i, c.command, c.n, got, c.want)
		}
	}
}

func TestAModeThatIsUnknownOrDoesNotFitIsRefused(t *testing.T) {
	answer := []Rule{{Outputs: map[string]any{"answer": "x"}}}
	for want, c := range map[string]struct {
		o    Options
		with Setup
	}{
		`--test-mode (or $TEST_MODE) must be mock_adapter, bridge_mock or full_integration, got "mock"`: {Options{Mode: "mock"}, Setup{}},
		"--scenario has no effect without --test-mode":                                                  {Options{Scenario: "x.json"}, Setup{}},
		"no such file": {Options{Mode: "mock_adapter", Scenario: "nowhere.json"}, Setup{}},
		"--engine must be left out in test mode full_integration, got stub":                     {Options{Mode: "full_integration"}, Setup{Engine: "stub"}},
		"--import must be left out in test mode mock_adapter":                                   {Options{Mode: "mock_adapter"}, Setup{Modules: true}},
		"a scenario must have no outputs in test mode full_integration beside a language model": {Options{Mode: "full_integration", Rules: answer}, Setup{Model: true}},
	} {
		if _, _, err := c.o.Resolve(c.with); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	for _, o := range []Options{{}, {Mode: "mock_adapter", Rules: answer}, {Mode: "bridge_mock", Rules: answer}, {Mode: "full_integration", Rules: answer}} {
		if mode, _, err := o.Resolve(Setup{Engine: "dspy"}); err != nil || string(mode) != o.Mode {
			t.Errorf("%s: %v", o.Mode, err)
		}
	}
}

func TestOnlyModesThatCallNoModelDoWithoutKeys(t *testing.T) {
	env := func(name string) string { return map[string]string{"SET": "value"}[name] }
	for mode, want := range map[Mode]bool{Adapter: true, Bridge: true, Integration: false, "": false} {
		if keys := mode.Keys(env); (keys("UNSET") != "") != want || keys("SET") != "value" {
			t.Errorf("%q: %q %q", mode, keys("UNSET"), keys("SET"))
		}
	}
}
