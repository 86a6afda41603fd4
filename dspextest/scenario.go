package dspextest

import (
	"encoding/json"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/devserver"
	"github.com/dspex/dspex/internal/mock"
)

// Rule makes a scenario answer, fail or delay the attempts that it matches: those of its command whose inputs have the values of Where.
type Rule struct {
	Command string         // "" matches every command
	Where   map[string]any // inputs of execute_program, arguments of another command; there may be others besides

	Outputs map[string]any  // of predict and execute_program
	Result  json.RawMessage // of a command of your modules, where they are not imported
	Error   *Failure
	Latency time.Duration // in whole milliseconds
	Times   int           // Error and Latency apply to this many attempts; 0: to all
}

// Failure is the error of a Rule.
type Failure struct {
	Category   dspex.ErrorCategory
	Code       string // "injected" by default
	Message    string
	Permanent  bool // no attempt follows, and Retryable of the error is false
	RetryAfter time.Duration
}

// WithScenario adds rules: of those that answer the first that matches counts, and of those that fail or delay the first that is not used
// up.
func WithScenario(rules ...Rule) Option {
	return option(func(c *devserver.Config) {
		for _, r := range rules {
			c.Test.Rules = append(c.Test.Rules, r.mock())
		}
	})
}

// WithScenarioFile adds the rules of a file: {"rules": [...]}. Their keys are in docs/testing.md.
func WithScenarioFile(path string) Option {
	return option(func(c *devserver.Config) { c.Test.Scenario = path })
}

func (r Rule) mock() mock.Rule {
	m := mock.Rule{Command: r.Command, Where: r.Where, Outputs: r.Outputs, Result: r.Result, Latency: r.Latency.Milliseconds(), Times: r.Times}
	if f := r.Error; f != nil {
		retryable := !f.Permanent
		m.Error = &mock.Failure{Category: string(f.Category), Code: f.Code, Message: f.Message, Retryable: &retryable, RetryAfterMS: f.RetryAfter.Milliseconds()}
	}
	return m
}
