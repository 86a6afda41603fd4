package e2e

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/dspex/dspex"
)

// nasty are programs that do to their worker what programs should not, each with the code that its job ends with ("": none).
// Those that end the process come last.
var nasty = []struct{ program, code string }{
	{"loop_of_its_own", ""},
	{"sleeping_tools", ""},
	{"holds_the_loop", ""},
	{"unprintable", "user_error"},
	{"unprintable_cause", "user_error"},
	{"exits", "user_exit"},
	{"interrupts_itself", "user_exit"},
	{"cancels_itself", "user_error"},
	{"threads_live_on", ""},
	{"threads_raise", ""},
	{"tasks_live_on", ""},
	{"forks_and_leaves", ""},
	{"forks_and_returns_twice", ""},
	{"leaves_a_process", ""},
	{"huge", "encode_error"},
	{"not_a_number", ""},
	{"recursion", "user_error"},
	{"deep", "encode_error"},
	{"cyclic", "encode_error"},
	{"liar", "user_exit"},
	{"patches_dspy", ""},
	{"prints", ""},
	{"breaks_logging", "user_error"},
	{"changes_the_process", ""},
	{"takes_the_signals", ""},
	{"much_memory", ""},
	{"own_model_fails", "lm_connection"},
	{"stops_the_loop", ""},
	{"kills_the_worker", "worker_died"},
}

// One worker serves all of them, and beside each a steady caller, whose calls all succeed in the time that each of them has.
func TestASteadyCallerIsServedBesideTheNastiestPrograms(t *testing.T) {
	d := startIn(t, "../../python/tests/modules", "--import", "nasty_programs", "--workers", "1", "--overflow", "0")
	ctx, c := connectTo(t, d.url)
	done, served := make(chan struct{}), make(chan int)
	go func() { served <- steady(ctx, t, c, done) }()
	for _, n := range nasty {
		args := dspex.Args{"program_id": n.program, "inputs": map[string]any{}}
		_, err := c.Execute(ctx, "nasty", "execute_program", args, dspex.WithMaxRetries(0), dspex.WithTimeout(time.Minute))
		e, _ := errors.AsType[*dspex.Error](err)
		got := ""
		if e != nil {
			got = e.Code
		}
		if err != nil && e == nil || got != n.code {
			t.Errorf("%s: got %q (%v), want %q", n.program, got, err, n.code)
		}
	}
	close(done)
	if n := <-served; n < len(nasty) {
		t.Errorf("%d calls beside %d programs", n, len(nasty))
	}
}

// steady calls without end, one after the other, and counts.
func steady(ctx context.Context, t *testing.T, c *dspex.Client, done <-chan struct{}) int {
	for n := 0; ; n++ {
		select {
		case <-done:
			return n
		default:
		}
		r, err := c.Execute(ctx, "steady", "predict", dspex.Args{"question": fmt.Sprint("Is it ", n, "?")}, dspex.WithTimeout(time.Minute))
		if err != nil || r.Attempt > 2 {
			t.Errorf("call %d, attempt %d: %v", n, r.Attempt, err)
		}
	}
}
