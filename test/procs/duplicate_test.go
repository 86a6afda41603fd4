package procs

import (
	"strings"
	"syscall"
	"testing"

	"github.com/dspex/dspex"
)

func TestAFrozenHostWhoseNameWasTakenOverEndsWhenItThaws(t *testing.T) {
	d := deploy(t)
	d.start("dispatcher", "d1")
	frozen := d.host("h1").awaitReady()
	c := d.client()
	if _, err := c.Execute(t.Context(), "s", "append", dspex.Args{"x": 1}); err != nil {
		t.Fatal(err)
	}
	frozen.signal(syscall.SIGSTOP)
	d.host("h1").awaitReady() // nobody answers for the name
	r, err := c.Execute(t.Context(), "s", "append", dspex.Args{"x": 2})
	if err != nil || r.SessionState != dspex.SessionRestored {
		t.Errorf("with the new one: state %s, %v", r.SessionState, err)
	}
	frozen.signal(syscall.SIGCONT)
	if err := frozen.awaitEnd(); err == nil || !strings.Contains(frozen.said(), "another host of the same name has started") {
		t.Errorf("the thawed one ended with %v:\n%s", err, frozen.said())
	}
	r, err = c.Execute(t.Context(), "s", "append", dspex.Args{"x": 3})
	if err != nil || string(r.Result) == "" || r.SessionState != dspex.SessionWarm {
		t.Errorf("after the thaw: state %s, %v", r.SessionState, err)
	}
}
