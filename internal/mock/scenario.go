package mock

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/jobs"
	"github.com/dspex/dspex/internal/wire"
)

// Rule is what happens to attempts that it matches: those of its command whose inputs have the values of Where.
type Rule struct {
	Command string          `json:"command,omitempty"` // "": every one
	Where   map[string]any  `json:"where,omitempty"`   // of execute_program the inputs, of others the arguments; others may be there
	Outputs map[string]any  `json:"outputs,omitempty"` // of predict and execute_program
	Result  json.RawMessage `json:"result,omitempty"`  // of a command of the user's modules, where they are not imported
	Error   *Failure        `json:"error,omitempty"`
	Latency int64           `json:"latency_ms,omitempty"`
	Times   int             `json:"times,omitempty"` // of error and latency: only this many attempts; 0: all
}

// Failure is an injected error.
type Failure struct {
	Category     string `json:"error_category"` // with or without _error
	Code         string `json:"code,omitempty"`
	Message      string `json:"message,omitempty"`
	Retryable    *bool  `json:"retryable,omitempty"` // nil: it is
	RetryAfterMS int64  `json:"retry_after_ms,omitempty"`
}

// Scenario is a list of rules. It is safe for concurrent use; nil has no rules.
type Scenario struct {
	rules []Rule
	mu    sync.Mutex
	used  []int // attempts that each rule applied to
}

// maxScenario bounds a file.
const maxScenario = 1 << 20

// Load reads a scenario file: {"rules": [...]}.
func Load(path string) (*Scenario, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(b) > maxScenario {
		return nil, fmt.Errorf("scenario %s must have at most %d bytes, got %d", path, maxScenario, len(b))
	}
	var f struct {
		Rules []Rule `json:"rules"`
	}
	// encoding/json takes keys in any case and the last of two equal ones.
	if _, err := wire.FromJSON(b, wire.Request); err != nil {
		return nil, fmt.Errorf("scenario %s: %w", path, err)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return nil, fmt.Errorf("scenario %s: %w", path, err)
	}
	s, err := New(f.Rules)
	if err != nil {
		return nil, fmt.Errorf("scenario %s: %w", path, err)
	}
	return s, nil
}

// New checks the rules, and reports everything that is wrong with them.
func New(rules []Rule) (*Scenario, error) {
	var wrong []error
	for i, r := range rules {
		for _, problem := range r.check() {
			wrong = append(wrong, fmt.Errorf("rules[%d]: %s", i, problem))
		}
	}
	return &Scenario{rules: slices.Clone(rules), used: make([]int, len(rules))}, errors.Join(wrong...)
}

// maxLatency of a rule: as long as an attempt may take.
const maxLatency = 24 * time.Hour

func (r Rule) check() (wrong []string) {
	no := func(bad bool, format string, args ...any) {
		if bad {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	runs := r.Command == "" || r.Command == "predict" || r.Command == "execute_program"
	_, builtin := commands[r.Command]
	no(r.Outputs == nil && r.Result == nil && r.Error == nil && r.Latency == 0, "must have outputs, result, error or latency_ms, got none")
	no(r.Outputs != nil && !runs, "outputs must be of predict or execute_program, got %q", r.Command)
	no(r.Result != nil && (r.Command == "" || builtin), "result must be of a command of a module, got %q", r.Command)
	no(r.Error != nil && (r.Outputs != nil || r.Result != nil), "must have outputs, result or error, got two of them")
	no((r.Outputs != nil || r.Result != nil) && (r.Times != 0 || r.Latency != 0), "times and latency_ms must be in a rule without outputs and result: the first rule that fails or delays and the first that answers both count")
	no(r.Latency < 0 || r.Latency > maxLatency.Milliseconds(), "latency_ms must be 0 to %d, got %d", maxLatency.Milliseconds(), r.Latency)
	no(r.Times < 0, "times must be 1 or more, got %d", r.Times)
	if r.Error != nil {
		_, known := jobs.ParseCategory(r.Error.Category)
		no(!known, "error_category must be one of %v, got %q", jobs.Categories(), r.Error.Category)
		no(r.Error.RetryAfterMS < 0, "retry_after_ms must be 0 or more, got %d", r.Error.RetryAfterMS)
	}
	return wrong
}

// matches compares values by their JSON, so that 1 is 1 whatever its Go type.
func (r Rule) matches(command string, inputs map[string]any) bool {
	if r.Command != "" && r.Command != command {
		return false
	}
	for name, want := range r.Where {
		got, there := inputs[name]
		if !there || spelled(got) != spelled(want) {
			return false
		}
	}
	return true
}

func spelled(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}

// inputsOf are what a command works on.
func inputsOf(command string, args map[string]any) map[string]any {
	if command != "execute_program" {
		return args
	}
	inputs, _ := args["inputs"].(map[string]any)
	return inputs
}

// fault is the fault of one more attempt; nil: none.
func (s *Scenario) fault(command string, inputs map[string]any) *Rule {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.rules {
		r := &s.rules[i]
		if r.Error == nil && r.Latency == 0 || r.Times > 0 && s.used[i] >= r.Times || !r.matches(command, inputs) {
			continue
		}
		s.used[i]++
		return r
	}
	return nil
}

// Answer is what a scenario gives to the language model, or to the engine in its place.
type Answer struct {
	Where   map[string]any `json:"where" msgpack:"where"`
	Outputs map[string]any `json:"outputs" msgpack:"outputs"`
}

// Answers are those of the rules with outputs, and then the one of the original's first example. A command counts for none of
// them: a model does not get it.
func (s *Scenario) Answers() []Answer {
	var list []Answer
	if s != nil {
		for _, r := range s.rules {
			if r.Outputs != nil {
				list = append(list, Answer{notNil(r.Where), r.Outputs})
			}
		}
	}
	return append(list, Answer{map[string]any{"question": "What is the capital of France?"}, map[string]any{"answer": "Paris"}})
}

func notNil(m map[string]any) map[string]any {
	if m == nil {
		return map[string]any{}
	}
	return m
}

// Find is the first answer for the inputs, nil if there is none.
func Find(answers []Answer, inputs map[string]any) map[string]any {
	for _, a := range answers {
		if (Rule{Where: a.Where}).matches("", inputs) {
			return a.Outputs
		}
	}
	return nil
}

// FindText is the first answer for inputs as a prompt has them: as text.
func FindText(answers []Answer, inputs map[string]string) map[string]any {
	for _, a := range answers {
		if fitsText(a.Where, inputs) {
			return a.Outputs
		}
	}
	return nil
}

func fitsText(where map[string]any, inputs map[string]string) bool {
	for name, want := range where {
		text, ok := want.(string)
		if !ok {
			text = spelled(want)
		}
		if got, there := inputs[name]; !there || strings.TrimSpace(got) != strings.TrimSpace(text) {
			return false
		}
	}
	return true
}

// result is what stands in for a command of a module.
func (s *Scenario) result(command string, args map[string]any) (any, bool) {
	if s == nil {
		return nil, false
	}
	for _, r := range s.rules {
		if r.Result == nil || !r.matches(command, args) {
			continue
		}
		var v any
		if json.Unmarshal(r.Result, &v) == nil {
			return v, true
		}
	}
	return nil, false
}

func (f *Failure) frame() frame.Frame {
	category, _ := jobs.ParseCategory(f.Category)
	detail := map[string]any{"retryable": f.Retryable == nil || *f.Retryable}
	if f.RetryAfterMS > 0 {
		detail["retry_after_ms"] = f.RetryAfterMS
	}
	code, message := f.Code, f.Message
	if code == "" {
		code = "injected"
	}
	if message == "" {
		message = "an error of the scenario"
	}
	return errorFrame(string(category), code, message, detail)
}
