package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/dspextest"
	"github.com/dspex/dspex/internal/programtest"
)

// TestBatchScripts runs testdata/batch/*.txtar against a whole deployment without Python. A question "fail" fails.
func TestBatchScripts(t *testing.T) {
	fails := dspextest.Rule{Where: map[string]any{"question": "fail"}, Error: &dspextest.Failure{Category: dspex.ErrPython, Code: "user_error", Message: "as the scenario says", Permanent: true}}
	url := dspextest.Start(t, dspextest.WithMode(dspextest.MockAdapter), dspextest.WithScenario(fails)).URL()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/batch",
		Setup: func(env *testscript.Env) error {
			env.Setenv("NATS_URL", url)
			env.Setenv("HOME", env.WorkDir)
			return nil
		},
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"fails": programtest.Fails},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}
