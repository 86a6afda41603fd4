package host_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/dspex/dspex/internal/affinity"
	"github.com/dspex/dspex/internal/frame"
)

// neighbourOf is another session of the same partition.
func neighbourOf(session string) string {
	for n := 0; ; n++ {
		if id := fmt.Sprintf("neighbour_%d", n); affinity.Partition(id, 64) == affinity.Partition(session, 64) {
			return id
		}
	}
}

func TestAFullQueueBehindATenMinuteBackoffDelaysNoNeighbour(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		y.script(func(_ context.Context, c frame.CallBody) (frame.Frame, error, bool) {
			if c.Job != "gate" || c.Attempt > 1 {
				return frame.Frame{}, nil, false
			}
			return failureAfter("resource_error", "lm_rate_limit", true, uint64((10 * time.Minute).Milliseconds())), nil, true
		})
		began := time.Now()
		y.store("dspex.session.full", "gate", `{"command":"append"}`)
		for n := 1; n < 256; n++ {
			y.store("dspex.session.full", fmt.Sprintf("j%d", n), `{"command":"append"}`)
		}
		for n := range 256 { // calls wait beside what is published, in the order of all
			y.store("dspex.call.full", fmt.Sprintf("c%d", n), `{"command":"append"}`)
		}
		refused := y.call("dspex.rpc.session.full", "", `{"command":"append"}`)
		if refused.Error.Code != "session_queue_full" || refused.Error.Category != "resource_error" || refused.Error.RetryAfter != 1000 {
			t.Errorf("call 257: %+v", refused)
		}
		neighbour := neighbourOf("full")
		for n := range 10 {
			if r := y.call("dspex.rpc.session."+neighbour, "", `{"command":"append"}`); !r.OK {
				t.Fatalf("neighbour, call %d: %+v", n, r)
			}
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("the neighbour took %v", took)
		}
		y.pass(9 * time.Minute)
		if n := y.pool.runs.Load(); n != 11 {
			t.Errorf("%d runs while the gate is closed", n)
		}
		if o := y.end("full", "gate"); o.Outcome != "succeeded" || o.Attempts != 2 {
			t.Errorf("the job behind the gate: %+v", o)
		}
		if took := time.Since(began); took < 10*time.Minute || took > 11*time.Minute {
			t.Errorf("the gate opened after %v", took)
		}
		if o := y.end("full", "j255"); o.Outcome != "succeeded" || string(o.Reply.Result[:14]) != `["gate","j1","` {
			t.Errorf("the last one: %s %s", o.Outcome, o.Reply.Result)
		}
	})
}
