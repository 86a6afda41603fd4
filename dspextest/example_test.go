package dspextest_test

import (
	"testing"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/dspextest"
)

// summarize is what a program does with dspex.
func summarize(t *testing.T, c *dspex.Client, text string) (string, error) {
	reply, err := c.Execute(t.Context(), "user_123", "predict", dspex.Args{"text": text}, dspex.WithOutputs("summary"))
	summary, _ := reply.Outputs()["summary"].(string)
	return summary, err
}

// A test that runs without Python; with TEST_MODE=bridge_mock or full_integration the same test runs there.
func ExampleOpen() {
	_ = func(t *testing.T) { // func TestSummarize
		pool := dspextest.Open(t, dspextest.WithScenario(
			dspextest.Rule{Command: "predict", Where: map[string]any{"text": "a long text"}, Outputs: map[string]any{"summary": "short"}},
			dspextest.Rule{Where: map[string]any{"text": "a long text"}, Error: &dspextest.Failure{Category: "connection"}, Times: 2},
		))
		if got, err := summarize(t, pool.Client(), "a long text"); err != nil || got != "short" {
			t.Errorf("got %q, %v", got, err)
		}
	}
	// Output:
}
