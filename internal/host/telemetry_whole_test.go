package host_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/dspex/dspex/internal/frame"
)

func TestEachAttemptTellsOfItsCheckoutItsRunAndItsError(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		sub := y.subscribe("dspex.telemetry.>")
		y.script(func(_ context.Context, c frame.CallBody) (frame.Frame, error, bool) {
			time.Sleep(20 * time.Millisecond)
			return failure("connection", "lost", true), nil, c.Attempt == 1
		})
		if r := y.call("dspex.rpc.session.s", "j", `{"command":"append","options":{"backoff":[1]}}`); !r.OK || r.Attempt != 2 {
			t.Fatalf("%+v", r)
		}
		if r := y.call("dspex.rpc.anonymous", "a", `{"command":"append","options":{"max_retries":0}}`); r.OK {
			t.Fatalf("%+v", r)
		}
		for _, want := range []string{
			"checkout s/j 1 w/0  0", "execute s/j 1 w/0 connection 20", "error s/j 1 w/0 connection 20",
			"checkout s/j 2 w/0  0", "execute s/j 2 w/0  20",
			"checkout /a 1 w/0  0", "execute /a 1 w/0 connection 20", "error /a 1 w/0 connection 20",
		} {
			m, err := sub.NextMsg(time.Second)
			if err != nil {
				t.Fatalf("%s: %v", want, err)
			}
			var v struct {
				Event, Session, Job, Command, Worker string
				Attempt                              int
				Duration                             float64
				Category                             string `json:"error_category"`
			}
			if err := json.Unmarshal(m.Data, &v); err != nil {
				t.Fatal(err)
			}
			kind := m.Subject[len("dspex.telemetry.session_pool."):]
			got := fmt.Sprintf("%s %s/%s %d %s %s %s", kind, v.Session, v.Job, v.Attempt, v.Worker, v.Category, fmt.Sprint(v.Duration))
			if got != want || v.Event != "dspex.session_pool."+kind || v.Command != "append" {
				t.Errorf("%s (%+v), want %s", got, v, want)
			}
		}
		if m, err := sub.NextMsg(time.Second); err == nil {
			t.Errorf("one more: %s", m.Data)
		}
	})
}
