// Package mock is a pool of workers without Python, for tests of programs that use dspex. Sessions, programs and conversations are kept
// as Python workers keep them, and answers are made up, or come from a scenario. It has no language model and runs no code of a user.
// Scenarios also apply to pools of Python workers: WithFaults.
package mock

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Mode is what stands behind the endpoints while a program is tested.
type Mode string

// The modes of the original, by their names.
const (
	Adapter     Mode = "mock_adapter"     // no Python
	Bridge      Mode = "bridge_mock"      // Python workers with the stub engine
	Integration Mode = "full_integration" // Python workers with DSPy
)

// Modes are all of them.
var Modes = []Mode{Adapter, Bridge, Integration}

// Variable is the environment variable that names the mode.
const Variable = "TEST_MODE"

// ParseMode reads a mode. "" is none.
func ParseMode(text string) (Mode, error) {
	if mode := Mode(text); text == "" || slices.Contains(Modes, mode) {
		return mode, nil
	}
	return "", fmt.Errorf("must be %s, %s or %s, got %q", Adapter, Bridge, Integration, text)
}

// Engine is the engine of the Python workers in the mode, "" if there are none.
func (m Mode) Engine() string {
	switch m {
	case Bridge:
		return "stub"
	case Integration:
		return "dspy"
	}
	return ""
}

// Keys gives the modes that call no language model a key wherever one is missing: nothing is sent anywhere.
func (m Mode) Keys(getenv func(string) string) func(string) string {
	if m != Adapter && m != Bridge {
		return getenv
	}
	return func(name string) string {
		if v := getenv(name); v != "" {
			return v
		}
		return "no-key-in-" + strings.ReplaceAll(string(m), "_", "-")
	}
}

// Pool is workers in Go.
type Pool struct {
	slots    int // of each worker
	scenario *Scenario
	answers  []Answer

	mu      sync.Mutex
	workers []*worker
	changed chan struct{} // closed and replaced whenever a slot comes free
}

// slot is one place in a worker.
type slot struct {
	p *Pool
	w *worker
}
