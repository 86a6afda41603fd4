package mock

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/pflag"
)

// Options are what the people who test a program may choose. The zero value is no test.
type Options struct {
	Mode     string // one of Modes
	Scenario string // file of rules
	Rules    []Rule // in front of those
}

// Flags declares their flags.
func (o *Options) Flags(f *pflag.FlagSet) {
	f.StringVar(&o.Mode, "test-mode", "", "for tests of programs that use dspex: mock_adapter (no Python), bridge_mock (the stub engine) or full_integration (DSPy)")
	f.StringVar(&o.Scenario, "scenario", "", "file with answers, errors and latencies of the test mode")
}

// Setup is the rest of the configuration.
type Setup struct {
	Engine  string // dspy, the default, or stub
	Modules bool   // modules of a user are imported
	Model   bool   // language models are configured, or there is no echo model
}

// Resolve reads the options and reports everything that is wrong, at once.
func (o Options) Resolve(with Setup) (Mode, *Scenario, error) {
	mode, err := ParseMode(o.Mode)
	if err != nil {
		return "", nil, fmt.Errorf("--test-mode (or $%s) %w", Variable, err)
	}
	rules := o.Rules
	var wrong []error
	if mode == "" {
		if o.Scenario != "" || len(rules) > 0 {
			wrong = append(wrong, errors.New("--scenario has no effect without --test-mode"))
		}
		return "", nil, errors.Join(wrong...)
	}
	if o.Scenario != "" {
		read, err := Load(o.Scenario)
		if err != nil {
			return "", nil, fmt.Errorf("--%w", err)
		}
		rules = append(slices.Clip(rules), read.rules...)
	}
	s, err := New(rules)
	if err != nil {
		wrong = append(wrong, fmt.Errorf("scenario: %w", err))
	}
	if with.Engine == "stub" && mode != Bridge {
		wrong = append(wrong, fmt.Errorf("--engine must be left out in test mode %s, got stub", mode))
	}
	if with.Modules && mode == Adapter {
		wrong = append(wrong, fmt.Errorf("--import must be left out in test mode %s, which has no Python: a rule of the scenario with a result replaces a command", mode))
	}
	if mode == Integration && with.Model && len(s.Answers()) > 1 {
		wrong = append(wrong, fmt.Errorf("a scenario must have no outputs in test mode %s beside a language model: that one answers", mode))
	}
	return mode, s, errors.Join(wrong...)
}
