package host_test

import (
	"context"
	"testing"

	"github.com/dspex/dspex/internal/frame"
	"github.com/dspex/dspex/internal/wire"
)

// foreignFailure is the failure of a language model that the program made itself.
func foreignFailure() frame.Frame {
	detail := wire.AppendBool(wire.AppendStr(wire.AppendMap(nil, 3), "retryable"), true)
	detail = wire.AppendBool(wire.AppendStr(detail, "lm_called"), false)
	detail = wire.AppendMap(wire.AppendStr(detail, "lm"), 2)
	detail = wire.AppendStr(wire.AppendStr(detail, "name"), "openai/mine")
	detail = wire.AppendBool(wire.AppendStr(detail, "of_profile"), false)
	return frame.Frame{Type: frame.Error, Body: frame.ErrorBody{Category: "connection", Code: "lm_connection", Message: "scripted", Detail: detail}.AppendBody(nil)}
}

func execute(program, model string) string {
	return `{"command":"execute_program","args":{"program_id":"` + program + `","inputs":{}},"options":{"lm":"` + model + `","max_retries":0}}`
}

func TestAModelThatAProgramMadeItselfOpensNoBreaker(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		y.script(func(_ context.Context, c frame.CallBody) (frame.Frame, error, bool) {
			return foreignFailure(), nil, c.Command == "execute_program"
		})
		for range 20 {
			if r := y.call("dspex.rpc.session.mallory", "", execute("own_lm", "gpt")); r.Error.Code != "lm_connection" {
				t.Fatalf("%+v", r)
			}
		}
		if r := y.call("dspex.rpc.session.bob", "", predict("gpt", "")); !r.OK {
			t.Errorf("a job of the profile's model: %+v", r)
		}
		if b := y.breakers("h1")["lm.test/gpt"]; b.FailureCount != 0 {
			t.Errorf("%+v", b)
		}
	})
}

func TestAProgramThatHasCalledNoModelIsNotHeldByItsBreaker(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		y.outage(map[string]string{"gpt": "lm_server_error"})
		down := y.pool.hook
		y.script(func(ctx context.Context, c frame.CallBody) (frame.Frame, error, bool) {
			if c.Command == "execute_program" {
				meta := wire.AppendBool(wire.AppendStr(wire.AppendMap(nil, 1), "lm_called"), false)
				return frame.Frame{Type: frame.Result, Body: frame.ResultBody{Value: wire.AppendMap(nil, 0), Meta: meta, StateVersion: c.StateVersion}.AppendBody(nil)}, nil, true
			}
			return down(ctx, c)
		})
		if r := y.call("dspex.rpc.session.a", "", execute("no_lm", "gpt")); !r.OK {
			t.Fatalf("%+v", r)
		}
		for range 5 {
			y.call("dspex.rpc.session.b", "", predict("gpt", once))
		}
		if r := y.call("dspex.rpc.session.b", "", predict("gpt", once)); r.Error.Code != "breaker_open" {
			t.Fatalf("%+v", r)
		}
		if r := y.call("dspex.rpc.session.a", "", execute("no_lm", "gpt")); !r.OK {
			t.Errorf("a program that calls no model: %+v", r)
		}
		if r := y.call("dspex.rpc.session.a", "", execute("unknown", "gpt")); r.Error.Code != "breaker_open" {
			t.Errorf("a program of which nothing is known: %+v", r)
		}
	})
}
