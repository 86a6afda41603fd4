package host_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dspex/dspex/internal/frame"
)

func TestAnErasedSessionIsDroppedByTheWorkersOfAllHosts(t *testing.T) {
	inFakeTime(t, func(t *testing.T, y *system) {
		defer y.anotherHost("h2")()
		received := func() []string {
			y.pool.mu.Lock()
			defer y.pool.mu.Unlock()
			return slices.Clone(y.pool.received)
		}
		y.call("dspex.rpc.session.s", "a", echo)
		y.call("dspex.rpc.sessions.cleanup", "b", `{"session":"s"}`)
		y.call("dspex.rpc.session.s", "c", echo)
		y.pass(time.Second)
		if got := received(); len(got) > 0 {
			t.Errorf("before the erasure: %q", got)
		}
		if r := y.call("dspex.rpc.sessions.erase", "d", `{"session":"s"}`); !r.OK {
			t.Fatalf("%+v", r)
		}
		y.pass(time.Second)
		want := "DROP " + string(frame.DropBody{Session: "s"}.AppendBody(nil))
		if got := received(); !slices.Equal(got, []string{want, want}) { // both hosts have the one pool
			t.Errorf("%q", got)
		}
		if err := y.nc.Publish("dspex.ctl.drop", []byte(`{"session":"`+strings.Repeat("x", 65)+`"}`)); err != nil {
			t.Fatal(err)
		}
		y.pass(time.Second)
		if got := received(); len(got) != 2 {
			t.Errorf("no session's id: %q", got)
		}
	})
}
