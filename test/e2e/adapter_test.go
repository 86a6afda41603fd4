package e2e

import (
	"errors"
	"testing"

	"github.com/dspex/dspex"
)

// TestASingleBridgesProgramHasTheIdThatItWasGiven: two callers with the same id do not meet.
func TestASingleBridgesProgramHasTheIdThatItWasGiven(t *testing.T) {
	ctx, c := connect(t)
	one, other := c.Adapter(), c.Adapter()
	for _, a := range []*dspex.Adapter{one, other} {
		signature := map[*dspex.Adapter]string{one: "question -> answer", other: "text -> mood"}[a]
		if id, err := a.CreateProgram(ctx, dspex.Args{"id": "qa_bot", "signature": signature}); err != nil || id != "qa_bot" {
			t.Fatalf("%s: %q %v", signature, id, err)
		}
	}
	reply, err := one.ExecuteProgram(ctx, "qa_bot", map[string]any{"question": "What is the capital of France?"})
	if err != nil {
		t.Fatal(err)
	}
	if outputs, _ := reply.Outputs()["outputs"].(map[string]any); outputs["answer"] == nil {
		t.Errorf("%s", reply.Result)
	}
	if reply, err = other.ExecuteProgram(ctx, "qa_bot", map[string]any{"text": "fine"}); err != nil || reply.Job.Session != other.Session() {
		t.Errorf("the other one: %v %v", reply.Job, err)
	}
	if err := one.Close(ctx); err != nil {
		t.Fatal(err)
	}
	var e *dspex.Error
	if _, err = one.ExecuteProgram(ctx, "qa_bot", map[string]any{"question": "?"}); !errors.As(err, &e) || e.Code != "program_unknown" {
		t.Errorf("after its end: %v", err)
	}
}
